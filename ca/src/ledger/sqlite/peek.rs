//! Says whose ledger a file is, before it is opened.

use std::path::Path;
use std::time::Duration;

use ferrule_identity::TrustDomain;

use super::connect::{Purpose, connect};
use super::files;
use super::open::{check_format, store_error};
use super::state::{State, damaged};
use crate::ledger::OpenError;

/// The trust domain of the ledger in `folder`. Does blocking input and output.
///
/// # Errors
/// When there is no ledger, others can read it, or it is no ledger of this release.
pub fn trust_domain(folder: &Path) -> Result<TrustDomain, OpenError> {
    let path = files::ledger_path(folder);
    if !path.exists() {
        return Err(OpenError::Missing { path });
    }
    files::check_folder(folder)?;
    files::check_files(&path)?;
    let conn = connect(&path, Purpose::Read, PATIENCE).map_err(store_error("open", &path))?;
    check_format(&conn, &path)?;
    let state = State::read(&conn).map_err(store_error("read", &path))?;
    TrustDomain::parse(&state.trust_domain)
        .map_err(|_| store_error("read", &path)(damaged("it names no trust domain".to_owned())))
}

/// How long to wait for another process.
const PATIENCE: Duration = Duration::from_secs(5);
