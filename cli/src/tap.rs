//! `ferrule tap`: shows connections as they end.

use std::cell::Cell;
use std::process::ExitCode;

use futures::future::try_join_all;
use serde_json::Value;

use crate::arguments::Tap;
use crate::context::Context;
use crate::edges::{tls_tone, verdict_tone};
use crate::failure::{EXIT_COULD_NOT, Failure};
use crate::print::{Tone, size};
use crate::sidecars::{Sidecar, Sidecars, tell_silent};

pub(crate) fn run(arguments: &Tap, context: &Context) -> Result<ExitCode, Failure> {
    let sidecars = Sidecars::of(&arguments.watched.control, &arguments.watched.cluster, context)?;
    let programs = sidecars
        .all
        .iter()
        .filter(|sidecar| sidecar.socket.is_by_program());
    let programs = programs.count();
    if programs > MOST_PROGRAMS {
        return Err(Failure::Usage {
            message: format!(
                "to tap {programs} sidecars, kubectl would run {programs} times at once, and {MOST_PROGRAMS} is the most; say \
                 which with --namespace"
            ),
        });
    }
    let tapping = Tapping {
        arguments,
        context,
        sidecars: &sidecars,
        left: Cell::new(arguments.count.unwrap_or(u64::MAX)),
        silent: Cell::new(0),
    };
    context.in_runtime(tapping.all())?;
    Ok(if tapping.silent.get() > 0 {
        ExitCode::from(EXIT_COULD_NOT)
    } else {
        ExitCode::SUCCESS
    })
}

struct Tapping<'t> {
    arguments: &'t Tap,
    context: &'t Context,
    sidecars: &'t Sidecars,
    /// Lines that are still wanted.
    left: Cell<u64>,
    /// Sidecars that did not answer.
    silent: Cell<usize>,
}

impl Tapping<'_> {
    async fn all(&self) -> Result<(), Failure> {
        let taps = self.sidecars.all.iter().map(|sidecar| self.one(sidecar));
        match try_join_all(taps).await {
            Err(_) if self.left.get() == 0 => Ok(()),
            ended => ended.map(drop),
        }
    }

    async fn one(&self, sidecar: &Sidecar) -> Result<(), Failure> {
        match sidecar.socket.lines("/tap", |line| self.show(line)).await {
            // One that goes away does not end the others' tap.
            Err(Failure::Socket(error)) => {
                self.silent.set(self.silent.get() + 1);
                tell_silent(&sidecar.title, &error, self.context);
                Ok(())
            }
            ended => ended,
        }
    }

    fn show(&self, line: &str) -> Result<(), Failure> {
        let Ok(read) = serde_json::from_str::<Value>(line) else {
            return Ok(());
        };
        if read["event"] == "missed" {
            self.context.printer.tell(&format!(
                "{} lines are missing here: this reader was too slow",
                read["lines"]
            ));
            return Ok(());
        }
        if !self.is_wanted(&read) {
            return Ok(());
        }
        if self.context.is_json() {
            self.context.printer.line(line)?;
        } else {
            self.context.printer.line(&self.text(&read))?;
        }
        self.left.set(self.left.get().saturating_sub(1));
        if self.left.get() == 0 {
            return Err(Failure::Missing {
                message: "that was all that was wanted".to_owned(),
            });
        }
        Ok(())
    }

    fn is_wanted(&self, line: &Value) -> bool {
        let denied = !self.arguments.denied || line["verdict"] == "deny";
        denied && (self.arguments.watched.all || self.sidecars.show(line))
    }

    fn text(&self, line: &Value) -> String {
        let word = |name: &str| line[name].as_str().unwrap_or_default();
        let number = |name: &str| line[name].as_u64().unwrap_or_default();
        let printer = &self.context.printer;
        let time = word("time").split_once('T').map_or("", |(_, time)| time);
        let open = if line["event"] == "open" {
            " (still open)"
        } else {
            ""
        };
        // The sentence names the rule and says that it was denied.
        let why = match word("detail") {
            "" => [word("rule"), word("reason")]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
            detail => detail.to_owned(),
        };
        let text = format!(
            "{} {} -> {}:{}  {} {}  {} sent, {} answered, {} ms{open}  {}",
            printer.paint(Tone::Faint, time),
            self.sidecars.name(word("src_id"), word("src_addr")),
            self.sidecars.name(word("dst_id"), word("dst_addr")),
            number("dst_port"),
            printer.paint(tls_tone(word("tls")), word("tls")),
            printer.paint(verdict_tone(word("verdict")), word("verdict")),
            size(number("bytes_in")),
            size(number("bytes_out")),
            number("duration_ms"),
            printer.paint(Tone::Faint, &why)
        );
        text.trim_end().to_owned()
    }
}

/// The most sidecars that are tapped by a program each, which takes tens of megabytes.
const MOST_PROGRAMS: usize = 40;
