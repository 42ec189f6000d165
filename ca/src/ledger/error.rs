//! Says why the ledger did not do what was asked.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferrule_identity::{Fingerprint, KeyError, Timestamp};

use super::chain::ChainFault;
use super::event::Step;
use super::serial::Serial;

/// What the store underneath reported; shared, because one failure ends many appends.
pub type StoreFault = Arc<dyn Error + Send + Sync>;

/// Why the ledger did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// What was to be recorded contradicts what holds; nothing of it was written.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The rows could not be made durable: the disk is full, fails or is read-only. Nothing that was answered with
    /// this counts as done; the next append tries again.
    #[error("cannot make the ledger's rows durable in {ledger}")]
    NotDurable {
        /// The ledger's file.
        ledger: PathBuf,
        /// What the store reported.
        source: StoreFault,
    },
    /// The queue stayed full, or another process held the ledger, for longer than the limit.
    #[error("the ledger had no room for another append within {limit:?}")]
    Busy {
        /// How long was waited.
        limit: Duration,
    },
    /// No answer came in time. The rows may or may not be recorded: the caller must not act as if they were.
    #[error("no answer from the ledger within {limit:?}, so the append may or may not be recorded")]
    NoAnswer {
        /// How long was waited.
        limit: Duration,
    },
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
    /// A question could not be answered.
    #[error("cannot read {what} from the ledger {ledger}")]
    Read {
        /// What was asked for.
        what: &'static str,
        /// The ledger's file.
        ledger: PathBuf,
        /// What the store reported.
        source: StoreFault,
    },
    /// An event that is too long to record.
    #[error("the event {kind} is {bytes} bytes long, more than {limit}")]
    TooLong {
        /// The event's kind.
        kind: &'static str,
        /// Its body's length.
        bytes: usize,
        /// The most that is recorded.
        limit: usize,
    },
    /// A sealed key with an event that has no place for one, or an event that needs one without.
    #[error("the event {kind} and its sealed key do not belong together")]
    Sealed {
        /// The event's kind.
        kind: &'static str,
    },
    /// An event that only the ledger itself records.
    #[error("the event {kind} is recorded by the ledger itself, never by a caller")]
    Reserved {
        /// The event's kind.
        kind: &'static str,
    },
    /// An event that cannot be written as JSON.
    #[error("cannot write the event {kind} as JSON")]
    Body {
        /// The event's kind.
        kind: &'static str,
        /// What the writer reported.
        source: StoreFault,
    },
}

/// A precondition that did not hold when an append was to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A live certificate has this serial already.
    #[error("a live certificate has the serial {serial} already")]
    SerialExists {
        /// The serial.
        serial: Serial,
    },
    /// No authority of this name may issue now: unknown, not yet active, or removed.
    #[error("the authority {authority} is not one that may issue")]
    IssuerNotActive {
        /// The authority's key identifier.
        authority: String,
    },
    /// The identity is revoked.
    #[error("the identity {id} is revoked")]
    IdentityRevoked {
        /// The identity.
        id: String,
    },
    /// No host of this name is enrolled.
    #[error("no host {host} is enrolled")]
    HostUnknown {
        /// The host.
        host: String,
    },
    /// The host is revoked.
    #[error("the host {host} is revoked")]
    HostRevoked {
        /// The host.
        host: String,
    },
    /// A host of this name is enrolled already.
    #[error("a host {host} is enrolled already")]
    HostExists {
        /// The host.
        host: String,
    },
    /// Another host is enrolled with this key.
    #[error("another host is enrolled with the key {key}")]
    HostKeyExists {
        /// The key's fingerprint.
        key: Fingerprint,
    },
    /// A token of this name, or with this secret, exists already.
    #[error("a token {token} exists already")]
    TokenExists {
        /// The token's name.
        token: String,
    },
    /// No token of this name exists.
    #[error("no token {token} exists")]
    TokenUnknown {
        /// The token's name.
        token: String,
    },
    /// The token was used before.
    #[error("the token {token} was used before")]
    TokenUsed {
        /// The token's name.
        token: String,
    },
    /// The token ran out.
    #[error("the token {token} expired at {expired}")]
    TokenExpired {
        /// The token's name.
        token: String,
        /// When it ran out.
        expired: Timestamp,
    },
    /// The token was revoked.
    #[error("the token {token} was revoked")]
    TokenRevoked {
        /// The token's name.
        token: String,
    },
    /// The token was outstanding when the ledger was restored from a backup.
    #[error("the token {token} was made void by a restore")]
    TokenVoid {
        /// The token's name.
        token: String,
    },
    /// The subject is revoked already.
    #[error("{subject} is revoked already")]
    AlreadyRevoked {
        /// The subject, as text.
        subject: String,
    },
    /// The subject is not revoked, so there is nothing to lift.
    #[error("{subject} is not revoked")]
    NotRevoked {
        /// The subject, as text.
        subject: String,
    },
    /// An authority of this name exists already.
    #[error("an authority {authority} exists already")]
    AuthorityExists {
        /// The authority's key identifier.
        authority: String,
    },
    /// No authority of this name exists.
    #[error("no authority {authority} exists")]
    AuthorityUnknown {
        /// The authority's key identifier.
        authority: String,
    },
    /// The authority cannot take this step from where it stands.
    #[error("the authority {authority} cannot go from {from} to {to}")]
    AuthorityStep {
        /// The authority's key identifier.
        authority: String,
        /// Where it stands.
        from: Step,
        /// Where it was to go.
        to: Step,
    },
    /// Another authority of the same role is active; it has to retire first, or in the same append.
    #[error("the authority {active} is active in that role")]
    AnotherActive {
        /// The one that is active.
        active: String,
    },
    /// The bundle's sequence does not grow.
    #[error("a bundle {sequence} cannot follow the bundle {newest}")]
    BundleSequence {
        /// The sequence that was to be published.
        sequence: u64,
        /// The newest that was published.
        newest: u64,
    },
}

