//! Names what the CA records, field by field.
//!
//! An event never holds a private key, a token's secret or the body of a request.

use std::fmt;
use std::str::FromStr;

use ferrule_identity::{Fingerprint, PublicKey, Timestamp, TrustDomain};
use serde::{Deserialize, Serialize};

use super::chain::RowHash;
use super::serial::Serial;
use super::written::{public_key, seconds, text, texts};

/// Declares the enum of all events, each named like the struct that holds its fields.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $kind:literal,)*) => {
        /// Something that the CA did, or refused to do.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $name($name),)*
        }

        impl Event {
            /// Every kind there is, in the words of [`kind`](Self::kind).
            pub const KINDS: &[&str] = &[$($kind),*];

            /// The event's kind in one word, such as `issued`.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $kind,)*
                }
            }

            /// The event's fields as JSON: no white space, the fields in the order of their declaration.
            ///
            /// # Errors
            /// None that a value of this type could cause; JSON's writer is fallible in general.
            pub fn body(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$name(fields) => serde_json::to_string(fields),)*
                }
            }

            /// Reads what [`kind`](Self::kind) and [`body`](Self::body) wrote.
            ///
            /// # Errors
            /// When the kind is unknown or the body does not have its fields.
            pub fn read(kind: &str, body: &str) -> Result<Self, serde_json::Error> {
                match kind {
                    $($kind => serde_json::from_str(body).map(Self::$name),)*
                    other => Err(serde::de::Error::unknown_variant(other, Self::KINDS)),
                }
            }
        }

        $(impl From<$name> for Event {
            fn from(fields: $name) -> Self {
                Self::$name(fields)
            }
        })*
    };
}

events! {
    /// A replica began its chain. Recorded by the ledger itself.
    Opened = "opened",
    /// A certificate was issued.
    Issued = "issued",
    /// A caller was refused.
    Refused = "refused",
    /// Trust was taken away.
    Revoked = "revoked",
    /// A revocation was taken back.
    Lifted = "lifted",
    /// A join token was made.
    TokenCreated = "token_created",
    /// A join token was traded for the enrolment of a host.
    TokenUsed = "token_used",
    /// A join token was revoked before its use.
    TokenRevoked = "token_revoked",
    /// A host's key was enrolled.
    HostEnrolled = "host_enrolled",
    /// A root or signing certificate came to be.
    AuthorityPrepared = "authority_prepared",
    /// A root or signing certificate took a step of its rotation.
    AuthorityStepped = "authority_stepped",
    /// The sealed key of an authority was sealed anew.
    AuthoritySealed = "authority_sealed",
    /// A trust bundle was published.
    BundlePublished = "bundle_published",
    /// Somebody reported that a bundle has reached them.
    Acknowledged = "acknowledged",
    /// The ledger was copied.
    BackedUp = "backed_up",
    /// The ledger was restored from a copy; begins an epoch. Recorded by the ledger itself.
    Restored = "restored",
}

/// The first row of a chain: whose it is, and which key signs its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The trust domain that the CA serves.
    #[serde(with = "text")]
    pub trust_domain: TrustDomain,
    /// The replica's name.
    pub replica: String,
    /// The key that the replica signs checkpoints with.
    #[serde(with = "public_key")]
    pub key: PublicKey,
    /// The release that made the ledger.
    pub release: String,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Its serial number.
    #[serde(with = "text")]
    pub serial: Serial,
    /// Whom it names: a SPIFFE ID, or the DNS and IP names of a serving certificate with commas between them.
    pub id: String,
    /// The profile it was made by, such as `workload` or `serving`.
    pub profile: String,
    /// The key identifier of the authority that signed it, as in [`AuthorityPrepared::authority`].
    pub issuer: String,
    /// First second of validity.
    #[serde(with = "seconds")]
    pub not_before: Timestamp,
    /// Last second of validity.
    #[serde(with = "seconds")]
    pub not_after: Timestamp,
    /// The SHA-256 of its public key.
    #[serde(with = "text")]
    pub key: Fingerprint,
    /// Who asked.
    pub caller: String,
    /// What kind of evidence showed it, such as `host_key`.
    pub evidence: String,
    /// The enrolled host whose evidence it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A refusal, or several of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Who asked, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// What was asked for.
    pub asked: String,
    /// The stable word for the reason, such as `not_entitled`.
    pub reason: String,
    /// The reason in full, at most 256 octets.
    pub detail: String,
    /// How many refusals of this reason, or of this caller, were left out of the log since the last that is in it.
    pub left_out: u64,
}

/// Trust that was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Whose.
    pub subject: Subject,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: String,
}

/// Trust that was given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifted {
    /// Whose.
    pub subject: Subject,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: String,
}

