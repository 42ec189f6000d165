//! Lays out what commands print: columns for people, JSON for programs, colours only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use ferrule_identity::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Sentences and aligned columns, for people.
    #[default]
    #[value(alias = "table")]
    Text,
    /// JSON, for programs.
    Json,
}

/// What a word means, where that is worth a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// To be looked at.
    Doubtful,
    /// Wrong, or refused.
    Bad,
    /// Beside the point.
    Faint,
}

/// Prints on standard output what a program may read, and on standard error what people should know.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    format: Format,
    colours: bool,
}

impl Printer {
    /// Prints as `format` says; with colours where standard output is a terminal and they are not `unwanted`.
    pub fn new(format: Format, unwanted: bool) -> Self {
        let colours = format == Format::Text && !unwanted && io::stdout().is_terminal();
        Self { format, colours }
    }

    /// What was asked for.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Prints `message` as indented JSON.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn json(&self, message: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(message).map_err(Failure::could_not("write JSON"))?;
        self.line(&text)
    }

    /// Prints `message` as JSON on a line of its own.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn json_line(&self, message: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(message).map_err(Failure::could_not("write JSON"))?;
        self.line(&text)
    }

    /// Prints a line.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        writeln!(io::stdout(), "{text}").map_err(Failure::could_not("write to standard output"))
    }

    /// Prints a table.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn table(&self, table: &Table) -> Result<(), Failure> {
        self.line(&table.render(self.colours))
    }

    /// `text` in the colour of `tone`, where there are colours.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        paint(tone, text, self.colours)
    }

    /// Tells people something on standard error; nobody depends on it.
    pub fn tell(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Rows below their headings, in aligned columns.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One field of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field in the colour of `tone`.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl Table {
    /// A table without rows.
    pub fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            headings: headings.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; fields that are missing are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text without a newline at its end, two spaces between columns. A line break within a field, which
    /// could forge a row, is shown escaped.
    pub fn render(&self, colours: bool) -> String {
        let headings: Vec<Cell> = self
            .headings
            .iter()
            .map(|heading| Cell::toned(*heading, Tone::Faint))
            .collect();
        let lines: Vec<Vec<Cell>> = std::iter::once(&headings)
            .chain(&self.rows)
            .map(|cells| cells.iter().map(one_line).collect())
            .collect();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|cells| cells.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let rendered: Vec<String> = lines.iter().map(|cells| row(cells, &widths, colours)).collect();
        rendered.join("\n")
    }
}

/// A number of bytes in the unit that makes it short: `812 B`, `3.4 KiB`.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = None;
    let mut tenths = u128::from(bytes) * 10;
    for larger in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = Some(larger);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(unit) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

/// How long from `now` until `then`, in the largest unit that fits: `in 3 h`, `20 d ago`, `now`.
pub fn distance(then: Timestamp, now: Timestamp) -> String {
    let span = |seconds: u64| match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    };
    match (then.since(now).as_secs(), now.since(then).as_secs()) {
        (0, 0) => "now".to_owned(),
        (ahead, 0) => format!("in {}", span(ahead)),
        (_, past) => format!("{} ago", span(past)),
    }
}

fn row(cells: &[Cell], widths: &[usize], colours: bool) -> String {
    // Padding behind the last field that says something would only wrap narrow terminals.
    let last = cells.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
    let fields: Vec<String> = cells
        .iter()
        .zip(widths)
        .take(last + 1)
        .enumerate()
        .map(|(at, (cell, width))| {
            let missing = if at == last {
                0
            } else {
                width - cell.text.chars().count()
            };
            format!("{}{}", paint(cell.tone, &cell.text, colours), " ".repeat(missing))
        })
        .collect();
    fields.join("  ")
}

fn one_line(cell: &Cell) -> Cell {
    let text = cell.text.chars().fold(String::new(), |mut text, c| {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
        text
    });
    Cell {
        text,
        tone: cell.tone,
    }
}

fn paint(tone: Tone, text: &str, colours: bool) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Doubtful => "33",
        Tone::Bad => "31",
        Tone::Faint => "2",
        Tone::Plain => "",
    };
    if !colours || code.is_empty() || text.is_empty() {
        return text.to_owned();
    }
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let mut table = Table::new(["NAME", "WHAT"]);
        table.row(["a".into(), "long one".into()]);
        table.row(["longest".into()]);
        table.row(["bcd".into(), "".into()]);
        assert_eq!(
            table.render(false),
            "NAME     WHAT\na        long one\nlongest\nbcd"
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(["A", "B"]);
        table.row([Cell::toned("no", Tone::Bad), "x".into()]);
        assert_eq!(
            table.render(true),
            "\u{1b}[2mA\u{1b}[0m   \u{1b}[2mB\u{1b}[0m\n\u{1b}[31mno\u{1b}[0m  x"
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (3_500_000, "3.3 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn distances_have_one_unit() {
        let now = Timestamp::from_unix(1_000_000);
        for (seconds, text) in [
            (0, "now"),
            (5, "in 5 s"),
            (90_000, "in 25 h"),
            (-864_000, "10 d ago"),
        ] {
            assert_eq!(distance(Timestamp::from_unix(1_000_000 + seconds), now), text);
        }
    }

    #[test]
    fn a_field_cannot_forge_a_row() {
        let mut table = Table::new(["A"]);
        table.row(["x\nroot allowed\u{1b}[31m".into()]);
        assert_eq!(table.render(false), "A\nx\\nroot allowed\\u{1b}[31m");
    }
}
