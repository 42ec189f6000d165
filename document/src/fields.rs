//! Reads the fields of a map, each at most once, none overlooked.

use std::cell::RefCell;

use crate::document::{Document, Notes};
use crate::item::Item;
use crate::nearest::hint;
use crate::parse::Limits;
use crate::place::Place;
use crate::problems::Problem;
use crate::tree::{Key, Node, Shown};

/// The fields of a map while they are read. When the reading ends, every field that nobody asked for is
/// reported as unknown.
///
/// A reader asks for all its fields first and uses `?` only on the last lines: what is `None` has been
/// reported, and the other fields are to be looked at all the same.
#[derive(Debug)]
pub struct Fields<'n> {
    place: &'n Place,
    fields: &'n [(Key, Node)],
    path: String,
    notes: &'n RefCell<Notes>,
    asked: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    pub(crate) fn new(
        place: &'n Place,
        fields: &'n [(Key, Node)],
        path: String,
        notes: &'n RefCell<Notes>,
    ) -> Self {
        Self {
            place,
            fields,
            path,
            notes,
            asked: Vec::new(),
        }
    }

    /// Reads a field that must be there. `None` means that the fault was reported.
    pub fn required<T>(&mut self, name: &'static str, read: impl FnOnce(Item<'_>) -> Option<T>) -> Option<T> {
        match self.find(name) {
            Some(item) => read(item),
            None => {
                self.fail(format!("the field `{name}` is missing"));
                None
            }
        }
    }

    /// Reads a field that may be left out: `Some(None)` when it is, `None` when a fault was reported.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Item<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.find(name) {
            Some(item) => read(item).map(Some),
            None => Some(None),
        }
    }

    /// Reads a field, or, where it is left out, `default`: YAML text that goes through the same reader. `None`
    /// means that the fault was reported.
    pub fn default<T>(
        &mut self,
        name: &'static str,
        default: &str,
        read: impl FnOnce(Item<'_>) -> Option<T>,
    ) -> Option<T> {
        if let Some(item) = self.find(name) {
            return read(item);
        }
        let path = self.path_of(name);
        match Document::parse_one(DEFAULT, default.as_bytes(), Limits::default()) {
            Ok(document) => {
                let node = document.into_root().placed(&Place::whole(DEFAULT));
                // Before those of the fields within it, so that they end up inside.
                self.notes
                    .borrow_mut()
                    .defaults
                    .push((path.clone(), node.clone()));
                read(Item::new(&node, path, self.notes))
            }
            Err(problems) => {
                self.notes.borrow_mut().problems.append(problems);
                None
            }
        }
    }

    /// Whether the field is written; does not count as having read it.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(key, _)| key.name.text == name)
    }

    /// Where the map begins.
    pub fn place(&self) -> &Place {
        self.place
    }

    /// Reports a fault of the map as a whole, such as two fields that exclude each other.
    pub fn fail(&self, message: impl Into<String>) {
        let problem = Problem::new(self.place.clone(), self.path.clone(), message);
        self.notes.borrow_mut().problems.add(problem);
    }

    /// Reports every field that was not asked for.
    pub(crate) fn finish(self) {
        for (key, _) in self.fields {
            let name = key.name.text.as_str();
            if self.asked.contains(&name) {
                continue;
            }
            let missing = self.asked.iter().copied().filter(|asked| !self.has(asked));
            let mut message = format!("unknown field {}", Shown(name));
            let hint = hint(name, missing);
            if hint.is_empty() && !self.asked.is_empty() {
                message.push_str(&format!("; known are {}", self.asked.join(", ")));
            }
            message.push_str(&hint);
            let problem = Problem::new(key.place.clone(), self.path_of(name), message);
            self.notes.borrow_mut().problems.add(problem);
        }
    }

    pub(crate) fn find(&mut self, name: &'static str) -> Option<Item<'n>> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        let (_, node) = self.fields.iter().find(|(key, _)| key.name.text == name)?;
        Some(Item::new(node, self.path_of(name), self.notes))
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

/// The source of values that nobody wrote.
pub(crate) const DEFAULT: &str = "default";
