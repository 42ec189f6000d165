//! One document: a tree, and the faults that its parsing found.

use std::cell::RefCell;

use crate::fields::Fields;
use crate::item::Item;
use crate::parse::{self, Limits};
use crate::place::Place;
use crate::problems::{Problem, Problems};
use crate::render;
use crate::tree::{Key, Node, Scalar, Style, Value};

/// One parsed document. Its values come out through [`Document::read`] alone, so no fault is overlooked.
#[derive(Debug, Clone)]
pub struct Document {
    root: Node,
    faults: Problems,
}

impl Document {
    pub(crate) fn new(root: Node, faults: Problems) -> Self {
        Self { root, faults }
    }

    /// A document without any field, for a program that was given none; `source` says so in complaints.
    pub fn empty(source: &str) -> Self {
        Self::new(
            Node {
                place: Place::whole(source),
                value: Value::Map(Vec::new()),
            },
            Problems::new(),
        )
    }

    /// Reads all documents of a text (separated by `---`); empty ones are left out. Any bytes are safe to
    /// give.
    ///
    /// # Errors
    /// When the text is not UTF-8, not YAML, or exceeds `limits`: then nothing of it is used. Aliases,
    /// anchors, tags, merge keys and duplicate keys are reported when the document is read.
    pub fn parse(source: &str, bytes: &[u8], limits: Limits) -> Result<Vec<Self>, Problems> {
        let documents = parse::parse(source, bytes, limits)?;
        let is_empty = |document: &Self| {
            document.faults.is_empty()
                && matches!(&document.root.value, Value::Scalar(scalar)
                    if scalar.style == Style::Plain && scalar.text.is_empty())
        };
        Ok(documents
            .into_iter()
            .filter(|document| !is_empty(document))
            .collect())
    }

    /// Reads a text that must have exactly one document.
    ///
    /// # Errors
    /// As [`Document::parse`], and when there is no document or more than one.
    pub fn parse_one(source: &str, bytes: &[u8], limits: Limits) -> Result<Self, Problems> {
        let mut documents = Self::parse(source, bytes, limits)?;
        match (documents.pop(), documents.is_empty()) {
            (None, _) => Err(Problem::new(Place::at(source, 1, 1), "", "the document is empty").into()),
            (Some(only), true) => Ok(only),
            (Some(second), false) => {
                let message = "there is more than one document";
                Err(Problem::new(second.root.place, "", message).into())
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn faults_for_test(&self) -> &Problems {
        &self.faults
    }

    pub(crate) fn into_root(self) -> Node {
        self.root
    }

    /// The document as YAML that reads as the same again, without comments; what was refused is left out.
    pub fn render(&self) -> String {
        self.root.render()
    }

    /// Where the document begins.
    pub fn place(&self) -> &Place {
        &self.root.place
    }

    /// The word in a field of the document's uppermost map, to choose a reader by; `None` when there is no
    /// such text. The reader that is chosen reads and checks the field again.
    pub fn peek(&self, name: &str) -> Option<&str> {
        let Value::Map(fields) = &self.root.value else {
            return None;
        };
        fields
            .iter()
            .find(|(key, _)| key.name.text == name)
            .and_then(|(_, node)| match &node.value {
                Value::Scalar(scalar) => Some(scalar.text.as_str()),
                _ => None,
            })
    }

    /// Sets the value at `path` (names of fields, outermost first) to an untyped scalar; the maps on the way
    /// are made where they are missing. A list is written with commas.
    ///
    /// # Errors
    /// When something on the way is not a map.
    pub fn set(&mut self, path: &[&str], text: &str, place: &Place) -> Result<(), Problem> {
        let value = Value::Scalar(Scalar {
            text: text.to_owned(),
            style: Style::Untyped,
        });
        self.put(
            path,
            Node {
                place: place.clone(),
                value,
            },
        )
    }

    fn put(&mut self, path: &[&str], value: Node) -> Result<(), Problem> {
        let mut node = &mut self.root;
        for (depth, step) in path.iter().enumerate() {
            if let Value::Refused = node.value {
                return Ok(());
            }
            let Value::Map(fields) = &mut node.value else {
                // Without the value itself, which may be a secret.
                let message = format!(
                    "cannot be set, because `{}` is not a map",
                    path[..depth].join(".")
                );
                return Err(Problem::new(value.place, path.join("."), message));
            };
            let at = match fields.iter().position(|(key, _)| key.name.text == *step) {
                Some(at) => at,
                None => {
                    let name = Scalar {
                        text: (*step).to_owned(),
                        style: Style::Quoted,
                    };
                    let map = Node {
                        place: value.place.clone(),
                        value: Value::Map(Vec::new()),
                    };
                    fields.push((
                        Key {
                            place: value.place.clone(),
                            name,
                        },
                        map,
                    ));
                    fields.len() - 1
                }
            };
            node = &mut fields[at].1;
        }
        *node = value;
        Ok(())
    }

    /// Turns the document, which must be a map, into a checked value.
    ///
    /// # Errors
    /// All faults: those of the parsing, those that `read` reported, fields that `read` never asked for.
    pub fn read<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Problems> {
        self.read_effective(read).map(|(value, _)| value)
    }

    /// As [`Document::read`], and what was in force in the end: written values and defaults.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn read_effective<T>(
        &self,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Result<(T, Effective), Problems> {
        let notes = RefCell::new(Notes {
            problems: self.faults.clone(),
            ..Notes::default()
        });
        let value = Item::new(&self.root, String::new(), &notes).fields(read);
        let Notes {
            mut problems,
            defaults,
            secrets,
        } = notes.into_inner();
        match value {
            Some(value) if problems.is_empty() => {
                let mut effective = self.clone();
                for (path, node) in defaults {
                    let path: Vec<&str> = path.split('.').collect();
                    // A default within a list has no path of names: it is not shown.
                    let _: Result<(), Problem> = effective.put(&path, node);
                }
                Ok((
                    value,
                    Effective {
                        root: effective.root,
                        secrets,
                    },
                ))
            }
            Some(_) => Err(problems),
            None => {
                if problems.is_empty() {
                    // A reader that gives nothing without saying why still means no.
                    problems.add(Problem::new(
                        self.root.place.clone(),
                        "",
                        "the document cannot be used",
                    ));
                }
                Err(problems)
            }
        }
    }
}

/// What a reading leaves behind besides its value.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) problems: Problems,
    /// Defaults that were used, by path.
    pub(crate) defaults: Vec<(String, Node)>,
    /// Paths whose values are not shown.
    pub(crate) secrets: Vec<String>,
}

/// What is in force: the values that were written and the defaults of those that were not.
#[derive(Debug, Clone)]
pub struct Effective {
    root: Node,
    secrets: Vec<String>,
}

impl Effective {
    /// The values as YAML, each with its origin as a comment; secrets as `[redacted]`.
    pub fn render(&self) -> String {
        render::with_origins(&self.root, &self.secrets)
    }
}

impl Node {
    /// The node as YAML that reads as the same values again.
    pub fn render(&self) -> String {
        render::plain(self)
    }
}
