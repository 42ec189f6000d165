//! Says why a step of a rotation is not taken.

use std::time::Duration;

use ferrule_identity::{Fingerprint, Lifetime, Timestamp};

use super::PUBLISHED_HINTS;
use crate::ledger::event::{Role, Step};

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotRefusal {
    /// The trust domain has, or had, a root.
    #[error("the trust domain has a root already: {root}")]
    RootExists {
        /// Its fingerprint.
        root: Fingerprint,
    },
    /// There is no root that signs.
    #[error("no root is active")]
    NoActiveRoot,
    /// Only one waits at a time.
    #[error("{root} is prepared already; activate or withdraw it first")]
    AlreadyPrepared {
        /// The one that waits.
        root: Fingerprint,
    },
    /// Nothing waits for its turn.
    #[error("nothing is prepared; prepare it first")]
    NonePrepared,
    /// Nothing is on its way out.
    #[error("no root is retired")]
    NoneRetired,
    /// Not all peers can have the bundle yet.
    #[error(
        "the root {root} must be published for {PUBLISHED_HINTS} refresh hints of {hint:?} first, until {due}"
    )]
    TooSoon {
        /// The prepared root.
        root: Fingerprint,
        /// From when on it may sign.
        due: Timestamp,
        /// How often peers ask for the bundle.
        hint: Duration,
    },
    /// Live proxies hold an older bundle.
    #[error("{} live proxies have not acknowledged the new root: {}", who.len(), shown(who))]
    Lagging {
        /// Their names.
        who: Vec<String>,
    },
    /// No directory is connected that could say who holds which bundle.
    #[error(
        "nobody reports which proxies hold the new root, so none is known to; connect the directory and try again"
    )]
    NoAcknowledgements,
    /// The certificate is known.
    #[error("{id} is known already")]
    Known {
        /// The key's fingerprint.
        id: Fingerprint,
    },
    /// No such certificate.
    #[error("there is no {role} {id}")]
    Unknown {
        /// The fingerprint.
        id: Fingerprint,
        /// What it should be.
        role: Role,
    },
    /// It is not its turn.
    #[error("{id} is {is}, and would have to be {needed}")]
    WrongState {
        /// The key's fingerprint.
        id: Fingerprint,
        /// Its state.
        is: Step,
        /// The state that the step starts from.
        needed: Step,
    },
    /// Out of its life.
    #[error("{id} is valid from {lifetime}, and now it is {now}")]
    NotValid {
        /// The key's fingerprint.
        id: Fingerprint,
        /// Its life.
        lifetime: Lifetime,
        /// The CA's clock.
        now: Timestamp,
    },
    /// Signs below another root than the active one.
    #[error("the root {root} is not the active one")]
    NotActiveRoot {
        /// The root.
        root: Fingerprint,
    },
    /// Would be trusted by nobody at its end.
    #[error("{id} ends at {ends}, after its root at {root_ends}")]
    OutlivesRoot {
        /// The signing certificate.
        id: Fingerprint,
        /// Its end.
        ends: Timestamp,
        /// The root's end.
        root_ends: Timestamp,
    },
    /// A replica still issues below the root.
    #[error("the signing certificate {signer} of replica {replica} still signs below the root {root}")]
    StillSigns {
        /// The root.
        root: Fingerprint,
        /// The signing certificate.
        signer: Fingerprint,
        /// Who holds its key.
        replica: String,
    },
    /// Certificates that chain to it are live.
    #[error("certificates that chain to {id} are valid until {until}")]
    LiveLeaves {
        /// The root or signing certificate.
        id: Fingerprint,
        /// When the last one ends.
        until: Timestamp,
    },
}

/// The first names of a list, and how many more there are.
fn shown(who: &[String]) -> String {
    let mut text = who.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if who.len() > MAX_SHOWN {
        text.push_str(&format!(" and {} more", who.len() - MAX_SHOWN));
    }
    text
}

/// How many lagging proxies a message names.
const MAX_SHOWN: usize = 16;
