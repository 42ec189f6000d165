//! Refuses rule documents that `ferrule-policy` refuses, in the same words.

use std::borrow::Cow;

use ferrule_document::{Limits, Problems};
use ferrule_identity::TrustDomain;
use ferrule_policy::{Mesh, PolicyDocument, compile};
use serde_json::{Map, Value, json};

/// Judges a rule document that is to be stored in the cluster, as the API server has it.
///
/// # Errors
/// Everything that `ferrule policy check` would complain about, in the same words; the places are those of the
/// document written as indented JSON.
pub fn validate(object: &Value, namespace: &str, trust_domain: &TrustDomain) -> Result<(), Problems> {
    let source = source_name(object);
    let text = format!("{:#}", as_written(object, namespace));
    let documents = PolicyDocument::read_all(&source, text.as_bytes(), Limits::default())?;
    let mesh = Mesh {
        trust_domain: trust_domain.clone(),
        ranges: Vec::new(),
        built_in: Vec::new(),
    };
    compile(&documents, mesh).map(drop)
}

/// The document as its author wrote it: what the API server adds (uid, managed fields, status …) is left out. What
/// the author may have added stays, so that it is refused.
pub fn as_written(object: &Value, namespace: &str) -> Value {
    let mut written = object.clone();
    let Some(fields) = written.as_object_mut() else {
        return written;
    };
    fields.shift_remove("status");
    let metadata = fields.get("metadata").and_then(Value::as_object).cloned();
    let metadata = metadata.unwrap_or_default();
    let mut kept: Map<String, Value> = ["name", "namespace"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), metadata.get(name)?.clone())))
        .collect();
    if !namespace.is_empty() {
        kept.insert("namespace".to_owned(), json!(namespace));
    }
    fields.insert("metadata".to_owned(), Value::Object(kept));
    written
}

fn source_name(object: &Value) -> Cow<'static, str> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    if name.is_empty() {
        return Cow::Borrowed("document");
    }
    Cow::Owned(format!("{kind}/{name}").chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(spec: Value) -> Value {
        json!({
            "apiVersion": "ferrule.dev/v1alpha1", "kind": "AccessPolicy",
            "metadata": {
                "name": "api", "namespace": "shop", "uid": "1", "generation": 3, "managedFields": [{ "manager": "k" }],
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" },
            },
            "spec": spec,
        })
    }

    fn judge(object: &Value) -> Result<(), String> {
        let trust_domain = TrustDomain::parse("shop.local").unwrap();
        validate(object, "shop", &trust_domain).map_err(|problems| problems.to_string())
    }

    fn good() -> Value {
        json!({
            "workloads": { "labels": { "app": "api" } }, "action": "allow",
            "rules": [{ "from": [{ "identities": ["spiffe://shop.local/ns/shop/sa/web"] }], "ports": [8080] }],
        })
    }

    #[test]
    fn what_the_api_server_adds_is_no_fault() {
        assert_eq!(judge(&stored(good())), Ok(()));
    }

    #[test]
    fn a_fault_is_told_in_the_words_of_the_policy_room() {
        let mut spec = good();
        spec["rules"][0]["ports"] = json!([]);
        spec["acton"] = json!("allow");
        let refused = judge(&stored(spec.clone())).unwrap_err();
        let metadata = json!({ "name": "api", "namespace": "shop" });
        let alone = json!({
            "apiVersion": "ferrule.dev/v1alpha1", "kind": "AccessPolicy", "metadata": metadata, "spec": spec,
        });
        let text = format!("{alone:#}");
        let same =
            PolicyDocument::read_all("AccessPolicy/api", text.as_bytes(), Limits::default()).unwrap_err();
        assert_eq!(refused, same.to_string());
        assert!(refused.contains("acton"), "{refused}");
        assert!(refused.contains("spec.rules[0].ports"), "{refused}");
    }

    #[test]
    fn a_document_of_another_kind_or_without_a_spec_is_refused() {
        let mut other = stored(good());
        other["kind"] = json!("Deployment");
        assert!(judge(&other).is_err());
        let mut empty = stored(good());
        empty.as_object_mut().unwrap().remove("spec");
        assert!(judge(&empty).is_err());
        assert!(judge(&json!([])).is_err());
    }
}
