//! `ferrule policy report`: shows what each rule did, and what none allowed, so that intent can be held against fact.

use std::collections::BTreeMap;
use std::process::ExitCode;

use ferrule_policy::Action;
use serde_json::json;

use super::arguments::Traffic as Arguments;
use super::watched;
use crate::context::Context;
use crate::failure::Failure;
use crate::print::{Cell, Table, Tone};

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let (meant, picture) = watched::subject(arguments, context)?;
    let watched = watched::read(arguments, meant.as_ref(), context)?;
    // A connection within the mesh has two lines; the rules were asked by the side that was called.
    let judged = || {
        watched.counted().filter(|(kind, _, _)| {
            kind.verdict != "none" && (kind.direction == "inbound" || kind.destination.is_empty())
        })
    };
    let denying: Vec<String> = picture
        .policy
        .rules()
        .filter(|rule| rule.action == Action::Deny)
        .map(ToString::to_string)
        .collect();
    let mut by_rule: BTreeMap<String, u64> =
        picture.policy.rules().map(|rule| (rule.to_string(), 0)).collect();
    let mut edges: BTreeMap<(&str, &str, u16, &str, &str), u64> = BTreeMap::new();
    for (kind, _, count) in judged() {
        // A refusal for want of a rule names the nearest one, which has not decided anything.
        let decided = kind.verdict != "deny" || denying.contains(&kind.rule);
        let rule = if decided { kind.rule.as_str() } else { "" };
        if !rule.is_empty() {
            *by_rule.entry(rule.to_owned()).or_default() += count;
        }
        let pod = if kind.direction == "inbound" {
            kind.pod.as_str()
        } else {
            kind.called()
        };
        let edge = (kind.caller(), pod, kind.port, kind.verdict.as_str(), rule);
        *edges.entry(edge).or_default() += count;
    }
    let current: Vec<String> = picture.policy.rules().map(ToString::to_string).collect();
    let is_old = |rule: &str| !current.iter().any(|known| known == rule);
    if context.is_json() {
        let rules: Vec<_> = by_rule
            .iter()
            .map(|(rule, count)| json!({ "rule": rule, "connections": count, "in_force": !is_old(rule) }))
            .collect();
        let edges: Vec<_> = edges
            .iter()
            .map(|((from, to, port, verdict, rule), count)| {
                json!({ "from": from, "to": to, "port": port, "verdict": verdict, "rule": rule, "connections": count })
            })
            .collect();
        context
            .printer
            .json(&json!({ "rules": rules, "connections": edges }))?;
        return Ok(watched.code());
    }
    let mut table = Table::new(["RULE", "CONNECTIONS", ""]);
    for (rule, count) in &by_rule {
        let note = match (is_old(rule), count) {
            (true, _) => Cell::toned("not in force any more", Tone::Faint),
            (false, 0) => Cell::toned("never used: is it needed?", Tone::Doubtful),
            _ => "".into(),
        };
        table.row([rule.as_str().into(), count.to_string().into(), note]);
    }
    context.printer.table(&table)?;
    let mut table = Table::new(["FROM", "TO", "PORT", "VERDICT", "RULE", "CONNECTIONS"]);
    for ((from, to, port, verdict, rule), count) in &edges {
        let tone = match *verdict {
            "deny" => Tone::Bad,
            "audit" => Tone::Doubtful,
            _ => Tone::Good,
        };
        table.row([
            (*from).into(),
            (*to).into(),
            port.to_string().into(),
            Cell::toned(*verdict, tone),
            (*rule).into(),
            count.to_string().into(),
        ]);
    }
    context.printer.line("")?;
    context.printer.table(&table)?;
    Ok(watched.code())
}
