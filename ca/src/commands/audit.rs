//! `ferrule-ca audit`: proves or exports the record.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::cli::{Audit, Common};
use super::print::Format;
use super::{EXIT_WRONG, Failure, in_runtime, open, print_json, print_line, settings};
use crate::ledger::audit::{self, Expected, Report};
use crate::ledger::{Event, RowFilter};

pub(super) fn run(audit: &Audit, common: &Common) -> Result<ExitCode, Failure> {
    match audit {
        Audit::Verify { file, key, row } => {
            let expected = expected(key.as_deref(), row.as_deref())?;
            let file = match file {
                Some(file) => file.clone(),
                None => settings(common)?.config.data,
            };
            verify(&file, &expected, common)
        }
        Audit::Export {
            kinds,
            mentions,
            since,
        } => in_runtime(async {
            if let Some(unknown) = kinds.iter().find(|kind| !Event::KINDS.contains(&kind.as_str())) {
                let known = Event::KINDS.join(", ");
                return Err(Failure::Usage {
                    message: format!("--kind {unknown}: known are {known}"),
                });
            }
            let ca = open(common).await?;
            let filter = RowFilter {
                kinds: kinds.clone(),
                mentions: mentions.clone(),
                since: since.map(|since| ca.now().minus(since)),
                until: None,
            };
            let mut out = std::io::BufWriter::new(std::io::stdout());
            let written = audit::export(ca.ledger.as_ref(), &filter, &mut out).await;
            written.map_err(Failure::could_not("export the record"))?;
            out.flush()
                .map_err(Failure::could_not("write to standard output"))?;
            drop(out);
            ca.close().await.map_err(Failure::could_not("close the ledger"))?;
            Ok(ExitCode::SUCCESS)
        }),
    }
}

fn expected(key: Option<&str>, row: Option<&str>) -> Result<Expected, Failure> {
    let usage = |message: &str| Failure::Usage {
        message: message.to_owned(),
    };
    let key = key
        .map(|key| {
            key.parse()
                .map_err(|_| usage("--key: expected 64 hexadecimal digits"))
        })
        .transpose()?;
    let row = row.map(|row| {
        let (number, hash) = row.split_once(':')?;
        Some((number.parse().ok()?, hash.parse().ok()?))
    });
    let row = match row {
        Some(None) => {
            return Err(usage(
                "--row: expected NUMBER:HASH, the hash in 64 hexadecimal digits",
            ));
        }
        Some(row) => row,
        None => None,
    };
    Ok(Expected { key, row })
}

fn verify(file: &Path, expected: &Expected, common: &Common) -> Result<ExitCode, Failure> {
    let report = audit::verify(file, expected).map_err(Failure::could_not("examine the record"))?;
    match common.output {
        Format::Json => print_json(&as_json(&report))?,
        Format::Table => print_line(&written(&report))?,
    }
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_WRONG)
    })
}

fn as_json(report: &Report) -> serde_json::Value {
    json!({
        "sound": report.is_sound(),
        "file": report.path,
        "trust_domain": report.trust_domain,
        "replica": report.replica,
        "keys": report.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "rows": report.rows,
        "checkpoints": report.checkpoints,
        "unsigned_rows": report.unsigned_rows,
        "head": { "row": report.head.0, "hash": report.head.1.to_string() },
        "first": report.times.map(|(first, _)| first.unix()),
        "last": report.times.map(|(_, last)| last.unix()),
        "fault": report.fault.as_ref().map(ToString::to_string),
    })
}

fn written(report: &Report) -> String {
    let span = match report.times {
        Some((first, last)) => format!(", {first} to {last}"),
        None => String::new(),
    };
    let verdict = match &report.fault {
        None => "The record is whole and unchanged, as far as it can show by itself.".to_owned(),
        Some(fault) => format!("THE RECORD DOES NOT HOLD TOGETHER: {fault}"),
    };
    let keys: Vec<_> = report.keys.iter().map(ToString::to_string).collect();
    format!(
        "{}: trust domain {}, replica {}\n{} rows{span}; {} signed checkpoints, {} rows after the last\n\
         signed with {}\n{verdict}\nNote this row elsewhere, and give it next time with --row:\n  {}:{}",
        report.path.display(),
        report.trust_domain,
        report.replica,
        report.rows,
        report.checkpoints,
        report.unsigned_rows,
        keys.join(", "),
        report.head.0,
        report.head.1,
    )
}
