//! Writes a tree as YAML.

use crate::tree::{Node, Scalar, ScalarKind, Style, Value};

/// The tree as YAML that reads as the same values again; what was refused is left out.
pub(crate) fn plain(node: &Node) -> String {
    let mut writer = Writer {
        out: String::new(),
        secrets: &[],
        origins: false,
    };
    writer.node(node, 0, "", false);
    writer.out
}

/// The tree as YAML with the origin of each value as a comment; the values at the paths `secrets` are hidden.
pub(crate) fn with_origins(node: &Node, secrets: &[String]) -> String {
    let mut writer = Writer {
        out: String::new(),
        secrets,
        origins: true,
    };
    writer.node(node, 0, "", false);
    writer.out
}

struct Writer<'s> {
    out: String,
    secrets: &'s [String],
    origins: bool,
}

impl Writer<'_> {
    /// Writes `node` at `depth`; `inline` when a `-` already stands on the line.
    fn node(&mut self, node: &Node, depth: usize, path: &str, inline: bool) {
        match &node.value {
            Value::Map(fields) if !fields.is_empty() => {
                for (at, (key, value)) in fields.iter().enumerate() {
                    self.indent(if at == 0 && inline { 0 } else { depth });
                    self.out.push_str(&written(&key.name));
                    self.out.push(':');
                    let path = match path {
                        "" => key.name.text.clone(),
                        _ => format!("{path}.{}", key.name.text),
                    };
                    self.value(value, depth + 1, &path);
                }
            }
            Value::List(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    self.indent(if at == 0 && inline { 0 } else { depth });
                    self.out.push_str("- ");
                    self.node(item, depth + 1, &format!("{path}[{at}]"), true);
                }
            }
            _ => {
                self.indent(if inline { 0 } else { depth });
                self.leaf(node, path);
            }
        }
    }

    /// Writes what follows a key and its colon; `depth` is one more than the key's.
    fn value(&mut self, node: &Node, depth: usize, path: &str) {
        let nested = match &node.value {
            Value::Map(fields) => !fields.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Scalar(_) | Value::Refused => false,
        };
        if nested {
            self.out.push('\n');
            // The dashes of a list stand below the name of its field.
            let depth = depth - usize::from(matches!(node.value, Value::List(_)));
            self.node(node, depth, path, false);
        } else {
            self.out.push(' ');
            self.leaf(node, path);
        }
    }

    fn leaf(&mut self, node: &Node, path: &str) {
        if self.secrets.iter().any(|secret| secret == path) {
            self.out.push_str("\"[redacted]\"");
        } else {
            match &node.value {
                Value::Map(_) => self.out.push_str("{}"),
                Value::List(_) => self.out.push_str("[]"),
                Value::Scalar(scalar) => self.out.push_str(&written(scalar)),
                Value::Refused => self.out.push('~'),
            }
        }
        if self.origins {
            self.out.push_str("  # ");
            self.out.extend(
                node.place
                    .to_string()
                    .chars()
                    .map(|c| if c.is_control() { '?' } else { c }),
            );
        }
        self.out.push('\n');
    }

    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n("  ", depth));
    }
}

/// A scalar as it can stand in YAML: without quotes where that means the same.
fn written(scalar: &Scalar) -> String {
    let text = scalar.text.as_str();
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-' | ':');
    let first = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.');
    let simple = text.starts_with(first) && text.chars().all(safe) && !text.ends_with(':');
    match scalar.style {
        Style::Plain if simple => text.to_owned(),
        Style::Plain if text.is_empty() => "~".to_owned(),
        Style::Plain if scalar.kind() != ScalarKind::Text => text.to_owned(),
        Style::Untyped if simple => text.to_owned(),
        Style::Quoted if simple && is_text(text) && !misread(text) => text.to_owned(),
        _ => quoted(text),
    }
}

fn is_text(text: &str) -> bool {
    Scalar {
        text: text.to_owned(),
        style: Style::Plain,
    }
    .kind()
        == ScalarKind::Text
}

/// Text by this reader, but a boolean or a number by readers of YAML 1.1.
fn misread(text: &str) -> bool {
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off"
    );
    word || text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'_' | b'.' | b'-'))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if u32::from(c) <= 0xff => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Document, Limits};

    fn any_node() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Node::text),
            "[a-z0-9:/.*-]{0,8}".prop_map(Node::text),
            any::<i64>().prop_map(Node::integer),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Node::list),
                proptest::collection::btree_map("[a-z~<*0-9: #-]{1,6}", inner, 0..4)
                    .prop_map(|map| Node::map(map.iter().map(|(name, node)| (name.as_str(), node.clone())))),
            ]
        })
    }

    fn same(made: &Node, read: &Node) -> bool {
        match (&made.value, &read.value) {
            (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text && a.kind() == b.kind(),
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|((ka, a), (kb, b))| ka.name.text == kb.name.text && same(a, b))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same_values(node in any_node()) {
            let text = node.render();
            let read = Document::parse_one("made.yaml", text.as_bytes(), Limits::default());
            let read = read.unwrap_or_else(|error| panic!("{error}\n{text}")).into_root();
            prop_assert!(same(&node, &read), "{}\n{:?}", text, read);
        }
    }
}
