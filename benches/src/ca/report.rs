//! Lays the figures out, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Options;
use super::outage::Outage;
use super::pieces::Pieces;
use super::record::Record;
use super::restart::Restart;
use super::rounds::{Delays, Groups, Turns, Way};
use crate::figures::short;
use crate::process::load;

/// What was measured, where and how.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    processor: String,
    cores: usize,
    /// Of the folder that the ledger lay in.
    file_system: String,
    /// How busy the machine was before, in processes that want a core.
    load_before: f64,
    rounds: usize,
    issues: usize,
    in_flight: usize,
}

impl Plan {
    /// The plan that `options` make, with the data in `folder`.
    pub(crate) fn new(options: &Options, folder: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: named.map_or("unknown", |(_, name)| name).to_owned(),
            cores,
            file_system: file_system(folder).unwrap_or_else(|| "unknown".to_owned()),
            load_before: load(),
            rounds: options.rounds,
            issues: options.issues,
            in_flight: options.in_flight,
        }
    }
}

/// The type of the file system that `folder` is in.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let holding = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        folder.starts_with(at).then_some((at.len(), kind))
    });
    // Of two at one place the later one covers the earlier.
    holding
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind.to_owned())
}

/// A figure that was promised.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    what: String,
    wanted: String,
    measured: String,
    pub(crate) met: bool,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    plan: Plan,
    load_after: f64,
    turns: Turns,
    delays: Vec<Delays>,
    groups: Vec<Groups>,
    pieces: Pieces,
    restart: Restart,
    outage: Outage,
    record: Record,
    pub(crate) targets: Vec<Target>,
}

impl Report {
    /// The report of a whole run.
    pub(crate) fn new(
        plan: Plan,
        turns: Turns,
        delays: Vec<Delays>,
        groups: Vec<Groups>,
        pieces: Pieces,
        (restart, outage): (Restart, Outage),
        record: Record,
    ) -> Self {
        let targets = targets(&turns, &outage);
        Self {
            plan,
            load_after: load(),
            turns,
            delays,
            groups,
            pieces,
            restart,
            outage,
            record,
            targets,
        }
    }

