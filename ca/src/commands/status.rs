//! `ferrule-ca status`: shows how the CA is.

use std::process::ExitCode;

use ferrule_identity::Timestamp;
use ferrule_wire::ca::StatusReply;

use super::cli::Common;
use super::print::{Format, distance, table};
use super::{EXIT_WRONG, Failure, open, print_json, print_line};

pub(super) async fn run(common: &Common) -> Result<ExitCode, Failure> {
    let ca = open(common).await?;
    let now = ca.now();
    let status = ca
        .overview()
        .read(now)
        .await
        .map_err(Failure::could_not("read the ledger"))?;
    match common.output {
        Format::Json => print_json(&status)?,
        Format::Table => print_line(&written(&status, now))?,
    }
    ca.close().await.map_err(Failure::could_not("close the ledger"))?;
    Ok(if status.warnings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_WRONG)
    })
}

fn written(status: &StatusReply, now: Timestamp) -> String {
    let rows: Vec<_> = status
        .authorities
        .iter()
        .map(|authority| {
            let end = Timestamp::from_unix(authority.not_after);
            let ends = format!("{end} ({})", distance(end, now));
            [
                authority.role.clone(),
                authority.state.clone(),
                authority.fingerprint[..16].to_owned(),
                ends,
            ]
        })
        .collect();
    let mut text = format!(
        "trust domain {}, bundle {}, deny list {}, {} live certificates\n\n{}",
        status.trust_domain,
        status.bundle_sequence,
        status.revocation_generation,
        status.live_certificates,
        table(["ROLE", "STATE", "CERTIFICATE", "ENDS"], &rows)
    );
    for (heading, lines) in [("Look at", &status.warnings), ("Note", &status.notes)] {
        if !lines.is_empty() {
            text.push_str(&format!("\n\n{heading}:"));
            lines
                .iter()
                .for_each(|line| text.push_str(&format!("\n  {line}")));
        }
    }
    text
}
