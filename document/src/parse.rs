//! Turns YAML text into a tree, within limits.

use std::collections::HashSet;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::document::Document;
use crate::place::Place;
use crate::problems::{Problem, Problems};
use crate::tree::{Key, Node, Scalar, ScalarKind, Shown, Style, Value};

/// How large a text and its tree may grow before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text.
    pub bytes: usize,
    /// Lists and maps within one another.
    pub depth: usize,
    /// Scalars, lists, maps and keys of all documents of a text together.
    pub nodes: usize,
}

impl Default for Limits {
    /// 1 MiB, 64 levels, 100,000 nodes.
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            depth: 64,
            nodes: 100_000,
        }
    }
}

/// Reads all documents of a text. What is refused without hindering the rest (an alias, a tag, a duplicate
/// key) is put on the document's record; everything else ends the reading.
pub(crate) fn parse(source: &str, bytes: &[u8], limits: Limits) -> Result<Vec<Document>, Problem> {
    let source: Arc<str> = source.into();
    if bytes.len() > limits.bytes {
        let message = format!(
            "the text is {} bytes long, more than {}",
            bytes.len(),
            limits.bytes
        );
        return Err(Problem::new(Place::whole(source), "", message));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            let last = valid.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            let column = 1 + String::from_utf8_lossy(last).chars().count();
            return Err(Problem::new(
                Place::at(source, line, column),
                "",
                "the text is not UTF-8",
            ));
        }
    };
    // The parser is asked event by event: its own loader calls itself once for each level.
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::new(source, limits);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.take(event, span)?,
            Err(error) => return Err(builder.syntax(&error)),
        }
    }
    Ok(builder.done)
}

/// Puts events together to trees, without calling itself.
struct Builder {
    source: Arc<str>,
    limits: Limits,
    nodes: usize,
    open: Vec<Open>,
    root: Option<Node>,
    faults: Problems,
    done: Vec<Document>,
}

/// A list or map that has not ended yet.
enum Open {
    List {
        place: Place,
        items: Vec<Node>,
    },
    Map {
        place: Place,
        fields: Vec<(Key, Node)>,
        names: HashSet<String>,
        key: Option<MapKey>,
    },
}

/// The key that the next value belongs to.
enum MapKey {
    Named(Key),
    /// Refused and on record; its value is dropped.
    Refused,
}

impl Builder {
    fn new(source: Arc<str>, limits: Limits) -> Self {
        Self {
            source,
            limits,
            nodes: 0,
            open: Vec::new(),
            root: None,
            faults: Problems::new(),
            done: Vec::new(),
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let place = self.place(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => Ok(()),
            Event::DocumentEnd => {
                if let Some(root) = self.root.take() {
                    self.done
                        .push(Document::new(root, std::mem::take(&mut self.faults)));
                }
                Ok(())
            }
            Event::Alias(_) => {
                self.fault(
                    &place,
                    "an alias (`*name`) is not allowed: write the value itself",
                );
                self.count(&place)?;
                self.put(Node {
                    place,
                    value: Value::Refused,
                });
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(&place, anchor, tag.as_deref());
                self.count(&place)?;
                let style = if style == ScalarStyle::Plain {
                    Style::Plain
                } else {
                    Style::Quoted
                };
                let value = Value::Scalar(Scalar {
                    text: text.into_owned(),
                    style,
                });
                self.put(Node { place, value });
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(&place, anchor, tag.as_deref());
                self.open(
                    place.clone(),
                    Open::List {
                        place,
                        items: Vec::new(),
                    },
                )
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(&place, anchor, tag.as_deref());
                let (fields, names) = (Vec::new(), HashSet::new());
                self.open(
                    place.clone(),
                    Open::Map {
                        place,
                        fields,
                        names,
                        key: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop() {
                    Some(Open::List { place, items }) => Node {
                        place,
                        value: Value::List(items),
                    },
                    Some(Open::Map { place, fields, .. }) => Node {
                        place,
                        value: Value::Map(fields),
                    },
                    None => return Ok(()),
                };
                self.put(node);
                Ok(())
            }
        }
    }

    fn open(&mut self, place: Place, open: Open) -> Result<(), Problem> {
        self.count(&place)?;
        if self.open.len() >= self.limits.depth {
            let message = format!("lists and maps lie more than {} levels deep", self.limits.depth);
            return Err(Problem::new(place, self.path(), message));
        }
        self.open.push(open);
        Ok(())
    }

    fn count(&mut self, place: &Place) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            let message = format!("the text has more than {} values", self.limits.nodes);
            return Err(Problem::new(place.clone(), "", message));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, node: Node) {
        let path = self.path();
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map {
                fields, names, key, ..
            }) => match key.take() {
                None => {
                    *key = Some(match checked_key(node, names) {
                        Ok(name) => MapKey::Named(name),
                        Err((place, message)) => {
                            self.faults.add(Problem::new(place, path, message));
                            MapKey::Refused
                        }
                    });
                }
                Some(MapKey::Named(name)) => fields.push((name, node)),
                Some(MapKey::Refused) => {}
            },
        }
    }

    fn refuse_extras(&mut self, place: &Place, anchor: usize, tag: Option<&Tag>) {
        if anchor > 0 {
            self.fault(
                place,
                "an anchor (`&name`) is not allowed: write the value where it is wanted",
            );
        }
        if let Some(tag) = tag {
            let tag = tag.to_string();
            self.fault(place, &format!("the tag {} is not allowed", Shown(&tag)));
        }
    }

    fn fault(&mut self, place: &Place, message: &str) {
        self.faults.add(Problem::new(place.clone(), self.path(), message));
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let message = format!("not YAML: {}", error.info());
        Problem::new(self.place(error.marker()), self.path(), message)
    }

    fn place(&self, marker: &Marker) -> Place {
        Place::at(Arc::clone(&self.source), marker.line().max(1), marker.col() + 1)
    }

    /// The field that is being read, such as `spec.rules[0]`.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::List { items, .. } => path.push_str(&format!("[{}]", items.len())),
                Open::Map {
                    key: Some(MapKey::Named(key)),
                    ..
                } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.name.text);
                }
                Open::Map { .. } => {}
            }
        }
        path
    }
}

/// A node as the name of a field that has not been named before.
fn checked_key(node: Node, names: &mut HashSet<String>) -> Result<Key, (Place, String)> {
    let Node { place, value } = node;
    let name = match value {
        Value::Scalar(name) => name,
        // Already on record as an alias.
        Value::Refused => return Err((place, "the name of a field cannot be an alias".to_owned())),
        Value::List(_) | Value::Map(_) => {
            return Err((place, "the name of a field must be a single word".to_owned()));
        }
    };
    if name.kind() == ScalarKind::Null {
        return Err((place, "a field has no name".to_owned()));
    }
    if name.text == "<<" && name.style == Style::Plain {
        return Err((
            place,
            "a merge key (`<<`) is not allowed: write the fields themselves".to_owned(),
        ));
    }
    if !names.insert(name.text.clone()) {
        return Err((place, format!("the field {} is written twice", Shown(&name.text))));
    }
    Ok(Key { place, name })
}

#[cfg(test)]
mod tests;
