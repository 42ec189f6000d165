//! Copies a ledger, and begins anew from a copy.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrule_identity::{PrivateKey, TrustDomain};
use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::audit::{self, Expected, Report};
use super::event::{BackedUp, Restored};
use super::sqlite::SqliteLedger;
use super::sqlite::connect::{Purpose, connect};
use super::sqlite::files::{self, file_error};
use super::sqlite::open::store_error;
use super::sqlite::state::State;
use super::sqlite::transaction::{self, Signing, Written};
use super::{Entry, Ledger, LedgerError, Now, OpenError};

/// Why a ledger was not copied.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The copy could not be recorded in the ledger.
    #[error("cannot record the backup")]
    Record {
        /// The cause.
        #[from]
        source: LedgerError,
    },
    /// The copy could not be made, or does not hold together.
    #[error(transparent)]
    Copy(#[from] OpenError),
    /// The task that copied has ended without an answer.
    #[error("the backup to {target} has stopped", target = target.display())]
    Stopped {
        /// The copy.
        target: PathBuf,
    },
}

/// Copies `ledger`, as it stands, into the new file `target` with mode 0600, while others go on using it; checks the whole
/// copy before it gets its name. The backup is on the record, in the copy too.
///
/// # Errors
/// When something is at `target` already, the copy cannot be written, or the ledger does not hold together.
pub async fn backup(ledger: &SqliteLedger, target: &Path, by: &str) -> Result<Report, BackupError> {
    let row = BackedUp { by: by.to_owned() };
    ledger.append(vec![row.into()]).await?;
    let (source, copy) = (ledger.path().to_owned(), target.to_owned());
    let copied = tokio::task::spawn_blocking(move || copy_file(&source, &copy)).await;
    copied
        .map_err(|_| BackupError::Stopped {
            target: target.to_owned(),
        })?
        .map_err(BackupError::Copy)
}

/// How a ledger is restored.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The trust domain that the backup must be of.
    pub trust_domain: TrustDomain,
    /// The key that signs checkpoints from now on; the one of the backup, or a new one.
    pub key: Arc<PrivateKey>,
    /// That the loss of everything recorded after the backup is accepted.
    pub accept_loss: bool,
    /// Who asked.
    pub by: String,
}

/// Makes a ledger in `folder`, where there must be none, from the copy `source`: checks the copy, opens the next epoch,
/// and makes every outstanding token void. Gives the report on the copy.
///
/// What was recorded after the copy is not known and cannot be: certificates issued, tokens used, hosts enrolled,
/// revocations, rotations. Certificates of that time stay valid until they run out unless they are revoked by their
/// serial; hosts of that time enrol again; revocations of that time have to be made again.
///
/// # Errors
/// [`OpenError::LossNotAccepted`] when nobody has accepted that; otherwise what is wrong with the copy or the folder.
pub fn restore(source: &Path, folder: &Path, restore: &Restore, now: &Now) -> Result<Report, OpenError> {
    let target = files::ledger_path(folder);
    if target.exists() {
        return Err(OpenError::Exists { path: target });
    }
    let report = audit::verify(source, &Expected::default())?;
    check(source, &report, restore)?;
    files::prepare_folder(folder)?;
    let part = part_of(&target);
    discard(&part)?;
    let made = files::create_file(&part)
        .and_then(|()| duplicate(source, &part))
        .and_then(|()| begin_epoch(&part, &report, restore, now))
        .and_then(|()| publish(&part, &target));
    settle(made, &part).map(|()| report)
}

fn check(source: &Path, report: &Report, restore: &Restore) -> Result<(), OpenError> {
    if let Some(fault) = &report.fault {
        return Err(OpenError::Broken {
            path: source.to_owned(),
            fault: fault.clone(),
        });
    }
    if report.trust_domain != restore.trust_domain.as_str() {
        return Err(OpenError::TrustDomain {
            path: source.to_owned(),
            found: report.trust_domain.clone(),
            wanted: restore.trust_domain.to_string(),
        });
    }
    match report.times {
        Some((_, time)) if !restore.accept_loss => Err(OpenError::LossNotAccepted {
            sequence: report.head.0,
            time,
        }),
        _ => Ok(()),
    }
}

