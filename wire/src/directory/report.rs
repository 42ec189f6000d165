//! What a proxy tells of itself beside its certificate, which alone is proof.

use std::collections::BTreeMap;

use crate::proto::envoy::service::discovery::v3::Node;
use crate::proto::google::protobuf::value::Kind;
use crate::proto::google::protobuf::{Struct, Value};

/// What a proxy tells of itself. None of it gives it anything that its identity does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Its name among the proxies of its identity: `NAMESPACE/NAME` of its workload.
    pub name: String,
    /// The labels that it takes its workload to have; `None` where it knows none and leaves it to the directory which
    /// rules are about it.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its clock, Unix seconds.
    pub clock: Option<i64>,
}

impl Told {
    /// The message.
    pub fn to_node(&self) -> Node {
        let text = |text: &String| value(Kind::StringValue(text.clone()));
        let mut fields = BTreeMap::new();
        if let Some(labels) = &self.labels {
            let labels = labels.iter().map(|(name, label)| (name.clone(), text(label)));
            let labels = Kind::StructValue(Struct {
                fields: labels.collect(),
            });
            fields.insert(LABELS.to_owned(), value(labels));
        }
        if let Some(clock) = self.clock {
            // In text: numbers of this format are floating.
            fields.insert(CLOCK.to_owned(), value(Kind::StringValue(clock.to_string())));
        }
        Node {
            id: self.name.clone(),
            cluster: String::new(),
            metadata: Some(Struct { fields }),
        }
    }

    /// Reads the message; what is not understood was not told.
    pub fn from_node(node: &Node) -> Self {
        let field = |name: &str| node.metadata.as_ref()?.fields.get(name)?.kind.as_ref();
        let labels = match field(LABELS) {
            Some(Kind::StructValue(labels)) => {
                let labels = labels.fields.iter().take(MAX_LABELS);
                let labels = labels.filter_map(|(name, label)| match &label.kind {
                    Some(Kind::StringValue(label)) => Some((name.clone(), label.clone())),
                    _ => None,
                });
                Some(labels.collect())
            }
            _ => None,
        };
        let clock = match field(CLOCK) {
            Some(Kind::StringValue(clock)) => clock.parse().ok(),
            _ => None,
        };
        Self {
            name: node
                .id
                .chars()
                .filter(|c| !c.is_control())
                .take(MAX_NAME_CHARS)
                .collect(),
            labels,
            clock,
        }
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

const LABELS: &str = "labels";
const CLOCK: &str = "clock";

const MAX_LABELS: usize = 256;
const MAX_NAME_CHARS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let told = Told {
            name: "shop/web-1".to_owned(),
            labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
            clock: Some(-7),
        };
        assert_eq!(Told::from_node(&told.to_node()), told);
        let told = Told { labels: None, ..told };
        assert_eq!(Told::from_node(&told.to_node()), told);
    }

    #[test]
    fn what_is_not_understood_was_not_told() {
        let odd = Value {
            kind: Some(Kind::BoolValue(true)),
        };
        let fields = BTreeMap::from([(LABELS.to_owned(), odd.clone()), (CLOCK.to_owned(), odd)]);
        let node = Node {
            id: "a\nb".to_owned(),
            metadata: Some(Struct { fields }),
            ..Node::default()
        };
        let told = Told::from_node(&node);
        assert_eq!((told.name.as_str(), told.labels, told.clock), ("ab", None, None));
    }
}
