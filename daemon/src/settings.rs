//! Reads a program's settings: a file, then overrides from the environment.
//!
//! `FERRULE_CA__DRAIN__DEADLINE=10s` sets the field `deadline` of the field `drain` for the program
//! `ferrule-ca`: two underscores go one level down, one underscore belongs to the name. A list is written
//! with commas. A variable with the program's prefix that names no field is a fault, like an unknown field of
//! the file. Names with a single underscore after the program are left alone: Kubernetes makes such
//! variables by itself (`FERRULE_CA_PORT`, `FERRULE_CA_SERVICE_HOST`) for a service of that name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ferrule_document::{Document, Effective, Fields, Limits, Place, Problem, Problems};

/// The exit code of a program whose settings cannot be used, and of bad usage (EX_USAGE of sysexits.h).
pub const EXIT_BAD_SETTINGS: u8 = 64;

/// Where a program's settings come from.
#[derive(Debug, Clone)]
pub struct Settings {
    prefix: String,
    named: Vec<(&'static str, &'static [&'static str])>,
    limits: Limits,
}

/// Settings that were read without a fault.
#[derive(Debug, Clone)]
pub struct Loaded<C> {
    /// The checked settings.
    pub config: C,
    /// What is in force, for `--check` to print: [`Effective::render`] shows each value with its origin, and
    /// hides those that were read as secrets.
    pub effective: Effective,
}

/// Where a program's settings are written down.
#[derive(Debug, Clone, Copy)]
pub enum Written<'w> {
    /// Nowhere: all is in the environment, or at its default.
    Nowhere,
    /// In a file.
    File(&'w Path),
    /// Here, for who starts a program and has no file to give it.
    Text(&'w str),
}

impl<'w> From<Option<&'w Path>> for Written<'w> {
    fn from(file: Option<&'w Path>) -> Self {
        file.map_or(Self::Nowhere, Self::File)
    }
}

impl Settings {
    /// The settings of `program`, such as `ferrule-ca`, whose variables begin with `FERRULE_CA__`.
    pub fn of(program: &str) -> Self {
        let prefix = format!("{}__", program.replace('-', "_").to_ascii_uppercase());
        Self {
            prefix,
            named: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Also takes the value at `path` from `variable`, where it is set: for what Kubernetes alone knows, such
    /// as the pod's name. The file yields to it, the prefixed variables do not.
    #[must_use]
    pub fn named(mut self, variable: &'static str, path: &'static [&'static str]) -> Self {
        self.named.push((variable, path));
        self
    }

    /// Reads what is `written` (or nothing), lays the variables over it, and hands the fields to `read`. A program gives
    /// [`environment`] for the variables, a test whatever it likes.
    ///
    /// # Errors
    /// All faults of the file and of the variables together. The program prints them and ends with
    /// [`EXIT_BAD_SETTINGS`].
    pub fn load<'w, C, K, V>(
        &self,
        written: impl Into<Written<'w>>,
        variables: impl IntoIterator<Item = (K, V)>,
        read: impl FnOnce(&mut Fields<'_>) -> Option<C>,
    ) -> Result<Loaded<C>, Problems>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let mut problems = Problems::new();
        let document = match written.into() {
            Written::File(path) => self.read_file(path),
            Written::Text(text) => Document::parse_one("settings", text.as_bytes(), self.limits),
            Written::Nowhere => Ok(Document::empty("settings")),
        };
        let mut document = document.map_err(|faults| problems.append(faults)).ok();
        let overrides = self.overrides(variables, &mut problems);
        if let Some(document) = &mut document {
            for Override { path, text, place } in overrides {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                if let Err(fault) = document.set(&path, &text, &place) {
                    problems.add(fault);
                }
            }
        }
        // Without a tree, every required field would be reported as missing: only what is known is told.
        let read = document.map(|document| document.read_effective(read));
        match read {
            Some(Ok((config, effective))) => problems.into_result(Loaded { config, effective }),
            Some(Err(faults)) => {
                problems.append(faults);
                Err(problems)
            }
            None => Err(problems),
        }
    }

    fn read_file(&self, path: &Path) -> Result<Document, Problems> {
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            Problem::new(
                Place::whole(name.as_str()),
                "",
                format!("cannot be read: {error}"),
            )
        };
        // One byte more than is allowed, so that parsing sees and refuses what is too long.
        let limit = u64::try_from(self.limits.bytes)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        let mut documents = Document::parse(&name, &bytes, self.limits)?;
        match (documents.pop(), documents.is_empty()) {
            // A file of comments alone leaves everything at its default.
            (None, _) => Ok(Document::empty(&name)),
            (Some(only), true) => Ok(only),
            (Some(second), false) => {
                let message = "there is more than one document";
                Err(Problem::new(second.place().clone(), "", message).into())
            }
        }
    }

    /// The overrides among the variables: named ones first, then prefixed ones in the order of their names.
    fn overrides<K, V>(
        &self,
        variables: impl IntoIterator<Item = (K, V)>,
        problems: &mut Problems,
    ) -> Vec<Override>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let mut named = Vec::new();
        let mut prefixed: BTreeMap<Vec<String>, Override> = BTreeMap::new();
        for (variable, text) in variables {
            // Our names are ASCII: what is not even UTF-8 is nobody's override.
            let Ok(variable) = variable.into().into_string() else {
                continue;
            };
            let place = Place::whole(format!("environment variable {variable}"));
            let by_name = self.named.iter().filter(|(name, _)| *name == variable);
            let paths: Vec<Vec<String>> = by_name
                .map(|(_, path)| path.iter().map(|step| (*step).to_owned()).collect())
                .collect();
            let suffix = variable.strip_prefix(&self.prefix);
            if paths.is_empty() && suffix.is_none() {
                continue;
            }
            let Ok(text) = text.into().into_string() else {
                problems.add(Problem::new(place, "", "the value is not UTF-8"));
                continue;
            };
            for path in paths {
                named.push(Override {
                    path,
                    text: text.clone(),
                    place: place.clone(),
                });
            }
            let Some(suffix) = suffix else { continue };
            match path_of(suffix) {
                Ok(path) => {
                    prefixed.insert(path.clone(), Override { path, text, place });
                }
                Err(message) => problems.add(Problem::new(place, "", message)),
            }
        }
        named.extend(prefixed.into_values());
        named
    }
}

/// The variables of this process.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// A value that the environment gives.
struct Override {
    path: Vec<String>,
    text: String,
    place: Place,
}

/// `DRAIN__DEADLINE` as `drain`, `deadline`.
fn path_of(suffix: &str) -> Result<Vec<String>, &'static str> {
    // Lower case in a variable would let two of them name the same field.
    if suffix
        .bytes()
        .any(|byte| !matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
    {
        return Err("the name of the variable may have only A-Z, 0-9 and `_` after the prefix");
    }
    let path: Vec<String> = suffix.split("__").map(str::to_ascii_lowercase).collect();
    if path
        .iter()
        .any(|step| step.is_empty() || step.starts_with('_') || step.ends_with('_'))
    {
        return Err("the name of the variable names no field; `__` goes one level down");
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
