//! Reads one value as what it should be, or reports why it is not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::document::Notes;
use crate::fields::Fields;
use crate::nearest::hint;
use crate::place::Place;
use crate::problems::Problem;
use crate::tree::{Node, Scalar, ScalarKind, Shown, Style, Value};
use crate::units::{parse_duration, parse_size};

/// A value while it is read. Each reader gives `None` after it has reported the fault.
#[derive(Debug)]
pub struct Item<'n> {
    node: &'n Node,
    path: String,
    notes: &'n RefCell<Notes>,
}

impl<'n> Item<'n> {
    pub(crate) fn new(node: &'n Node, path: String, notes: &'n RefCell<Notes>) -> Self {
        Self { node, path, notes }
    }

    /// Where the value begins.
    pub fn place(&self) -> &Place {
        &self.node.place
    }

    /// The field, such as `spec.rules[0].ports[1]`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the value is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether the value is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// Reports a fault of this value; always `None`, to return it.
    pub fn fail<T>(&self, message: impl Into<String>) -> Option<T> {
        // What was refused when it was parsed has been reported there.
        if self.node.value != Value::Refused {
            let problem = Problem::new(self.node.place.clone(), self.path.clone(), message);
            self.notes.borrow_mut().problems.add(problem);
        }
        None
    }

    /// One line of text: not empty, without control characters. A number, `true` or `null` must be quoted to
    /// be text.
    pub fn text(&self) -> Option<String> {
        let text = self.block()?;
        if text.is_empty() {
            return self.fail("the text is empty");
        }
        match text.chars().find(|c| c.is_control()) {
            None => Some(text),
            Some(c) => self.fail(format!("the text has the control character {c:?}")),
        }
    }

    /// Any text: several lines, or none at all.
    pub fn block(&self) -> Option<String> {
        let scalar = self.scalar("text")?;
        match scalar.kind() {
            ScalarKind::Text => Some(scalar.text.clone()),
            _ => self.fail(format!(
                "expected text, found {}; to mean it as text, put it in quotes",
                self.node.described()
            )),
        }
    }

    /// As [`Item::text`], but shown neither in complaints nor by
    /// [`Effective::render`](crate::Effective::render).
    pub fn secret(&self) -> Option<String> {
        self.notes.borrow_mut().secrets.push(self.path.clone());
        match &self.node.value {
            Value::Scalar(scalar) if scalar.kind() == ScalarKind::Text => self.text(),
            _ => self.fail("expected text; a number or a word with a meaning of its own goes in quotes"),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        let scalar = self.scalar("true or false")?;
        match (scalar.style, scalar.text.as_str()) {
            (Style::Plain | Style::Untyped, "true" | "True" | "TRUE") => Some(true),
            (Style::Plain | Style::Untyped, "false" | "False" | "FALSE") => Some(false),
            _ => {
                let hint = match scalar.text.to_ascii_lowercase().as_str() {
                    "true" | "false" => "; leave out the quotes",
                    "yes" | "on" | "y" => "; write true",
                    "no" | "off" | "n" => "; write false",
                    _ => "",
                };
                self.fail(format!(
                    "expected true or false, found {}{hint}",
                    self.node.described()
                ))
            }
        }
    }

    /// A whole number within `range`, in decimal.
    pub fn integer<N>(&self, range: RangeInclusive<N>) -> Option<N>
    where
        N: Copy + fmt::Display + PartialOrd + FromStr,
    {
        let wanted = format!("an integer from {} to {}", range.start(), range.end());
        let scalar = self.scalar(&wanted)?;
        let digits = scalar.text.strip_prefix('-').unwrap_or(&scalar.text);
        let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if scalar.style == Style::Quoted || !decimal {
            let hint = match (scalar.style, decimal, scalar.kind()) {
                (Style::Quoted, true, _) => "; leave out the quotes",
                (_, false, ScalarKind::Integer) => "; write it in decimal, without a plus sign",
                _ => "",
            };
            return self.fail(format!(
                "expected {wanted}, found {}{hint}",
                self.node.described()
            ));
        }
        if digits.len() > 1 && digits.starts_with('0') {
            // Eighty by one version of YAML, sixty-four by another.
            return self.fail(format!(
                "{} begins with a zero; leave it out",
                Shown(&scalar.text)
            ));
        }
        match scalar.text.parse::<N>() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.fail(format!("expected {wanted}, found {}", Shown(&scalar.text))),
        }
    }

    /// A port: an integer from 1 to 65535.
    pub fn port(&self) -> Option<u16> {
        self.integer(1..=u16::MAX)
    }

    /// A duration with its unit, such as `250ms`, `30s`, `5m`, `12h`, `7d`.
    pub fn duration(&self) -> Option<Duration> {
        self.united("a duration", "30s", parse_duration)
    }

    /// A duration within `range`.
    pub fn duration_in(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.duration()?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let print = crate::units::print_duration;
        self.fail(format!(
            "expected a duration from {} to {}, found {}",
            print(*range.start()),
            print(*range.end()),
            print(duration)
        ))
    }

    /// A size in bytes with its unit, such as `512B`, `64KiB`, `1MiB`.
    pub fn size(&self) -> Option<u64> {
        self.united("a size", "64KiB", parse_size)
    }

    /// A size in bytes within `range`.
    pub fn size_in(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let size = self.size()?;
        if range.contains(&size) {
            return Some(size);
        }
        let print = crate::units::print_size;
        self.fail(format!(
            "expected a size from {} to {}, found {}",
            print(*range.start()),
            print(*range.end()),
            print(size)
        ))
    }

