//! Reads the documents of a whole mesh from texts: rules, workloads, services.

use std::collections::HashMap;

use ferrule_document::{Document, Limits, Place, Problem, Problems};
use ferrule_identity::TrustDomain;

use crate::document::PolicyDocument;
use crate::places::PlaceDocument;

/// Everything that some texts say together.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    /// The rules, in the order of reading.
    pub policies: Vec<WrittenPolicy>,
    /// Who lives where, in the order of reading.
    pub places: Vec<PlaceDocument>,
}

/// A rule document with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPolicy {
    /// What it says.
    pub policy: PolicyDocument,
    /// The document as YAML that reads as the same again; comments are left out.
    pub text: String,
}

impl Stack {
    /// Reads all documents of all `texts`, each with the name of its source. Documents of the kind `Mesh` are left to
    /// whoever runs the mesh that they describe.
    ///
    /// # Errors
    /// All faults of all documents, with line and column; then nothing of the texts is to be used.
    pub fn read<'t>(
        texts: impl IntoIterator<Item = (&'t str, &'t [u8])>,
        trust_domain: &TrustDomain,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut stack = Self::default();
        let mut named = HashMap::new();
        for (source, bytes) in texts {
            match Document::parse(source, bytes, Limits::default()) {
                Ok(documents) => {
                    for document in documents {
                        match stack.add(&document, trust_domain) {
                            Ok(name) => problems.append(twice(&mut named, name, document.place())),
                            Err(faults) => problems.append(faults),
                        }
                    }
                }
                Err(faults) => problems.append(faults),
            }
        }
        problems.into_result(stack)
    }

    /// Adds a document; says what it is called where no other may be called the same.
    fn add(&mut self, document: &Document, trust_domain: &TrustDomain) -> Result<Option<String>, Problems> {
        if document.peek("kind") == Some("Mesh") {
            return Ok(None);
        }
        if PlaceDocument::is_place(document) {
            let place = PlaceDocument::read(document, trust_domain)?;
            let name = match &place {
                PlaceDocument::Workload(workload) => {
                    format!("Workload {}/{}", workload.namespace, workload.name)
                }
                PlaceDocument::Service(service) => {
                    format!("Service {}/{}", service.name.namespace, service.name.name)
                }
            };
            self.places.push(place);
            Ok(Some(name))
        } else {
            self.policies.push(WrittenPolicy {
                policy: PolicyDocument::read(document)?,
                text: document.render(),
            });
            // Compiling them finds those that are called the same.
            Ok(None)
        }
    }

    /// The rules without their texts.
    pub fn policies(&self) -> Vec<PolicyDocument> {
        self.policies
            .iter()
            .map(|written| written.policy.clone())
            .collect()
    }
}

/// The fault of a document that is called as one before it.
fn twice(named: &mut HashMap<String, Place>, name: Option<String>, place: &Place) -> Problems {
    let mut problems = Problems::new();
    if let Some(name) = name
        && let Some(first) = named.insert(name.clone(), place.clone())
    {
        let message = format!("{name} is also written at {first}");
        problems.add(Problem::new(place.clone(), "metadata.name", message));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
kind: Mesh
anything: { goes: here }
---
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api } # a comment
spec: { workloads: all, action: allow, rules: [{ from: [{ namespaces: [shop] }], ports: [8080] }] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-1, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.0.0.1] }
";

    fn read(texts: &[(&str, &str)]) -> Result<Stack, Problems> {
        let domain = TrustDomain::parse("shop.local").unwrap();
        let texts = texts.iter().map(|(name, text)| (*name, text.as_bytes()));
        Stack::read(texts, &domain)
    }

    #[test]
    fn the_text_of_a_rule_reads_as_the_same_rule() {
        let stack = read(&[("mesh.yaml", TEXT)]).unwrap();
        assert_eq!((stack.policies.len(), stack.places.len()), (1, 1));
        let again = read(&[("again.yaml", &stack.policies[0].text)]).unwrap();
        let (PolicyDocument::Access(one), PolicyDocument::Access(other)) =
            (&stack.policies[0].policy, &again.policies[0].policy)
        else {
            panic!("both are AccessPolicies");
        };
        assert_eq!((&one.rules, &one.workloads), (&other.rules, &other.workloads));
        assert_eq!(again.policies[0].text, stack.policies[0].text);
    }

    #[test]
    fn the_faults_of_all_texts_are_told_with_their_places() {
        let one = TEXT.replace("action: allow", "acton: allow");
        let other = TEXT.replace("10.0.0.1", "10.0.0.256");
        let faults = read(&[("one.yaml", &one), ("other.yaml", &other)]).unwrap_err();
        let faults = faults.to_string();
        assert!(faults.contains("one.yaml:8:"), "{faults}");
        assert!(faults.contains("other.yaml:13:"), "{faults}");
    }

    #[test]
    fn one_name_stands_for_one_workload() {
        let faults = read(&[("one.yaml", TEXT), ("other.yaml", TEXT)])
            .unwrap_err()
            .to_string();
        assert!(
            faults.contains("Workload shop/api-1 is also written at one.yaml:10:1"),
            "{faults}"
        );
    }
}