/// Why a ledger could not be opened, made, copied or restored.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder that others than its owner may read or write.
    #[error("{path} may be read or written by others (mode {mode:03o}); type: chmod {wanted:03o} '{path}'", path = path.display())]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be at most.
        wanted: u32,
    },
    /// A file or folder that belongs to another user.
    #[error("{path} belongs to user {owner}, and this process runs as user {user}; type: chown {user} '{path}'", path = path.display())]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// Something else than the regular file or the folder that belongs there, such as a symbolic link.
    #[error("{path} is not a {wanted}", path = path.display())]
    Kind {
        /// What was found.
        path: PathBuf,
        /// `regular file` or `folder`.
        wanted: &'static str,
    },
    /// A file or folder could not be made, read or written.
    #[error("cannot {doing} {path}", path = path.display())]
    File {
        /// The operation.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The store could not be opened or prepared.
    #[error("cannot {doing} the ledger {path}", path = path.display())]
    Store {
        /// The operation.
        doing: &'static str,
        /// The ledger's file.
        path: PathBuf,
        /// What the store reported.
        source: StoreFault,
    },
    /// There is no ledger where one should be.
    #[error("there is no ledger at {path}", path = path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is something already where a new file or folder was to be made.
    #[error("{path} exists already, so nothing was written", path = path.display())]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// The file was written by a newer release, or by something else.
    #[error("{path} has the ledger format {found}; this release reads {known}", path = path.display())]
    Format {
        /// The ledger's file.
        path: PathBuf,
        /// What the file says.
        found: i64,
        /// What this release reads.
        known: i64,
    },
    /// The ledger belongs to another trust domain.
    #[error("{path} is the ledger of the trust domain {found}, not of {wanted}", path = path.display())]
    TrustDomain {
        /// The ledger's file.
        path: PathBuf,
        /// The ledger's own.
        found: String,
        /// What was expected.
        wanted: String,
    },
    /// The opener's key is not the one that this ledger's checkpoints are signed with.
    #[error("the checkpoint key {given} is not the one in {path}, which is {recorded}", path = path.display())]
    OtherKey {
        /// The ledger's file.
        path: PathBuf,
        /// The fingerprint of the opener's key.
        given: Fingerprint,
        /// The fingerprint on record.
        recorded: Fingerprint,
    },
    /// A ledger cannot be made without the key that signs its checkpoints.
    #[error("no checkpoint key was given to make the ledger {path} with", path = path.display())]
    NoKey {
        /// The ledger's file.
        path: PathBuf,
    },
    /// The checkpoint key does not work.
    #[error("cannot use the checkpoint key of {path}", path = path.display())]
    Key {
        /// The ledger's file.
        path: PathBuf,
        /// The cause.
        source: KeyError,
    },
    /// The log does not hold together; `ferrule-ca audit verify` tells more.
    #[error("{path} does not hold together: {fault}", path = path.display())]
    Broken {
        /// The ledger's file.
        path: PathBuf,
        /// The first fault.
        fault: ChainFault,
    },
    /// A restore cannot know what happened after the backup, and nobody has accepted that.
    #[error(
        "the backup ends with row {sequence} at {time}; certificates issued, tokens used, hosts enrolled, revocations and \
         rotations recorded after that would be lost: accept the loss to go on"
    )]
    LossNotAccepted {
        /// The backup's last row.
        sequence: u64,
        /// When it was recorded.
        time: Timestamp,
    },
}
