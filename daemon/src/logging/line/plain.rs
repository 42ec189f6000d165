//! Writes the fields of lines in which nothing needs an escape, which nearly all are.
//!
//! Values go into the line as they are; the whole of it is looked at once, in place of each value. A value that had to be
//! escaped, or would end its field, shows: it has a byte that no such line has, or brings quotes of its own.

use std::error::Error;
use std::fmt::{self, Debug, Write};

use tracing::Event;
use tracing::field::{Field, Visit};

use super::{VALUE_BYTES, push_name};
use crate::logging::shown::Chain;

/// Appends the fields of `event` to a line of JSON, and says whether they hold; if not, the line is left as it was.
pub(super) fn record(event: &Event<'_>, line: &mut String) -> bool {
    let from = line.len();
    let mut fields = Fields {
        line,
        quotes: 0,
        is_whole: true,
    };
    event.record(&mut fields);
    let Fields { quotes, is_whole, .. } = fields;
    let holds = is_whole && line.as_bytes().get(from..).and_then(quotes_of_plain) == Some(quotes);
    if !holds {
        line.truncate(from);
    }
    holds
}

struct Fields<'a> {
    line: &'a mut String,
    /// How many quotes were written around names and values.
    quotes: usize,
    /// Whether every value was written, and to its end.
    is_whole: bool,
}

impl Fields<'_> {
    fn put(&mut self, name: &str, say: impl FnOnce(&mut Bounded<'_>) -> fmt::Result) {
        push_name(self.line, name);
        self.line.push_str("\":\"");
        let mut bounded = Bounded {
            line: self.line,
            left: VALUE_BYTES,
        };
        self.is_whole &= say(&mut bounded).is_ok();
        self.line.push('"');
        self.quotes += 4;
    }

    fn put_bare(&mut self, name: &str, value: &str) {
        push_name(self.line, name);
        self.line.push_str("\":");
        self.line.push_str(value);
        self.quotes += 2;
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), |text| text.write_str(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put_bare(field.name(), itoa::Buffer::new().format(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put_bare(field.name(), itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put_bare(field.name(), if value { "true" } else { "false" });
    }

    fn record_f64(&mut self, _: &Field, _: f64) {
        // Rare, and not always a number to JSON.
        self.is_whole = false;
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field.name(), |text| write!(text, "{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field.name(), |text| write!(text, "{value:?}"));
    }
}

/// Takes what it is given, and fails at its limit.
struct Bounded<'a> {
    line: &'a mut String,
    left: usize,
}

impl Write for Bounded<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        self.line.push_str(text);
        Ok(())
    }
}

/// How many quotes are in `text`; `None` where a byte is in it that does not stand for itself.
fn quotes_of_plain(text: &[u8]) -> Option<usize> {
    let (mut quotes, mut found) = (0, 0);
    let mut look = |block: &[u8]| {
        let mut here = 0;
        // All are looked at, whatever the first ones are: of whole blocks the machine then looks at all bytes at once.
        for byte in block {
            found |= u8::from(!matches!(byte, b' '..=b'~') || *byte == b'\\');
            here += u8::from(*byte == b'"');
        }
        quotes += usize::from(here);
    };
    let (blocks, rest) = text.as_chunks::<64>();
    blocks.iter().for_each(|block| look(block));
    look(rest);
    (found == 0).then_some(quotes)
}
