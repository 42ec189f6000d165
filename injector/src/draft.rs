//! Edits a document and keeps the edits as a JSON Patch (RFC 6902).

use serde_json::{Map, Value, json};

/// A working copy, and what was done to it. An edit that changes nothing is none.
#[derive(Debug)]
pub(crate) struct Draft {
    document: Value,
    operations: Vec<Value>,
}

impl Draft {
    /// A copy of `document`, unchanged.
    pub(crate) fn of(document: &Value) -> Self {
        Self {
            document: document.clone(),
            operations: Vec::new(),
        }
    }

    /// What was done, as a JSON Patch.
    pub(crate) fn into_operations(self) -> Vec<Value> {
        self.operations
    }

    /// Puts `value` into the field `name` of the map at `pointer`, which is made where it is missing.
    pub(crate) fn set(&mut self, pointer: &str, name: &str, value: Value) {
        if !self.document.pointer(pointer).is_some_and(Value::is_object) {
            let (parent, last) = pointer.rsplit_once('/').unwrap_or(("", pointer));
            self.set(parent, &unescaped(last), json!({}));
        }
        let Some(map) = self.map(pointer) else { return };
        let verb = match map.get(name) {
            Some(there) if *there == value => return,
            Some(_) => "replace",
            None => "add",
        };
        map.insert(name.to_owned(), value.clone());
        let path = format!("{pointer}/{}", escaped(name));
        self.operations
            .push(json!({ "op": verb, "path": path, "value": value }));
    }

    /// Takes the field `name` away from the map at `pointer`.
    pub(crate) fn unset(&mut self, pointer: &str, name: &str) {
        if self.map(pointer).and_then(|map| map.shift_remove(name)).is_some() {
            let path = format!("{pointer}/{}", escaped(name));
            self.operations.push(json!({ "op": "remove", "path": path }));
        }
    }

    /// Sees to it that the item called `name` of the list at `pointer`/`field` is `value` and stands at `place`, or
    /// last. An item of that name that is another, or stands elsewhere, is taken away first.
    pub(crate) fn place(
        &mut self,
        pointer: &str,
        field: &str,
        name: &str,
        value: Value,
        place: Option<usize>,
    ) {
        let path = format!("{pointer}/{field}");
        let mut places = self.named(&path, name);
        let first = places.first().copied();
        if places.len() == 1
            && place.is_none_or(|wanted| first == Some(wanted))
            && first.and_then(|at| self.document.pointer(&format!("{path}/{at}"))) == Some(&value)
        {
            return;
        }
        while let Some(at) = places.pop() {
            self.remove_item(&path, at);
        }
        match self.document.pointer_mut(&path).and_then(Value::as_array_mut) {
            None => self.set(pointer, field, json!([value])),
            Some(list) => {
                let at = place.unwrap_or(list.len()).min(list.len());
                let end = if at == list.len() {
                    "-".to_owned()
                } else {
                    at.to_string()
                };
                list.insert(at, value.clone());
                self.operations
                    .push(json!({ "op": "add", "path": format!("{path}/{end}"), "value": value }));
            }
        }
    }

    /// Takes every item called `name` away from the list at `path`.
    pub(crate) fn remove_named(&mut self, path: &str, name: &str) {
        while let Some(at) = self.named(path, name).pop() {
            self.remove_item(path, at);
        }
    }

    fn remove_item(&mut self, path: &str, at: usize) {
        if let Some(list) = self.document.pointer_mut(path).and_then(Value::as_array_mut)
            && at < list.len()
        {
            list.remove(at);
            let path = format!("{path}/{at}");
            self.operations.push(json!({ "op": "remove", "path": path }));
        }
    }

    /// The places of the items called `name` in the list at `path`.
    fn named(&self, path: &str, name: &str) -> Vec<usize> {
        let list = self.document.pointer(path).and_then(Value::as_array);
        let items = list.into_iter().flatten().enumerate();
        items
            .filter(|(_, item)| item["name"] == name)
            .map(|(at, _)| at)
            .collect()
    }

    fn map(&mut self, pointer: &str) -> Option<&mut Map<String, Value>> {
        self.document.pointer_mut(pointer)?.as_object_mut()
    }
}

/// A field's name as a part of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_that_changes_nothing_is_none() {
        let mut draft = Draft::of(&json!({ "a": { "b": [ { "name": "x", "v": 1 } ] } }));
        draft.place("/a", "b", "x", json!({ "name": "x", "v": 1 }), None);
        draft.set("/a", "b", json!([{ "name": "x", "v": 1 }]));
        draft.unset("/a", "c");
        assert!(draft.into_operations().is_empty());
    }

    #[test]
    fn names_with_slashes_are_escaped() {
        let mut draft = Draft::of(&json!({}));
        draft.set("/metadata/annotations", "ferrule.dev/status", json!("x"));
        let last = draft.into_operations().pop().unwrap();
        assert_eq!(last["path"], "/metadata/annotations/ferrule.dev~1status");
    }
}