/// Records the restore as the first row of the next epoch.
fn begin_epoch(part: &Path, report: &Report, restore: &Restore, now: &Now) -> Result<(), OpenError> {
    let store = |doing| store_error(doing, part);
    let conn = connect(part, Purpose::Write, PATIENCE).map_err(store("open"))?;
    let state = State::read(&conn).map_err(store("read"))?;
    let row = Restored {
        from_epoch: state.head.epoch,
        last_sequence: report.head.0,
        last_hash: report.head.1,
        accept_loss: restore.accept_loss,
        key: restore.key.public_key().clone(),
        by: restore.by.clone(),
    };
    let row = Written::from_ledger(Entry::from(row)).map_err(|error| OpenError::Store {
        doing: "restore",
        path: part.to_owned(),
        source: Arc::new(error),
    })?;
    let signing = Signing {
        key: Some(restore.key.as_ref()),
        every_rows: 1,
    };
    transaction::commit(&conn, &[&[row]], now(), signing).map_err(store("restore"))?;
    finish(conn, part)
}

/// Copies the ledger `source` to the new file `target`.
fn copy_file(source: &Path, target: &Path) -> Result<Report, OpenError> {
    if target.exists() {
        return Err(OpenError::Exists {
            path: target.to_owned(),
        });
    }
    let part = part_of(target);
    discard(&part)?;
    let made = files::create_file(&part)
        .and_then(|()| duplicate(source, &part))
        .and_then(|()| {
            let report = audit::verify(&part, &Expected::default())?;
            match report.fault.clone() {
                None => Ok(report),
                Some(fault) => Err(OpenError::Broken {
                    path: source.to_owned(),
                    fault,
                }),
            }
        });
    let made = made.and_then(|report| publish(&part, target).map(|()| report));
    let mut report = settle(made, &part)?;
    target.clone_into(&mut report.path);
    Ok(report)
}

/// Copies what the store holds from `source` into the empty file `part`, as one consistent whole.
fn duplicate(source: &Path, part: &Path) -> Result<(), OpenError> {
    let from = connect(source, Purpose::Read, PATIENCE)
        .and_then(|conn| {
            conn.query_row("PRAGMA user_version", [], |_| Ok(()))
                .map(|()| conn)
        })
        .or_else(|error| super::sqlite::connect::connect_immutable(source).map_err(|_| error))
        .map_err(store_error("open", source))?;
    let store = |doing| store_error(doing, part);
    let mut to = Connection::open(part).map_err(store("open"))?;
    {
        let copy = Backup::new(&from, &mut to).map_err(store("write"))?;
        // All in one step: it sees one state, and appends go on meanwhile. In several steps each append would make it
        // begin anew.
        copy.step(-1).map_err(store("write"))?;
    }
    finish(to, part)
}

/// Makes the file complete in itself, with nothing beside it, and durable.
fn finish(conn: Connection, part: &Path) -> Result<(), OpenError> {
    let store = |doing| store_error(doing, part);
    conn.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .map_err(store("write"))?;
    conn.close().map_err(|(_, error)| store("close")(error))?;
    File::open(part)
        .and_then(|file| file.sync_all())
        .map_err(file_error("sync", part))
}

/// Gives a finished file its name, durably, and never in the place of another.
fn publish(part: &Path, target: &Path) -> Result<(), OpenError> {
    // Unlike a rename, a link fails where something has come to be meanwhile.
    match fs::hard_link(part, target) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(OpenError::Exists {
                path: target.to_owned(),
            });
        }
        Err(error) => return Err(file_error("name", target)(error)),
    }
    fs::remove_file(part).map_err(file_error("remove", part))?;
    files::sync_folder_of(target)
}

/// Leaves nothing unfinished behind.
fn settle<T>(made: Result<T, OpenError>, part: &Path) -> Result<T, OpenError> {
    if made.is_err() {
        // The failure before it is the one to report.
        let _unused = discard(part);
    }
    made
}

fn discard(part: &Path) -> Result<(), OpenError> {
    for file in files::companions(part).chain([part.to_owned()]) {
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error("remove", &file)(error)),
        }
    }
    Ok(())
}

/// The name that a file has until it is finished.
fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// How long a copy waits for other processes.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
