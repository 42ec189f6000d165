//! `ferrule-ca revoke`: takes trust away, or gives it back.

use std::process::ExitCode;

use ferrule_wire::ca::RevocationSubject;
use serde_json::json;

use super::cli::{Common, Revoke, Subject};
use super::print::Format;
use super::{Failure, open, print_json, tell};
use crate::revoking::{self, RevokeError};

pub(super) async fn run(revoke: &Revoke, common: &Common) -> Result<ExitCode, Failure> {
    let ca = open(common).await?;
    let written = match &revoke.subject {
        Subject {
            identity: Some(id), ..
        } => RevocationSubject::Identity(id.clone()),
        Subject {
            serial: Some(serial), ..
        } => RevocationSubject::Serial(serial.clone()),
        Subject { host: Some(host), .. } => RevocationSubject::Host(host.clone()),
        Subject {
            identity: None,
            serial: None,
            host: None,
        } => {
            return Err(Failure::Usage {
                message: "say whose trust: a SPIFFE ID, --serial or --host".to_owned(),
            });
        }
    };
    let done = async {
        let subject = revoking::subject(&written)?;
        let shown = subject.to_string();
        let by = "operator local";
        let number = revoking::change(ca.ledger.as_ref(), subject, &revoke.reason, by, revoke.lift).await?;
        Ok::<_, RevokeError>((shown, number))
    };
    let (shown, generation) = done.await.map_err(|error| match error {
        error @ (RevokeError::Conflict { .. } | RevokeError::Reason) => Failure::refused(&error),
        error @ RevokeError::Ledger { .. } => Failure::could_not("revoke")(error),
        error => Failure::Usage {
            message: ferrule_daemon::logging::Chain(&error).to_string(),
        },
    })?;
    ca.close().await.map_err(Failure::could_not("close the ledger"))?;
    match common.output {
        Format::Json => print_json(&json!({ "generation": generation }))?,
        Format::Table if revoke.lift => tell(&format!("{shown} is trusted again (deny list {generation}).")),
        Format::Table => tell(&format!("{shown} is revoked (deny list {generation}).")),
    }
    Ok(ExitCode::SUCCESS)
}
