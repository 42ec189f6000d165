//! `ferrule policy check`: reads rules as a sidecar would, and reports every fault.

use std::path::PathBuf;
use std::process::ExitCode;

use ferrule_document::Problem;
use ferrule_identity::TrustDomain;
use ferrule_policy::{Mesh, compile};
use serde_json::json;

use super::files::{Rules, read};
use crate::context::Context;
use crate::failure::{EXIT_WRONG, Failure};

pub(super) fn run(paths: &[PathBuf], context: &Context) -> Result<ExitCode, Failure> {
    // Whether rules fit together does not hang on the trust domain.
    let domain = TrustDomain::parse("check.invalid").map_err(Failure::could_not("name a trust domain"))?;
    let Rules {
        documents,
        mut problems,
        files,
        others,
        ..
    } = read(paths, &domain)?;
    if files.is_empty() {
        return Err(Failure::Missing {
            message: "no file ends in .yaml or .yml there; name the files themselves".to_owned(),
        });
    }
    let rules = match compile(&documents, Mesh::named(domain)) {
        Ok(policy) => policy.rule_count(),
        Err(faults) => {
            problems.append(faults);
            0
        }
    };
    if context.is_json() {
        context.printer.json(&json!({
            "files": files, "documents": documents.len(), "rules": rules, "others": others,
            "problems": problems.iter().map(problem).collect::<Vec<_>>(),
        }))?;
    } else if problems.is_empty() {
        context.printer.line(&format!(
            "{} and {} in {}: no fault",
            count(documents.len(), "document"),
            count(rules, "rule"),
            count(files.len(), "file")
        ))?;
    } else {
        context.printer.line(&problems.to_string())?;
        context.printer.tell(&format!(
            "{}; a sidecar goes on with the rules that it had",
            count(problems.count(), "fault")
        ));
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_WRONG)
    })
}

fn problem(problem: &Problem) -> serde_json::Value {
    let place = problem.place();
    json!({
        "file": place.source(), "line": place.line(), "column": place.column(),
        "field": problem.path(), "message": problem.message(),
    })
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