/// What a revocation names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A SPIFFE ID.
    Identity(String),
    /// One certificate.
    Serial(#[serde(with = "text")] Serial),
    /// An enrolled host, with every certificate that was issued on its evidence.
    Host(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(id) => write!(f, "the identity {id}"),
            Self::Serial(serial) => write!(f, "the certificate {serial}"),
            Self::Host(host) => write!(f, "the host {host}"),
        }
    }
}

/// A join token that was made. Its secret is not here, only the hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// The token's public name.
    pub token: String,
    /// The SHA-256 of the secret, which is at least 128 random bits.
    #[serde(with = "text")]
    pub secret: Fingerprint,
    /// The identities that it entitles a host to: exact SPIFFE IDs, or patterns that end in `/*`.
    pub identities: Vec<String>,
    /// Its last second.
    #[serde(with = "seconds")]
    pub expires: Timestamp,
    /// Who made it.
    pub by: String,
}

/// A join token that was used, once and for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsed {
    /// The token's public name.
    pub token: String,
    /// The host that was enrolled with it.
    pub host: String,
}

/// A join token that can be used no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRevoked {
    /// The token's public name.
    pub token: String,
    /// Who revoked it.
    pub by: String,
}

/// A host whose key is evidence from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnrolled {
    /// The host's name.
    pub host: String,
    /// Its key.
    #[serde(with = "public_key")]
    pub key: PublicKey,
    /// The identities that it may ask for.
    pub identities: Vec<String>,
    /// The join token that it came with.
    pub token: String,
}

/// A root or signing certificate that came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityPrepared {
    /// Its key identifier in hexadecimal, by which everything else names it.
    pub authority: String,
    /// Root or signing.
    pub role: Role,
    /// The SHA-256 of the certificate.
    #[serde(with = "text")]
    pub fingerprint: Fingerprint,
    /// The certificate in PEM, followed by those between it and the root.
    pub certificate: String,
    /// First second of validity.
    #[serde(with = "seconds")]
    pub not_before: Timestamp,
    /// Last second of validity.
    #[serde(with = "seconds")]
    pub not_after: Timestamp,
    /// Who or what prepared it.
    pub by: String,
}

/// A step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityStepped {
    /// The authority's key identifier.
    pub authority: String,
    /// The state that it is in from now on.
    pub step: Step,
    /// Why, or who asked.
    pub by: String,
}

/// A sealed key that was sealed with another key-encryption key. The blob itself is no part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthoritySealed {
    /// The authority's key identifier.
    pub authority: String,
    /// Who asked.
    pub by: String,
}

/// A trust bundle that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundlePublished {
    /// Its sequence, greater than that of any bundle before it.
    pub sequence: u64,
    /// The SHA-256 of each root in it.
    #[serde(with = "texts")]
    pub anchors: Vec<Fingerprint>,
}

/// A bundle that has reached somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The bundle's sequence.
    pub generation: u64,
    /// Who has it.
    pub who: String,
}

/// A copy that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Who asked.
    pub by: String,
}

/// The first row of an epoch: where the copy ended that the ledger was restored from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The epoch that the copy was made in.
    pub from_epoch: u64,
    /// The last row of the copy.
    pub last_sequence: u64,
    /// The hash of that row.
    #[serde(with = "text")]
    pub last_hash: RowHash,
    /// That somebody accepted the loss of everything recorded after that row.
    pub accept_loss: bool,
    /// The key that signs the checkpoints of this epoch.
    #[serde(with = "public_key")]
    pub key: PublicKey,
    /// Who asked.
    pub by: String,
}

/// What an authority does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Stands in the trust bundle.
    Root,
    /// Signs leaves.
    Signing,
}

/// Where an authority stands in its rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It exists and nothing is signed with it yet.
    Prepared,
    /// It signs.
    Active,
    /// It signs no more, and is trusted until nothing unexpired chains to it.
    Retired,
    /// It is trusted no more.
    Removed,
}

impl Step {
    /// Whether an authority may go from here to `next`: forwards, back from retired to active (a rotation that is
    /// rolled back), or straight from prepared to removed (one that is given up).
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Prepared, Self::Active | Self::Removed)
                | (Self::Active, Self::Retired)
                | (Self::Retired, Self::Active | Self::Removed)
        )
    }
}

/// Gives an enum of words its text form, both ways.
macro_rules! words {
    ($type:ident, $($variant:ident = $word:literal),*) => {
        impl $type {
            /// The word for it in the ledger and in the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    other => Err(UnknownWord { word: other.to_owned() }),
                }
            }
        }
    };
}

words!(Role, Root = "root", Signing = "signing");
words!(
    Step,
    Prepared = "prepared",
    Active = "active",
    Retired = "retired",
    Removed = "removed"
);

/// A word that names no role or step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a word of the ledger")]
pub struct UnknownWord {
    /// The word.
    pub word: String,
}

#[cfg(test)]
mod tests;
