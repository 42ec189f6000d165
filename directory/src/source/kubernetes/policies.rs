//! Reads rule documents that are stored in a cluster, each by itself.

use ferrule_document::Problems;
use ferrule_identity::TrustDomain;
use ferrule_policy::{Stack, WrittenPolicy};
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

/// Kind, namespace and name.
pub type RuleKey = (String, String, String);

/// A rule as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Which.
    pub key: RuleKey,
    /// What it says, or what is wrong with it.
    pub said: Result<WrittenPolicy, String>,
}

impl Stored {
    /// Reads `object` of that kind.
    pub fn read(kind: &str, object: &DynamicObject, trust_domain: &TrustDomain) -> Option<Self> {
        let (namespace, name) = (object.metadata.namespace.clone()?, object.metadata.name.clone()?);
        let key = (kind.to_owned(), namespace, name);
        let said = read(&key, &object.data, trust_domain).map_err(|problems| problems.to_string());
        Some(Self { key, said })
    }
}

/// What is left of an object when that is taken away which the API server adds.
fn read(key: &RuleKey, data: &Value, trust_domain: &TrustDomain) -> Result<WrittenPolicy, Problems> {
    let (kind, namespace, name) = key;
    let mut document = Map::from_iter([
        ("apiVersion".to_owned(), json!(ferrule_policy::API_VERSION)),
        ("kind".to_owned(), json!(kind)),
        (
            "metadata".to_owned(),
            json!({ "namespace": namespace, "name": name }),
        ),
    ]);
    let said = data.as_object().into_iter().flatten();
    let said =
        said.filter(|(field, _)| !["apiVersion", "kind", "metadata", "status"].contains(&field.as_str()));
    document.extend(said.map(|(field, value)| (field.clone(), value.clone())));
    let text = format!("{:#}", Value::Object(document));
    let source = format!("{kind} {namespace}/{name}");
    let stack = Stack::read([(source.as_str(), text.as_bytes())], trust_domain)?;
    let mut policies = stack.policies.into_iter();
    policies.next().ok_or_else(Problems::new)
}

/// The kinds of rules, each with the name that the API server has for many of it.
pub const KINDS: [(&str, &str); 3] = [
    ("AccessPolicy", "accesspolicies"),
    ("EgressPolicy", "egresspolicies"),
    ("MeshPolicy", "meshpolicies"),
];

/// Their group and version.
pub const GROUP: (&str, &str) = ("ferrule.dev", "v1alpha1");
