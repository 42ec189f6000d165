//! Says why the CA cannot use, make or change its own certificates.

use std::path::PathBuf;

use ferrule_identity::{Fingerprint, KeyError};

use super::root::RootError;
use super::slots::SlotRefusal;
use crate::keystore::KeystoreError;
use crate::ledger::LedgerError;

/// Why the CA cannot use, make or change its own certificates.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A step that is not its turn.
    #[error("not now: {0}")]
    NotNow(#[from] SlotRefusal),
    /// A certificate cannot be made or taken in.
    #[error("cannot {doing}")]
    Certificate {
        /// The operation.
        doing: &'static str,
        /// The cause.
        source: Box<RootError>,
    },
    /// A key cannot be read or kept.
    #[error("cannot {doing}")]
    Keys {
        /// The operation.
        doing: &'static str,
        /// The cause.
        source: Box<KeystoreError>,
    },
    /// No key could be made.
    #[error("cannot make a key for the {what}")]
    NewKey {
        /// What it was for.
        what: &'static str,
        /// The cause.
        source: Box<KeyError>,
    },
    /// The ledger does not answer, or does not take the step.
    #[error("cannot {doing} in the ledger")]
    Ledger {
        /// The operation.
        doing: &'static str,
        /// The cause.
        source: Box<LedgerError>,
    },
    /// What the ledger holds is damaged.
    #[error("what the ledger says of the authority {authority} cannot be used")]
    Kept {
        /// Its name.
        authority: String,
        /// The cause; `None` when its name is no fingerprint.
        source: Option<Box<RootError>>,
    },
    /// The production profile with a root that a break-in here would give away.
    #[error(
        "the production profile takes no self-signed root whose key is here (root {root}): let an authority \
         elsewhere sign this CA with init --csr-only, then init --import"
    )]
    OnlineRoot {
        /// The root; empty when it would have been made.
        root: String,
    },
    /// The production profile with a key-encryption key beside the keys.
    #[error(
        "the production profile takes no key-encryption key that lies beside the keys ({}): give a passphrase file \
         with --passphrase-file or keys.passphrase_file",
        path.display()
    )]
    SecretBesideData {
        /// The file.
        path: PathBuf,
    },
    /// There is no CA here yet.
    #[error("this CA has no root yet: import one, or make one with init")]
    NoRoot,
    /// The root's key is elsewhere, so a signing certificate has to come from there.
    #[error(
        "the key of the root {root} is not here, so its holder has to sign: make a request with init --csr-only and \
         bring its answer back with init --import"
    )]
    RootElsewhere {
        /// The root.
        root: String,
    },
    /// No key for the certificate.
    #[error("the key {key} of the signing certificate is not in {}", folder.display())]
    NoKey {
        /// The key's fingerprint.
        key: Fingerprint,
        /// Where the keys lie.
        folder: PathBuf,
    },
    /// A key of a kind that the crypto profile does not allow.
    #[error("{0}")]
    Algorithm(String),
    /// No signing certificate is active.
    #[error("no signing certificate is active yet")]
    NoSigner,
    /// No root of this fingerprint or prefix, or several.
    #[error("{text:?} names no root here, or more than one")]
    Which {
        /// What was asked for.
        text: String,
    },
    /// A blocking task was lost.
    #[error("the task that reads keys was cancelled")]
    Cancelled,
}
