//! `ferrule-ca backup` and `ferrule-ca restore`.

use std::process::ExitCode;
use std::sync::Arc;

use ferrule_daemon::clock::Clock;
use ferrule_identity::TrustDomain;
use serde_json::json;

use super::cli::{Backup, Common, Restore};
use super::print::Format;
use super::{Failure, again, in_runtime, open, print_json, settings, tell};
use crate::folder::{Folder, Reservation, read_secret, write_private};
use crate::instance::{Instance, ledger_time};
use crate::keystore::{Keystore, SecretKind};
use crate::ledger::audit::{self, Expected, Report};
use crate::ledger::backup as copies;

pub(super) async fn backup(backup: &Backup, common: &Common) -> Result<ExitCode, Failure> {
    let ca = open(common).await?;
    let copied = copies::backup(&ca.ledger, &backup.file, "operator local").await;
    let report = copied.map_err(Failure::could_not("make the backup"))?;
    let secret = ca.authorities.keys().source().to_owned();
    let kind = ca.authorities.keys().kind();
    ca.close().await.map_err(Failure::could_not("close the ledger"))?;
    match common.output {
        Format::Json => print_json(&json!({
            "file": backup.file,
            "rows": report.rows,
            "head": { "row": report.head.0, "hash": report.head.1.to_string() },
            "secret": secret,
        }))?,
        Format::Table => {
            let needed = match kind {
                SecretKind::BesideData => format!("The backup is of no use without {}", secret.display()),
                SecretKind::Passphrase => format!(
                    "The backup is of no use without the passphrase in {}",
                    secret.display()
                ),
            };
            tell(&format!(
                "{} has all {} rows, and was checked.\n{needed}: keep a copy of it, in another place than the backup.",
                backup.file.display(),
                report.rows
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(restore: &Restore, common: &Common) -> Result<ExitCode, Failure> {
    let mut config = settings(common)?.config;
    let report = audit::verify(&restore.file, &Expected::default());
    let report = report.map_err(Failure::could_not("examine the backup"))?;
    let folder = Folder::create(&config.data).map_err(Failure::could_not("use the data folder"))?;
    let reserved = folder
        .reserve(Reservation::Alone)
        .map_err(Failure::could_not("use the data folder"))?;
    if folder.is_initialised() {
        let message = format!(
            "there is a CA in {} already; restore into an empty folder",
            folder.path().display()
        );
        return Err(Failure::Refused { message });
    }
    match (&restore.kek, &config.passphrase_file) {
        (Some(kek), _) => {
            let secret = read_secret(kek).map_err(Failure::could_not("read the kek"))?;
            write_private(&folder.kek(), &secret).map_err(Failure::could_not("keep the kek"))?;
        }
        (None, None) => {
            let message = "the keys in the backup are locked: give --kek FILE, from the lost data folder, or \
                           --passphrase-file FILE";
            return Err(Failure::Usage {
                message: message.to_owned(),
            });
        }
        (None, Some(_)) => {}
    }
    let restored = make_again(
        restore,
        &config.trust_domain,
        &report,
        &folder,
        config.passphrase_file.as_deref(),
    );
    if restored.is_err() && restore.kek.is_some() {
        // So that another try finds the folder as it was.
        let _ = std::fs::remove_file(folder.kek());
    }
    let trust_domain = restored?;
    drop(reserved);
    config.trust_domain = Some(trust_domain);
    in_runtime(async {
        // The signing key was lost with the folder: with the root's key from the backup there is a new one at once.
        let ca = Instance::open(config, Clock::system(), false).await?;
        let tended = ca.authorities.tend().await;
        tell(&summary(&report, common));
        if let Err(error) = tended {
            tell(&format!(
                "There is no signing certificate yet: {}",
                ferrule_daemon::logging::Chain(&error)
            ));
        }
        ca.close().await.map_err(Failure::could_not("close the ledger"))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn make_again(
    restore: &Restore,
    trust_domain: &Option<TrustDomain>,
    report: &Report,
    folder: &Folder,
    passphrase_file: Option<&std::path::Path>,
) -> Result<TrustDomain, Failure> {
    let on_record = TrustDomain::parse(&report.trust_domain).map_err(|error| Failure::refused(&error))?;
    let keys = Keystore::open(folder, passphrase_file).map_err(Failure::could_not("use the keys"))?;
    let key = keys
        .replica_key()
        .map_err(Failure::could_not("make a key for this replica"))?;
    let order = copies::Restore {
        trust_domain: trust_domain.clone().unwrap_or(on_record),
        key: Arc::new(key),
        accept_loss: restore.accept_loss,
        by: "operator local".to_owned(),
    };
    let restored = copies::restore(
        &restore.file,
        folder.path(),
        &order,
        &ledger_time(&Clock::system()),
    );
    match restored {
        Ok(_) => Ok(order.trust_domain),
        Err(error @ crate::ledger::OpenError::LossNotAccepted { .. }) => Err(Failure::Refused {
            message: format!("{error} (--accept-loss)"),
        }),
        Err(error) => Err(Failure::could_not("restore the ledger")(error)),
    }
}

fn summary(report: &Report, common: &Common) -> String {
    let last = report.times.map(|(_, last)| last.to_string()).unwrap_or_default();
    format!(
        "The CA for {} is restored as of {last}, row {}. All join tokens of before are void.\n\
         What happened after that row is not known here: certificates issued then stay valid until they end (revoke \
         them by serial where you know it), hosts enrolled then have to enrol again, and revocations made then have to \
         be made again.\nNext:\n  ferrule-ca serve{}",
        report.trust_domain,
        report.head.0,
        again(common)
    )
}
