//! Turns an event into one line that nothing inside it can break.

mod plain;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::time::{SystemTime, UNIX_EPOCH};

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
        self.begin(*meta.level(), meta.target(), line);
        if self.format == Format::Text || !plain::record(event, line) {
            event.record(&mut self.fields(line));
        }
        self.end(line);
    }

    /// The line that says that `count` others are missing.
    pub(super) fn dropped(&self, count: u64) -> String {
        let mut line = String::new();
        self.begin(Level::WARN, module_path!(), &mut line);
        let mut fields = self.fields(&mut line);
        fields.put("message", format_args!("lines are missing here"));
        fields.put("dropped", count);
        self.end(&mut line);
        line
    }

    fn begin(&self, level: Level, target: &str, line: &mut String) {
        let level = level_word(level);
        let time = time_text(&self.clock);
        let time = std::str::from_utf8(&time).unwrap_or_default();
        match self.format {
            Format::Json => {
                let parts = [
                    r#"{"time":""#,
                    time,
                    r#"","level":""#,
                    level,
                    r#"","target":""#,
                    target,
                    r#"""#,
                ];
                parts.into_iter().for_each(|part| line.push_str(part));
            }
            // Writing to a `String` cannot fail.
            Format::Text => drop(write!(line, "{time} {level:5} {target}:")),
        }
    }

    fn fields<'a>(&self, line: &'a mut String) -> Fields<'a> {
        let format = self.format;
        Fields { line, format }
    }

    fn end(&self, line: &mut String) {
        line.push_str(match self.format {
            Format::Json => "}\n",
            Format::Text => "\n",
        });
    }
}

/// Writes fields one by one, looking at every character.
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
        let quoted = json || name != "message";
        if quoted {
            self.name(name);
            self.line.push('"');
        } else {
            self.line.push(' ');
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
        self.name(name);
        let _ = write!(self.line, "{value}");
    }

    fn name(&mut self, name: &str) {
        match self.format {
            Format::Json => {
                push_name(self.line, name);
                self.line.push_str("\":");
            }
            Format::Text => {
                self.line.push(' ');
                self.line.push_str(name);
                self.line.push('=');
            }
        }
    }
}

/// Begins a field of JSON with its name, up to the quote that ends it.
fn push_name(line: &mut String, name: &str) {
    line.push_str(",\"");
    line.push_str(name.strip_prefix("r#").unwrap_or(name));
    // A field must not pass for one of ours.
    if matches!(name, "time" | "level" | "target") {
        line.push('_');
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
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

/// The time as lines show it: RFC 3339 in UTC, with milliseconds.
pub fn shown_time(clock: &Clock) -> String {
    String::from_utf8_lossy(&time_text(clock)).into_owned()
}

/// As [`shown_time`]. Every line has one, so the calendar is asked once a second.
fn time_text(clock: &Clock) -> [u8; 24] {
    thread_local!(static LAST: Cell<Option<(u64, [u8; 24])>> = const { Cell::new(None) });
    let now = clock.now();
    let Ok(since) = now.duration_since(UNIX_EPOCH) else {
        return calendar(now);
    };
    if let Some((second, mut text)) = LAST.get()
        && second == since.as_secs()
    {
        put_digits(&mut text[20..23], since.subsec_millis());
        return text;
    }
    let text = calendar(now);
    LAST.set(Some((since.as_secs(), text)));
    text
}

fn calendar(now: SystemTime) -> [u8; 24] {
    let time = OffsetDateTime::from(now);
    let (hour, minute, second) = time.to_hms();
    let mut text = *b"0000-00-00T00:00:00.000Z";
    put_digits(&mut text[..4], time.year().clamp(0, 9999).unsigned_abs());
    let pairs = [u8::from(time.month()), time.day(), hour, minute, second];
    for (place, pair) in text[5..19].chunks_mut(3).zip(pairs) {
        put_digits(&mut place[..2], pair.into());
    }
    put_digits(&mut text[20..23], time.millisecond().into());
    text
}

/// Writes `number` right-aligned over noughts, digit by digit: that takes a third of what a format does.
fn put_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
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
