//! `ferrule-ca rotate`: replaces the CA's own certificates, one step for each command.

use std::process::ExitCode;

use super::cli::{Common, Rotate};
use super::init::{authority, read, read_key};
use super::{Failure, next, open, tell};
use crate::acknowledged::Reported;
use crate::authority::{Acknowledgements, RootSource};

pub(super) async fn run(rotate: &Rotate, common: &Common) -> Result<ExitCode, Failure> {
    let ca = open(common).await?;
    let by = "operator local: rotate";
    match rotate {
        Rotate::Prepare { root_cert, root_key } => {
            let source = match (root_cert, root_key) {
                (None, _) => RootSource::New,
                (Some(certificate), None) => RootSource::Elsewhere {
                    certificate: read(certificate)?,
                },
                (Some(certificate), Some(key)) => RootSource::WithKey {
                    certificate: read(certificate)?,
                    key: read_key(key, None)?,
                },
            };
            let root = ca
                .authorities
                .prepare_root(source, by)
                .await
                .map_err(authority("publish the new root"))?;
            tell(&format!(
                "The root {root} is published beside the active one, and signs nothing yet.\n\
                 When everybody has it:\n  {}",
                next(common, "rotate activate")
            ));
        }
        Rotate::Activate => {
            // Who lags is for the directory to say; without it nobody can, and the CA refuses.
            let reported = match &ca.config.directory {
                Some(directory) => {
                    let reported = Reported::new(&ca, directory).await;
                    Some(reported.map_err(Failure::could_not("ask the directory"))?)
                }
                None => None,
            };
            let reported = reported
                .as_ref()
                .map(|reported| reported as &dyn Acknowledgements);
            ca.authorities
                .activate_root(reported, by)
                .await
                .map_err(authority("activate the new root"))?;
            tell(&format!(
                "The new root signs from now on. The old one stays trusted until the last certificate below it has \
                 ended; then:\n  {}",
                next(common, "rotate retire")
            ));
        }
        Rotate::Withdraw => {
            ca.authorities
                .withdraw_root(by)
                .await
                .map_err(authority("withdraw the prepared root"))?;
            tell("The prepared root is withdrawn.");
        }
        Rotate::RollBack => {
            ca.authorities
                .roll_back_root(by)
                .await
                .map_err(authority("go back to the root before"))?;
            tell("The root before signs again; the new one stays trusted until it is retired.");
        }
        Rotate::Retire { fingerprint } => {
            let retired = ca.authorities.retire_root(fingerprint.as_deref(), by).await;
            let retired = retired.map_err(authority("retire the old root"))?;
            tell(&format!("The root {retired} is trusted no more."));
        }
        Rotate::Signing => {
            let until = ca
                .authorities
                .tend()
                .await
                .map_err(authority("replace the signing certificate"))?;
            tell(&format!(
                "All that was due is done; the next look is due by {until}."
            ));
        }
    }
    ca.close().await.map_err(Failure::could_not("close the ledger"))?;
    Ok(ExitCode::SUCCESS)
}