    fn united<T, E: fmt::Display>(
        &self,
        wanted: &str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let scalar = self.scalar(wanted)?;
        if !scalar.text.is_empty() && scalar.text.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.fail(format!(
                "{} has no unit; {wanted} is written with one, such as `{example}`",
                Shown(&scalar.text)
            ));
        }
        match parse(&scalar.text) {
            Ok(value) => Some(value),
            Err(error) => self.fail(format!("{error}; found {}", self.node.described())),
        }
    }

    /// A text that is a `T`; the fault is `T`'s own words.
    pub fn parsed<T>(&self) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.checked(str::parse)
    }

    /// A text that `check` turns into a `T`; the fault is `check`'s words.
    pub fn checked<T, E: fmt::Display>(&self, check: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text()?;
        match check(&text) {
            Ok(value) => Some(value),
            Err(error) => self.fail(format!("{}: {error}", Shown(&text))),
        }
    }

    /// One of a few words, each with what it means.
    pub fn one_of<T: Clone>(&self, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let wanted = match words {
            [(only, _)] => format!("`{only}`"),
            _ => format!("one of {}", names().collect::<Vec<_>>().join(", ")),
        };
        let scalar = self.scalar(&wanted)?;
        match words.iter().find(|(name, _)| *name == scalar.text) {
            Some((_, meaning)) => Some(meaning.clone()),
            None => self.fail(format!(
                "expected {wanted}, found {}{}",
                self.node.described(),
                hint(&scalar.text, names())
            )),
        }
    }

    /// A list, possibly empty; the faults of all its items are reported. From the environment, items are
    /// separated by commas.
    pub fn list<T>(&self, mut read: impl FnMut(Item<'_>) -> Option<T>) -> Option<Vec<T>> {
        let split;
        let items = match &self.node.value {
            Value::List(items) => items,
            Value::Scalar(scalar) if scalar.style == Style::Untyped => {
                split = split_at_commas(scalar, &self.node.place);
                &split
            }
            _ => return self.mismatch("a list"),
        };
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(at, node)| read(Item::new(node, format!("{}[{at}]", self.path), self.notes)))
            .collect();
        read.into_iter().collect()
    }

    /// A list with at least one item.
    pub fn non_empty_list<T>(&self, read: impl FnMut(Item<'_>) -> Option<T>) -> Option<Vec<T>> {
        let items = self.list(read)?;
        if items.is_empty() {
            return self.fail("the list is empty; name at least one item, or leave the field out");
        }
        Some(items)
    }

    /// A map of names to texts, possibly empty.
    pub fn text_map(&self) -> Option<BTreeMap<String, String>> {
        self.map(|item| item.text())
    }

    /// A map of names, each a text, to values that `read` reads; possibly empty.
    pub fn map<T>(&self, mut read: impl FnMut(Item<'_>) -> Option<T>) -> Option<BTreeMap<String, T>> {
        let Value::Map(fields) = &self.node.value else {
            return self.mismatch("a map");
        };
        let read: Vec<Option<(String, T)>> = fields
            .iter()
            .map(|(key, node)| {
                let path = format!("{}.{}", self.path, key.name.text);
                let name = Node {
                    place: key.place.clone(),
                    value: Value::Scalar(key.name.clone()),
                };
                let name = Item::new(&name, path.clone(), self.notes).text();
                let value = read(Item::new(node, path, self.notes));
                Some((name?, value?))
            })
            .collect();
        read.into_iter().collect()
    }

    /// A map with at least one field, of names to texts.
    pub fn non_empty_text_map(&self) -> Option<BTreeMap<String, String>> {
        let map = self.text_map()?;
        if map.is_empty() {
            return self.fail("the map is empty; name at least one field");
        }
        Some(map)
    }

    /// A map whose fields `read` asks for one by one; any other field is reported.
    pub fn fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Option<T> {
        let Value::Map(fields) = &self.node.value else {
            return self.mismatch("a map");
        };
        let mut fields = Fields::new(&self.node.place, fields, self.path.clone(), self.notes);
        let value = read(&mut fields);
        fields.finish();
        value
    }

    /// A map with exactly one field, whose name is one of `names`.
    pub fn one_field<T>(
        &self,
        names: &[&'static str],
        read: impl FnOnce(&'static str, Item<'_>) -> Option<T>,
    ) -> Option<T> {
        let written = match &self.node.value {
            Value::Map(fields) => fields.len(),
            _ => return self.mismatch("a map"),
        };
        self.fields(|fields| {
            let chosen: Vec<_> = names
                .iter()
                .filter_map(|name| Some((*name, fields.find(name)?)))
                .collect();
            let mut chosen = chosen.into_iter();
            match (chosen.next(), written) {
                (Some((name, item)), 1) => read(name, item),
                // A single field that is none of these is reported as unknown.
                (None, 1) => None,
                _ => self.fail(format!("expected exactly one of the fields {}", names.join(", "))),
            }
        })
    }

    fn scalar(&self, wanted: &str) -> Option<&'n Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.kind() == ScalarKind::Null => self.mismatch(wanted),
            Value::Scalar(scalar) => Some(scalar),
            _ => self.mismatch(wanted),
        }
    }

    fn mismatch<T>(&self, wanted: &str) -> Option<T> {
        self.fail(format!("expected {wanted}, found {}", self.node.described()))
    }
}

fn split_at_commas(scalar: &Scalar, place: &Place) -> Vec<Node> {
    if scalar.text.trim().is_empty() {
        return Vec::new();
    }
    let item = |text: &str| Node {
        place: place.clone(),
        value: Value::Scalar(Scalar {
            text: text.trim().to_owned(),
            style: Style::Untyped,
        }),
    };
    scalar.text.split(',').map(item).collect()
}

#[cfg(test)]
mod tests;
