//! Shapes the answers to what holds now: tokens, hosts, revocations, authorities, bundles.

use ferrule_identity::{Fingerprint, PublicKey, Timestamp};

use super::chain::{RowContent, RowHash};
use super::event::{Event, Role, Step, Subject};
use super::serial::Serial;

/// Counters that grow when something changes that others keep a copy of. A watcher compares and fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generations {
    /// The number of the deny list.
    pub revocations: u64,
    /// Grows when an authority is prepared or takes a step.
    pub authorities: u64,
    /// Grows when a bundle is published.
    pub bundles: u64,
    /// Grows when a host is enrolled or revoked.
    pub hosts: u64,
}

/// Everything that is revoked now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevocationList {
    /// The list's number; grows with every change.
    pub generation: u64,
    /// The revocations, ordered by subject. Those of certificates that have run out are left out.
    pub entries: Vec<Revocation>,
    /// The live certificates that were issued on the evidence of hosts that are revoked.
    pub host_certificates: Vec<LiveCertificate>,
    /// The live certificates that name identities that are revoked.
    pub identity_certificates: Vec<LiveCertificate>,
}

/// One revocation that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose trust is gone.
    pub subject: Subject,
    /// The key identifier of the authority that issued it, when the subject is a certificate that is on record.
    pub issuer: Option<String>,
    /// When that certificate runs out.
    pub not_after: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: String,
    /// When.
    pub time: Timestamp,
}

/// A certificate that may not have run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCertificate {
    /// Its serial number.
    pub serial: Serial,
    /// Whom it names.
    pub id: String,
    /// The key identifier of the authority that issued it.
    pub issuer: String,
    /// Its last second.
    pub not_after: Timestamp,
    /// The host whose evidence it was issued on.
    pub host: Option<String>,
}

/// How much is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveCount {
    /// Certificates that have not run out.
    pub certificates: u64,
    /// Distinct names among them.
    pub identities: u64,
}

/// What still hangs on an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerUse {
    /// The authority's key identifier.
    pub authority: String,
    /// How many of its certificates have not run out.
    pub live: u64,
    /// The last second of the one that lives longest.
    pub latest_not_after: Timestamp,
}

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public name.
    pub token: String,
    /// The identities that it entitles a host to.
    pub identities: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Its last second.
    pub expires: Timestamp,
    /// Who made it.
    pub by: String,
    /// Whether it can still be used, apart from its expiry.
    pub state: TokenState,
}

/// What became of a join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenState {
    /// Nobody has used it.
    Outstanding,
    /// It was used to enrol this host.
    Used {
        /// The host.
        host: String,
    },
    /// It was revoked.
    Revoked,
    /// It was outstanding when the ledger was restored.
    Void,
}

/// An enrolled host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub host: String,
    /// Its key.
    pub key: PublicKey,
    /// The identities that it may ask for.
    pub identities: Vec<String>,
    /// The join token that it came with.
    pub token: String,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// Whether it is revoked now.
    pub revoked: bool,
}

/// A root or signing certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its key identifier in hexadecimal.
    pub authority: String,
    /// Root or signing.
    pub role: Role,
    /// Where it stands.
    pub step: Step,
    /// Since when it stands there.
    pub since: Timestamp,
    /// When it was prepared.
    pub prepared: Timestamp,
    /// The SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// The certificate in PEM, followed by those between it and the root.
    pub certificate: String,
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
    /// Whether the ledger holds its sealed key.
    pub sealed: bool,
}

/// The newest trust bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedBundle {
    /// Its sequence; 0 when none was published.
    pub sequence: u64,
    /// The SHA-256 of each root in it.
    pub anchors: Vec<Fingerprint>,
    /// When it was published; `None` when none was.
    pub published: Option<Timestamp>,
    /// The sequence that the next bundle should have. After a restore it leaps, so that it lies beyond all that may
    /// have been published after the backup.
    pub next: u64,
}

/// The newest bundle that somebody has reported to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Who.
    pub who: String,
    /// The bundle's sequence.
    pub generation: u64,
    /// When it was reported.
    pub time: Timestamp,
}

/// Whose chain this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// The trust domain.
    pub trust_domain: String,
    /// The replica.
    pub replica: String,
    /// The epoch now.
    pub epoch: u64,
    /// The number of the last row.
    pub sequence: u64,
    /// The hash of the last row.
    pub hash: RowHash,
    /// The fingerprint of the key that signs the checkpoints of this epoch.
    pub key: Fingerprint,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The replica that recorded it.
    pub replica: String,
    /// Counts the restores of this chain, from 1.
    pub epoch: u64,
    /// Counts the rows of this chain, from 1.
    pub sequence: u64,
    /// When it was recorded.
    pub time: Timestamp,
    /// The event's kind.
    pub kind: String,
    /// The event as JSON.
    pub body: String,
    /// The hash of the row before it.
    pub previous: RowHash,
    /// Its own hash.
    pub hash: RowHash,
}

impl Row {
    /// The row as the hash covers it.
    pub fn content(&self) -> RowContent<'_> {
        RowContent {
            replica: &self.replica,
            epoch: self.epoch,
            sequence: self.sequence,
            time: self.time,
            kind: &self.kind,
            body: &self.body,
        }
    }

    /// The event that the row records.
    ///
    /// # Errors
    /// When the body does not have the fields of its kind.
    pub fn event(&self) -> Result<Event, serde_json::Error> {
        Event::read(&self.kind, &self.body)
    }
}

/// Which rows are wanted. Every condition that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowFilter {
    /// One of these kinds; any, when empty.
    pub kinds: Vec<String>,
    /// A field with exactly this text: a SPIFFE ID, a serial, a host, a token, an authority.
    pub mentions: Option<String>,
    /// Recorded at this instant or later.
    pub since: Option<Timestamp>,
    /// Recorded at this instant or earlier.
    pub until: Option<Timestamp>,
}