    /// The report for people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Plan {
            processor,
            cores,
            file_system,
            load_before,
            rounds,
            issues,
            in_flight,
        } = &self.plan;
        writeln!(
            out,
            "{cores} cores of {processor}, data on {file_system}; clients on the same cores"
        )?;
        writeln!(
            out,
            "{rounds} rounds of {issues} certificates, {in_flight} in flight; median (lowest to highest round); load \
             average {load_before} before, {} after",
            self.load_after
        )?;
        let Turns {
            alone, alone_cpu_us, ..
        } = &self.turns;
        writeln!(out, "\nChecking the request and signing alone, on one core")?;
        writeln!(out, "  certificates a second       {alone}")?;
        writeln!(out, "  CPU, µs each                {alone_cpu_us}")?;
        self.write_ways(out)?;
        self.write_breakdown(out)?;
        for delays in &self.delays {
            let Delays {
                way,
                rate,
                p50_ms,
                p99_ms,
                max_ms,
            } = delays;
            writeln!(
                out,
                "\n{} at {rate:.0} /s, open loop: p50 {} ms, p99 {} ms, longest {} ms",
                way.name(),
                short(*p50_ms),
                short(*p99_ms),
                short(*max_ms)
            )?;
        }
        self.write_outage(out)?;
        let Record {
            rows,
            answered,
            issued,
        } = &self.record;
        writeln!(
            out,
            "\nThe record: {rows} rows, proven; {issued} certificates on it, among them once each of the {answered} that \
             were answered under load"
        )?;
        writeln!(out, "\n{:<58} {:>22} {:>24}", "target", "wanted", "measured")?;
        for Target {
            what,
            wanted,
            measured,
            met,
        } in &self.targets
        {
            let verdict = if *met { "" } else { "  MISSED" };
            writeln!(out, "{what:<58} {wanted:>22} {measured:>24}{verdict}")?;
        }
        Ok(())
    }

    fn write_ways(&self, out: &mut String) -> std::fmt::Result {
        for turn in &self.turns.ways {
            writeln!(out, "\n{}", turn.way.name())?;
            writeln!(out, "  answers a second            {}", turn.rate)?;
            if Way::OURS.contains(&turn.way) {
                writeln!(out, "  in per cent of alone        {}", turn.percent_of_alone)?;
                writeln!(out, "  CPU, all, times alone       {}", turn.times_alone)?;
            }
            writeln!(out, "  server CPU, µs each         {}", turn.server_cpu_us)?;
            if Way::OURS.contains(&turn.way) {
                writeln!(out, "    the ledger's thread       {}", turn.ledger_cpu_us)?;
            }
            writeln!(out, "  client CPU, µs each         {}", turn.client_cpu_us)?;
            writeln!(
                out,
                "  delay, all lanes busy, ms   p50 {}, p99 {}",
                short(turn.p50_ms),
                short(turn.p99_ms)
            )?;
            if turn.way != Way::Time {
                writeln!(
                    out,
                    "  memory, MiB                 {}, peak {} after {} issues",
                    short(turn.memory.now),
                    short(turn.memory.peak),
                    turn.memory_after
                )?;
            }
            if let Some(groups) = self.groups.iter().find(|groups| groups.way == turn.way) {
                writeln!(
                    out,
                    "  waits for the disk          {} in {} issues: {} issues to a wait",
                    short(groups.syncs),
                    self.plan.issues,
                    short(groups.group)
                )?;
            }
        }
        Ok(())
    }

    /// Where the CPU time of an issue goes, the steps measured alone and what is left of the whole.
    fn write_breakdown(&self, out: &mut String) -> std::fmt::Result {
        let pieces = &self.pieces;
        let (renew, issue) = (self.turns.of(Way::Renew), self.turns.of(Way::Issue));
        let transport = self.turns.of(Way::Time).server_cpu_us.median;
        let both = |what: f64| (Some(what), Some(what));
        let rows = [
            ("TLS, HTTP, scheduling (as for /v1/time)", both(transport)),
            ("the message", both(pieces.message.median)),
            (
                "the client's certificate, with its record",
                (Some(pieces.certificate.median), None),
            ),
            ("the host's statement", (None, Some(pieces.statement.median))),
            (
                "the request and its proof of possession",
                both(pieces.request.median),
            ),
            ("the signature", both(pieces.signature.median)),
            ("judging the new certificate", both(pieces.verification.median)),
            ("recording it, CPU", both(pieces.record.median)),
            ("the answer", both(pieces.answer.median)),
        ];
        writeln!(
            out,
            "\nWhere the server's CPU time goes, µs{:>31} {:>10}",
            "renew", "issue"
        )?;
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
        let (mut of_renew, mut of_issue) = (0.0, 0.0);
        for (what, (in_renew, in_issue)) in rows {
            of_renew += in_renew.unwrap_or_default();
            of_issue += in_issue.unwrap_or_default();
            writeln!(out, "  {what:<56} {:>7} {:>10}", cell(in_renew), cell(in_issue))?;
        }
        let (all_renew, all_issue) = (renew.server_cpu_us.median, issue.server_cpu_us.median);
        let rest = (
            "log line, larger messages, caches gone cold",
            all_renew - of_renew,
            all_issue - of_issue,
        );
        writeln!(out, "  {:<56} {:>7} {:>10}", rest.0, short(rest.1), short(rest.2))?;
        writeln!(
            out,
            "  {:<56} {:>7} {:>10}",
            "all of it",
            short(all_renew),
            short(all_issue)
        )?;
        writeln!(
            out,
            "A single record takes {} µs until it is durable, of which most is waiting for the disk.",
            pieces.durable
        )
    }

    fn write_outage(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nKilled {} times while it issued: the next certificate {} s after the start of the new process",
            self.restart.kills, self.restart.until_issue_s
        )?;
        let outage = &self.outage;
        writeln!(
            out,
            "\n{} proxies at once after an outage: {} served, {} failed, {} handshakes tried again\n  \
             all served {} s after the CA's start, {} s after its first connection\n  \
             answers p50 {} ms, p99 {} ms; server CPU {} s; memory {} MiB, peak {} MiB",
            outage.proxies,
            outage.served,
            outage.failed,
            outage.tried_again,
            short(outage.since_start_s),
            short(outage.since_first_s),
            short(outage.answer_p50_ms),
            short(outage.answer_p99_ms),
            short(outage.cpu_s),
            short(outage.memory.now),
            short(outage.memory.peak)
        )
    }
}

fn targets(turns: &Turns, outage: &Outage) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |what: String, wanted: String, measured: String, met: bool| {
        targets.push(Target {
            what,
            wanted,
            measured,
            met,
        });
    };
    for way in Way::OURS {
        let percent = turns.of(way).percent_of_alone;
        add(
            format!("{}: of the rate alone", way.name()),
            format!("at least {MIN_PERCENT:.0} %"),
            format!("{} %", short(percent.median)),
            percent.median >= MIN_PERCENT,
        );
    }
    let Outage {
        proxies,
        failed,
        since_start_s,
        memory,
        ..
    } = outage;
    add(
        format!("{proxies} proxies at once: all served"),
        format!("within {MAX_OUTAGE_S:.0} s"),
        format!("{} s", short(*since_start_s)),
        *since_start_s <= MAX_OUTAGE_S,
    );
    add(
        format!("{proxies} proxies at once: failed"),
        "0".to_owned(),
        failed.to_string(),
        *failed == 0,
    );
    add(
        format!("{proxies} proxies at once: peak memory"),
        format!("under {MAX_OUTAGE_MIB:.0} MiB"),
        format!("{} MiB", short(memory.peak)),
        memory.peak < MAX_OUTAGE_MIB,
    );
    if let Some(step) = turns.find(Way::StepCa) {
        for way in Way::OURS {
            let turn = turns.of(way);
            let compared = [
                ("CPU", "µs", turn.server_cpu_us.median, step.server_cpu_us.median),
                ("memory", "MiB", turn.memory.now, step.memory.now),
            ];
            for (what, unit, ours, theirs) in compared {
                add(
                    format!("{}: {what} beside step-ca", way.name()),
                    format!("a third of {} {unit}", short(theirs)),
                    format!("{} {unit}, {} %", short(ours), short(100.0 * ours / theirs)),
                    3.0 * ours <= theirs,
                );
            }
        }
    }
    targets
}

const MIN_PERCENT: f64 = 40.0;
const MAX_OUTAGE_S: f64 = 10.0;
const MAX_OUTAGE_MIB: f64 = 100.0;
