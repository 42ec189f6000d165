//! Collects what is wrong with documents.

use std::fmt;

use crate::place::Place;

/// How many faults are kept; the rest is counted. Nobody mends a thousand faults by hand, and a hostile
/// document must not fill the memory with complaints about itself.
const MAX_KEPT: usize = 1000;

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    place: Place,
    path: String,
    message: String,
}

impl Problem {
    /// A fault at `place`, in the field `path` (such as `spec.rules[0].ports[1]`; empty for the document as a
    /// whole).
    pub fn new(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place,
            path: path.into(),
            message: message.into(),
        }
    }

    /// Where the fault is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The field, such as `spec.rules[0].ports[1]`; empty for the document as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    /// `rules.yaml:3:7: spec.rules[0].ports[1]: expected an integer from 1 to 65535`, always one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.place.to_string();
        if !self.path.is_empty() {
            line.push_str(": ");
            line.push_str(&self.path);
        }
        line.push_str(": ");
        line.push_str(&self.message);
        // Names of files and of fields come from outside: they must not forge a second line.
        for c in line.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?
            } else {
                write!(f, "{c}")?
            }
        }
        Ok(())
    }
}

/// All faults that were found, in the order of their places. As an error it means: nothing was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    kept: Vec<Problem>,
    dropped: usize,
}

impl Problems {
    /// No faults yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault. The same fault twice counts once.
    pub fn add(&mut self, problem: Problem) {
        match self.kept.binary_search(&problem) {
            Ok(_) => {}
            Err(_) if self.kept.len() >= MAX_KEPT => self.dropped += 1,
            Err(at) => self.kept.insert(at, problem),
        }
    }

    /// Adds all faults of `other`.
    pub fn append(&mut self, other: Self) {
        self.dropped += other.dropped;
        for problem in other.kept {
            self.add(problem);
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many faults were found, those beyond the thousand that are kept included.
    pub fn count(&self) -> usize {
        self.kept.len() + self.dropped
    }

    /// The faults, ordered by source, line and column.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.kept.iter()
    }

    /// `value` when nothing was found.
    ///
    /// # Errors
    /// The faults, when there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self {
            kept: vec![problem],
            dropped: 0,
        }
    }
}

impl fmt::Display for Problems {
    /// One line for each fault, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.kept.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.dropped > 0 {
            write!(f, "\nand {} more", self.dropped)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
