//! The rules that an installation may begin with.

use std::str::FromStr;

use ferrule_document::Node;

use crate::written::{document, stream};

/// The rules that an installation may begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// No rule: nothing is allowed until somebody writes one.
    None,
    /// Workloads of the same namespace may reach one another.
    SameNamespace,
}

impl Preset {
    /// The documents for these namespaces as YAML; nothing for [`Preset::None`].
    pub fn documents<'n>(self, namespaces: impl IntoIterator<Item = &'n str>) -> String {
        let same_namespace = |namespace: &str| {
            let from = Node::map([("namespaces", Node::list([Node::text(namespace)]))]);
            let rule = Node::map([("from", Node::list([from]))]);
            let spec = Node::map([
                ("workloads", Node::text("all")),
                ("action", Node::text("allow")),
                ("rules", Node::list([rule])),
            ]);
            document("AccessPolicy", namespace, "same-namespace", spec)
        };
        match self {
            Self::None => String::new(),
            Self::SameNamespace => stream(&namespaces.into_iter().map(same_namespace).collect::<Vec<_>>()),
        }
    }
}

impl FromStr for Preset {
    type Err = PresetError;

    fn from_str(name: &str) -> Result<Self, PresetError> {
        match name {
            "none" => Ok(Self::None),
            "same-namespace" => Ok(Self::SameNamespace),
            _ => Err(PresetError {
                name: name.to_owned(),
            }),
        }
    }
}

/// A name that no preset has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no preset is called {name:?}; there are none, same-namespace")]
pub struct PresetError {
    /// The name.
    pub name: String,
}
