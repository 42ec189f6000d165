//! Says where a value was written.

use std::fmt;
use std::sync::Arc;

/// Where something was written: a source (a file's path, `environment variable X`, `default`) and, where the
/// source has lines, the line and the column, both counted from one, the column in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    source: Arc<str>,
    line: usize,
    column: usize,
}

impl Place {
    /// A source as a whole, such as an environment variable.
    pub fn whole(source: impl Into<Arc<str>>) -> Self {
        Self {
            source: source.into(),
            line: 0,
            column: 0,
        }
    }

    /// A line and a column of a source, both counted from one.
    pub fn at(source: impl Into<Arc<str>>, line: usize, column: usize) -> Self {
        Self {
            source: source.into(),
            line,
            column,
        }
    }

    /// The name of the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The line, counted from one; `None` where the source has no lines.
    pub fn line(&self) -> Option<usize> {
        (self.line > 0).then_some(self.line)
    }

    /// The column in characters, counted from one; `None` where the source has no lines.
    pub fn column(&self) -> Option<usize> {
        (self.line > 0).then_some(self.column)
    }
}

impl fmt::Display for Place {
    /// `rules.yaml:3:7`, or the source alone where it has no lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}
