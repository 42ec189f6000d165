//! The tree of a document: scalars, lists and maps, each with its place.

use std::fmt;

use crate::place::Place;

/// A value with the place where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where the value begins.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// What a node can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A single value.
    Scalar(Scalar),
    /// Values in order.
    List(Vec<Node>),
    /// Named values in the order in which they were written, each name once.
    Map(Vec<(Key, Node)>),
    /// Something that was refused when the document was parsed; the fault is already on record.
    Refused,
}

/// The name of a field, with the place where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where the name was written.
    pub place: Place,
    /// The name itself.
    pub name: Scalar,
}

/// A single value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The characters, without quotes and escapes.
    pub text: String,
    /// How they were written.
    pub style: Style,
}

/// How a scalar was written, which decides whether it can be anything but text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: the type follows from the characters (YAML 1.2.2 §10.3.2).
    Plain,
    /// In quotes or as a block: always text.
    Quoted,
    /// From a source that has no types, such as the environment: whatever the reader wants it to be.
    Untyped,
}

/// The type of a scalar by YAML's core schema (YAML 1.2.2 §10.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`, also with capitals.
    Boolean,
    /// `80`, `-1`, `0x50`, `0o120`.
    Integer,
    /// `1.5`, `1e3`, `.inf`, `.nan`.
    Float,
    /// Everything else, `yes`, `no`, `on` and `off` included.
    Text,
}

impl Scalar {
    /// The type that the core schema gives the scalar; an untyped one is text.
    pub fn kind(&self) -> ScalarKind {
        match self.style {
            Style::Quoted | Style::Untyped => ScalarKind::Text,
            Style::Plain => plain_kind(&self.text),
        }
    }
}

impl Node {
    /// Text that is written in quotes where it would otherwise be something else.
    pub fn text(text: impl Into<String>) -> Self {
        Self::made(Value::Scalar(Scalar {
            text: text.into(),
            style: Style::Quoted,
        }))
    }

    /// An integer.
    pub fn integer(number: impl Into<i128>) -> Self {
        let number: i128 = number.into();
        Self::made(Value::Scalar(Scalar {
            text: number.to_string(),
            style: Style::Plain,
        }))
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::made(Value::List(items.into_iter().collect()))
    }

    /// A map; the caller names no key twice.
    pub fn map<'k>(fields: impl IntoIterator<Item = (&'k str, Self)>) -> Self {
        let place = Place::whole("made here");
        let fields = fields.into_iter().map(|(name, node)| {
            let name = Scalar {
                text: name.to_owned(),
                style: Style::Quoted,
            };
            (
                Key {
                    place: place.clone(),
                    name,
                },
                node,
            )
        });
        Self::made(Value::Map(fields.collect()))
    }

    /// The same values, all of them from `place`.
    pub(crate) fn placed(self, place: &Place) -> Self {
        let value = match self.value {
            Value::List(items) => Value::List(items.into_iter().map(|item| item.placed(place)).collect()),
            Value::Map(fields) => Value::Map(
                fields
                    .into_iter()
                    .map(|(key, node)| {
                        (
                            Key {
                                place: place.clone(),
                                ..key
                            },
                            node.placed(place),
                        )
                    })
                    .collect(),
            ),
            value => value,
        };
        Self {
            place: place.clone(),
            value,
        }
    }

    fn made(value: Value) -> Self {
        Self {
            place: Place::whole("made here"),
            value,
        }
    }

    /// What the node is, for a complaint about it: ``the text `yes` ``, `a list`, `nothing`.
    pub(crate) fn described(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Refused => "something refused".to_owned(),
            Value::Scalar(scalar) => {
                let text = Shown(&scalar.text);
                match scalar.kind() {
                    ScalarKind::Null => "nothing".to_owned(),
                    ScalarKind::Boolean => format!("the boolean {text}"),
                    ScalarKind::Integer => format!("the integer {text}"),
                    ScalarKind::Float => format!("the number {text}"),
                    ScalarKind::Text => format!("the text {text}"),
                }
            }
        }
    }
}

/// Foreign text in a complaint: in backquotes, at most 80 characters, control characters escaped.
pub(crate) struct Shown<'t>(pub(crate) &'t str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for (at, c) in self.0.chars().enumerate() {
            if at == 80 {
                f.write_str("…")?;
                break;
            }
            if c.is_control() {
                write!(f, "{}", c.escape_default())?
            } else {
                write!(f, "{c}")?
            }
        }
        f.write_str("`")
    }
}

fn plain_kind(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Boolean,
        ".nan" | ".NaN" | ".NAN" => ScalarKind::Float,
        _ if is_integer(text) => ScalarKind::Integer,
        _ if is_float(text) => ScalarKind::Float,
        _ => ScalarKind::Text,
    }
}

fn is_integer(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |byte| matches!(byte, b'0'..=b'7'));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, |byte| byte.is_ascii_hexdigit());
    }
    all(unsigned(text), |byte| byte.is_ascii_digit())
}

fn is_float(text: &str) -> bool {
    let text = unsigned(text);
    if matches!(text, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (text, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let number_fits = match number.split_once('.') {
        Some(("", after)) => !after.is_empty() && digits(after),
        Some((before, after)) => digits(before) && digits(after),
        None => !number.is_empty() && digits(number),
    };
    number_fits && exponent.is_none_or(|exponent| all(unsigned(exponent), |byte| byte.is_ascii_digit()))
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn all(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_the_types_of_the_core_schema() {
        for (kind, texts) in [
            (ScalarKind::Null, &["", "~", "null", "NULL"][..]),
            (ScalarKind::Boolean, &["true", "False", "TRUE"]),
            (ScalarKind::Integer, &["0", "-19", "+12", "0o7", "0x3A", "0080"]),
            (
                ScalarKind::Float,
                &["0.", "-0.0", ".5", "+12e03", "-2E+05", ".inf", "-.INF", ".nan"],
            ),
            (
                ScalarKind::Text,
                &[
                    "yes", "no", "on", "off", "y", "nULL", "tRUE", "1s", "1.2.3", "0x", "-", ".", "e5", "1e",
                    "0b1", "1_000", "12:30",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(plain_kind(text), kind, "{text:?}");
            }
        }
    }
}
