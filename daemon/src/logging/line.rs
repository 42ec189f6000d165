//! Turns an event into one line that nothing inside it can break.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{self, Debug, Write};

use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;

use super::Format;
use super::queue::Queue;
use super::shown::{Chain, is_dangerous};
use crate::clock::Clock;

/// Sends every event as a line to the queue.
pub(super) struct Layer {
    lines: Lines,
    queue: Queue,
}

impl Layer {
    pub(super) fn new(lines: Lines, queue: Queue) -> Self {
        Self { lines, queue }
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local!(static LINE: RefCell<String> = const { RefCell::new(String::new()) });
        let write = |line: &mut String| {
            line.clear();
            self.lines.event(event, line);
            self.queue.push(line);
        };
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => write(&mut line),
            // A value logged something while it was being printed.
            Err(_) => write(&mut String::new()),
        });
    }
}

/// How lines are written.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    format: Format,
    clock: Clock,
}

impl Lines {
    pub(super) fn new(format: Format, clock: Clock) -> Self {
        Self { format, clock }
    }

    fn event(&self, event: &Event<'_>, line: &mut String) {
        let meta = event.metadata();
        let mut fields = self.begin(*meta.level(), meta.target(), line);
        event.record(&mut fields);
        self.end(line);
    }

    /// The line that says that `count` others are missing.
    pub(super) fn dropped(&self, count: u64) -> String {
        let mut line = String::new();
        let mut fields = self.begin(Level::WARN, module_path!(), &mut line);
        fields.put("message", format_args!("lines are missing here"));
        fields.put("dropped", count);
        self.end(&mut line);
        line
    }

    fn begin<'a>(&self, level: Level, target: &str, line: &'a mut String) -> Fields<'a> {
        let level = level_word(level);
        let time = shown_time(&self.clock);
        // Writing to a `String` cannot fail.
        let _ = match self.format {
            Format::Json => write!(line, r#"{{"time":"{time}","level":"{level}","target":"{target}""#),
            Format::Text => write!(line, "{time} {level:5} {target}:"),
        };
        Fields {
            line,
            format: self.format,
        }
    }

    fn end(&self, line: &mut String) {
        line.push_str(match self.format {
            Format::Json => "}\n",
            Format::Text => "\n",
        });
    }
}

struct Fields<'a> {
    line: &'a mut String,
    format: Format,
}

impl Fields<'_> {
    fn put(&mut self, name: &str, value: impl fmt::Display) {
        self.put_by(name, |text| write!(text, "{value}"));
    }

    /// As [`put`](Self::put), of what `say` writes.
    fn put_by(&mut self, name: &str, say: impl FnOnce(&mut Text<'_>) -> fmt::Result) {
        let json = self.format == Format::Json;
        match (json, name) {
            (true, _) => self.name(name),
            (false, "message") => self.line.push(' '),
            (false, _) => {
                self.line.push(' ');
                self.line.push_str(name);
                self.line.push('=');
            }
        }
        let quoted = json || name != "message";
        if quoted {
            self.line.push('"');
        }
        let mut text = Text {
            line: self.line,
            json,
            left: VALUE_BYTES,
            cut: 0,
        };
        if say(&mut text).is_err() {
            self.line.push_str("(cannot be shown)");
        } else if text.cut > 0 {
            let cut = text.cut;
            let _ = write!(self.line, "… ({cut} bytes more)");
        }
        if quoted {
            self.line.push('"');
        }
    }

    /// A value that JSON can hold as it is.
    fn put_bare(&mut self, name: &str, value: impl fmt::Display) {
        if self.format == Format::Json {
            self.name(name);
            let _ = write!(self.line, "{value}");
        } else {
            let _ = write!(self.line, " {name}={value}");
        }
    }

    fn name(&mut self, name: &str) {
        // A field must not pass for one of ours.
        let is_ours = matches!(name, "time" | "level" | "target");
        self.line.push_str(",\"");
        self.line.push_str(name.strip_prefix("r#").unwrap_or(name));
        self.line.push_str(if is_ours { "_\":" } else { "\":" });
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Most fields are text: no formatting for those.
        self.put_by(field.name(), |text| text.write_str(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put_bare(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put_bare(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put_bare(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.put_bare(field.name(), value);
        } else {
            self.put(field.name(), value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field.name(), Chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put_by(field.name(), |text| write!(text, "{value:?}"));
    }
}

/// Escapes what it is given, and stops writing, but goes on counting, at its limit.
struct Text<'a> {
    line: &'a mut String,
    json: bool,
    left: usize,
    cut: usize,
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly everything that is logged: whole, in place of letter by letter.
        if text.len() <= self.left && is_plain(text.as_bytes()) {
            self.left -= text.len();
            self.line.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            let Some(left) = self.left.checked_sub(c.len_utf8()) else {
                self.left = 0;
                self.cut += c.len_utf8();
                continue;
            };
            self.left = left;
            match c {
                '"' | '\\' if self.json => {
                    self.line.push('\\');
                    self.line.push(c);
                }
                c if !is_dangerous(c) => self.line.push(c),
                '\n' => self.line.push_str(r"\n"),
                c if self.json => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        write!(self.line, "\\u{unit:04x}")?;
                    }
                }
                c => write!(self.line, "{}", c.escape_unicode())?,
            }
        }
        Ok(())
    }
}

/// Whether every byte stands for itself in either form.
fn is_plain(text: &[u8]) -> bool {
    let other = |byte: u8| u8::from(!matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\');
    // All are looked at, whatever the first ones are: of whole blocks the machine then looks at all bytes at once.
    let (blocks, rest) = text.as_chunks::<16>();
    let mut found = 0;
    for block in blocks {
        for byte in block {
            found |= other(*byte);
        }
    }
    for byte in rest {
        found |= other(*byte);
    }
    found == 0
}

/// The time as lines show it: RFC 3339 in UTC, with milliseconds.
pub fn shown_time(clock: &Clock) -> impl fmt::Display + use<> {
    Time(OffsetDateTime::from(clock.now()))
}

struct Time(OffsetDateTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (month, day) = (u8::from(self.0.month()), self.0.day());
        let (hour, minute, second) = self.0.to_hms();
        // Every line has one: digit by digit it takes a third of what a format does.
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let fields: [(usize, usize, i32); 7] = [
            (0, 4, self.0.year().clamp(0, 9999)),
            (5, 7, month.into()),
            (8, 10, day.into()),
            (11, 13, hour.into()),
            (14, 16, minute.into()),
            (17, 19, second.into()),
            (20, 23, self.0.millisecond().into()),
        ];
        for (from, to, mut value) in fields {
            for digit in text.get_mut(from..to).unwrap_or_default().iter_mut().rev() {
                *digit += u8::try_from(value % 10).unwrap_or_default();
                value /= 10;
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The longest value of a field in bytes, before escaping; our own texts are shorter.
const VALUE_BYTES: usize = 4096;
