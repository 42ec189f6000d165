//! Puts lines on the terminal, with a table below them that is drawn anew in its place.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::print::{Table, Tone};

/// Where everything is shown.
pub(super) struct Screen<'c> {
    context: &'c Context,
    is_terminal: bool,
    /// Lines of the table that stands on the terminal now.
    drawn: usize,
    /// Whether lines have come since the table was drawn.
    dirty: bool,
}

impl<'c> Screen<'c> {
    pub(super) fn new(context: &'c Context) -> Self {
        Self {
            context,
            is_terminal: !context.is_json() && io::stdout().is_terminal(),
            drawn: 0,
            dirty: false,
        }
    }

    /// Says something about the mesh.
    pub(super) fn say(&mut self, tone: Tone, text: &str, json: &Value) -> Result<(), Failure> {
        if self.context.is_json() {
            return self.context.printer.json_line(json);
        }
        self.line(&format!(
            "{} {}",
            self.context.printer.paint(Tone::Faint, "ferrule |"),
            self.context.printer.paint(tone, text)
        ))
    }

    /// Shows a line of an application.
    pub(super) fn application(&mut self, title: &str, line: &str) -> Result<(), Failure> {
        if self.context.is_json() {
            return self
                .context
                .printer
                .json_line(&json!({ "event": "line", "workload": title, "text": line }));
        }
        let title = self.context.printer.paint(Tone::Faint, &format!("{title} |"));
        self.line(&format!("{title} {line}"))
    }

    /// Says that an edge is new; on a terminal, the table shows it.
    pub(super) fn edge(&mut self, tone: Tone, text: &str, json: &Value) -> Result<(), Failure> {
        if self.is_terminal {
            Ok(())
        } else {
            self.say(tone, text, json)
        }
    }

    /// Whether the table has to be drawn anew because of the lines that came.
    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Draws the table below everything that was said.
    pub(super) fn draw(&mut self, table: &Table) -> Result<(), Failure> {
        if !self.is_terminal {
            return Ok(());
        }
        self.erase()?;
        let text = table.render(true);
        let lines: Vec<&str> = text.lines().take(MOST).collect();
        if lines.len() > 1 {
            self.context.printer.line("")?;
            for line in &lines {
                self.context.printer.line(line)?;
            }
            self.drawn = lines.len() + 1;
        }
        self.dirty = false;
        Ok(())
    }

    fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.erase()?;
        self.dirty = true;
        self.context.printer.line(text)
    }

    /// Takes the table away: up by its lines, then everything below is cleared (ECMA-48: CUU, ED).
    fn erase(&mut self) -> Result<(), Failure> {
        if self.drawn > 0 {
            let up = format!("\u{1b}[{}A\u{1b}[J", self.drawn);
            self.drawn = 0;
            let mut out = io::stdout();
            let written = out.write_all(up.as_bytes()).and_then(|()| out.flush());
            return written.map_err(Failure::could_not("write to the terminal"));
        }
        Ok(())
    }
}

/// Rows that fit on most terminals with something above them.
const MOST: usize = 20;
