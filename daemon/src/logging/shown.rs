//! Makes text that others wrote safe to print.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write};

/// Text that came from outside, for a log field or a message: at most [`FOREIGN_BYTES`] of it, with everything
/// escaped that could move a cursor, colour a terminal, end a line or turn the direction of writing.
#[derive(Debug, Clone, Copy)]
pub struct Foreign<'a>(pub &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = prefix(self.0, FOREIGN_BYTES);
        for c in kept.chars() {
            if is_dangerous(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        match self.0.len() - kept.len() {
            0 => Ok(()),
            cut => write!(f, "… ({cut} bytes more)"),
        }
    }
}

/// An error with its causes, outermost first, separated by `: `.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        // Errors are finite in practice; the bound keeps one that names itself from filling the disk.
        for _ in 0..CAUSES {
            let Some(error) = cause else { break };
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// `text` itself when it has at most `limit` bytes; otherwise its first whole characters within the limit, with a
/// note of how much is missing.
pub fn shorten(text: &str, limit: usize) -> Cow<'_, str> {
    let kept = prefix(text, limit);
    match text.len() - kept.len() {
        0 => Cow::Borrowed(text),
        cut => Cow::Owned(format!("{kept}… ({cut} bytes more)")),
    }
}

/// Whether `c` does something to a terminal or a reader's eye other than showing itself: control characters,
/// line and paragraph separators, marks and overrides of writing direction.
pub(super) fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn prefix(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// How much of a foreign text is shown, in bytes.
pub const FOREIGN_BYTES: usize = 256;

const CAUSES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    // E9: a name with an escape sequence, a line break and a direction override.
    #[test]
    fn foreign_text_loses_its_teeth() {
        let shown = Foreign("a\u{1b}[31m\nb\u{9b}1m\u{202e}c\u{7f}é").to_string();
        assert_eq!(shown, r"a\u{1b}[31m\nb\u{9b}1m\u{202e}c\u{7f}é");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let shown = Foreign(&"é".repeat(500_000)).to_string();
        assert_eq!(shown, format!("{}… (999744 bytes more)", "é".repeat(128)));
        assert_eq!(shorten("aéb", 2), "a… (3 bytes more)");
        assert_eq!(shorten("aéb", 4), "aéb");
    }

    #[test]
    fn a_chain_names_every_cause() {
        let error = std::io::Error::other(crate::tasks::TaskError::Failed {
            task: "renewal",
            source: "no answer".into(),
        });
        assert_eq!(Chain(&error).to_string(), "task renewal failed: no answer");
    }
}
