//! `ferrule check`: looks for what makes a mesh unsafe now, or will make it fail soon.

mod authority;
mod clear;
mod cluster;
mod finding;
mod guidance;
mod sidecar;

use std::process::ExitCode;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_identity::Timestamp;
use serde_json::{Value, json};

use crate::arguments::Check;
use crate::cluster::Cluster;
use crate::context::Context;
use crate::failure::{EXIT_COULD_NOT, EXIT_WRONG, Failure};
use crate::meant::Meant;
use crate::picture::Picture;
use crate::print::{Table, Tone};
use crate::sidecars::Sidecars;
use crate::state::Running;
use finding::{Finding, Kind, Looked};

pub(crate) fn run(arguments: &Check, context: &Context) -> Result<ExitCode, Failure> {
    let now = Timestamp::from_unix(Clock::system().unix());
    let limits = Limits {
        now,
        asked: arguments.fail_before,
    };
    let running = if arguments.control.is_empty() {
        match context.meant(&arguments.cluster)? {
            Meant::Here(running) => Some(running),
            Meant::Cluster(cluster) => {
                let mut looked = Looked::default();
                cluster::look(&cluster, &limits, &mut looked);
                return ended(arguments, &looked, context);
            }
        }
    } else {
        None
    };
    let sidecars = Sidecars::of(&arguments.control, &arguments.cluster, context)?;
    let looked = context.in_runtime(look(arguments, running.as_ref(), &sidecars, &limits))?;
    ended(arguments, &looked, context)
}

fn ended(arguments: &Check, looked: &Looked, context: &Context) -> Result<ExitCode, Failure> {
    print(arguments, looked, context)?;
    Ok(if !looked.findings.is_empty() {
        ExitCode::from(EXIT_WRONG)
    } else if !looked.unseen.is_empty() {
        ExitCode::from(EXIT_COULD_NOT)
    } else {
        ExitCode::SUCCESS
    })
}

/// How near an end is too near.
struct Limits {
    now: Timestamp,
    /// What `--fail-before` says.
    asked: Option<Duration>,
}

impl Limits {
    /// Whether a certificate of ours ends too soon. Nobody said when that is: at 30 days, or a fifth of a short life.
    fn is_near(&self, starts: Timestamp, ends: Timestamp) -> bool {
        let left = ends.since(self.now);
        match self.asked {
            Some(asked) => left < asked,
            None => left < DEFAULT_NEAR.min(ends.since(starts) / 5),
        }
    }
}

async fn look(
    arguments: &Check,
    running: Option<&Running>,
    sidecars: &Sidecars,
    limits: &Limits,
) -> Result<Looked, Failure> {
    let mut looked = Looked::default();
    let newest = match authority::Authority::of(arguments, running, limits.now)? {
        Some(mut authority) => authority.look(limits, &mut looked).await,
        None => None,
    };
    for one in &sidecars.all {
        sidecar::look(one, newest, running.is_some(), limits, &mut looked).await;
    }
    if let Some(running) = running {
        match Picture::of_running(running) {
            Ok(picture) => {
                clear::permissive(running, &picture, &mut looked);
                clear::reachable(running, &picture, &mut looked).await;
            }
            Err(failure) => looked.unseen("the rules", &ferrule_daemon::logging::Chain(&failure).to_string()),
        }
    }
    Ok(looked)
}

fn to_json(looked: &Looked) -> Value {
    let [findings, warnings] =
        [&looked.findings, &looked.warnings].map(|all| all.iter().map(Finding::to_json).collect::<Vec<_>>());
    json!({ "findings": findings, "warnings": warnings, "unseen": looked.unseen, "checks": looked.checks })
}

/// What there is to find in a cluster, with the controls of the guidance.
pub(crate) fn report(cluster: &Cluster) -> Value {
    let limits = Limits {
        now: Timestamp::from_unix(Clock::system().unix()),
        asked: None,
    };
    let mut looked = Looked::default();
    cluster::look(cluster, &limits, &mut looked);
    let mut told = to_json(&looked);
    told["guidance"] = json!(guidance::judged(&looked));
    told
}

fn print(arguments: &Check, looked: &Looked, context: &Context) -> Result<(), Failure> {
    let guidance = arguments.guidance.then(|| guidance::judged(looked));
    if context.is_json() {
        let mut told = to_json(looked);
        told["guidance"] = json!(guidance);
        return context.printer.json(&told);
    }
    if let Some(guidance) = &guidance {
        let mut table = Table::new(["CONTROL", "NOW", "WHAT IT ASKS", "SHOWN BY"]);
        for control in guidance {
            table.row(control.row());
        }
        context.printer.table(&table)?;
        context.printer.line("")?;
    }
    let wrong = looked.findings.iter().map(|finding| (Tone::Bad, "", finding));
    let warnings = looked.warnings.iter();
    let warnings = warnings.map(|warning| (Tone::Doubtful, "warning: ", warning));
    for (tone, before, finding) in wrong.chain(warnings) {
        let word = context
            .printer
            .paint(tone, &format!("{before}{}", finding.kind.word()));
        context
            .printer
            .line(&format!("{word}: {}: {}", finding.place, finding.what))?;
        context.printer.line(&format!("  next: {}", finding.next))?;
    }
    for unseen in &looked.unseen {
        context.printer.line(
            &context
                .printer
                .paint(Tone::Doubtful, &format!("not seen: {unseen}")),
        )?;
    }
    let count = |kind: &Kind| {
        looked
            .findings
            .iter()
            .filter(|finding| finding.kind == *kind)
            .count()
    };
    let mut found: Vec<String> = Kind::ALL
        .iter()
        .filter(|kind| count(kind) > 0)
        .map(|kind| format!("{} {}", count(kind), kind.word()))
        .collect();
    match looked.warnings.len() {
        0 => {}
        1 => found.push("1 warning".to_owned()),
        more => found.push(format!("{more} warnings")),
    }
    context.printer.tell(&if found.is_empty() {
        format!("{} checks, nothing found", looked.checks)
    } else {
        format!("{} checks: {}", looked.checks, found.join(", "))
    });
    Ok(())
}

/// Certificates of the CA that have less left are replaced by people, who need that long.
const DEFAULT_NEAR: Duration = Duration::from_secs(30 * 86_400);
