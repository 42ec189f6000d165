//! Knows enrolled hosts by statements that they sign with their keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ferrule_identity::{KeyError, PublicKey, SpiffeIdError, Timestamp, TrustDomain};
use ferrule_wire::ca::host_statement;
use tokio::sync::watch;

use super::statements::{StatementFault, Statements};
use super::{Attested, Caller, CallerKind, Entitlement, IdPattern};
use crate::ledger::{Generations, Ledger, LedgerError};

/// Checks host statements against the enrolled keys.
#[derive(Debug)]
pub struct HostKeys {
    ledger: Arc<dyn Ledger>,
    trust_domain: TrustDomain,
    generations: watch::Receiver<Generations>,
    known: Mutex<Known>,
    statements: Mutex<Statements>,
}

/// The hosts that were looked up since the last change of any host.
#[derive(Debug)]
struct Known {
    generation: u64,
    capacity: usize,
    hosts: HashMap<String, Arc<EnrolledHost>>,
}

#[derive(Debug)]
struct EnrolledHost {
    key: PublicKey,
    entitlement: Entitlement,
    revoked: bool,
}

/// What a host says: that it wants this request answered, for this identity.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// The host's name.
    pub host: &'a str,
    /// When it made the statement, Unix seconds.
    pub time: i64,
    /// The statement's nonce, as it was sent.
    pub nonce: &'a str,
    /// The signature, as it was sent.
    pub signature: &'a str,
    /// The identity that is asked for, as it was sent; empty when none was.
    pub id: &'a str,
    /// The request, as it was sent.
    pub csr: &'a str,
}

impl HostKeys {
    /// Knows the hosts in `ledger`; remembers up to `capacity` of them, and the statements in `statements`.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        trust_domain: TrustDomain,
        capacity: usize,
        statements: Statements,
    ) -> Self {
        let generations = ledger.watch();
        let known = Known {
            generation: generations.borrow().hosts,
            capacity,
            hosts: HashMap::new(),
        };
        Self {
            ledger,
            trust_domain,
            generations,
            known: Mutex::new(known),
            statements: Mutex::new(statements),
        }
    }

    /// Who made `claim`. It is taken once: a second one with the same nonce is refused.
    ///
    /// A host that was revoked may be known here for up to a second more; the ledger itself refuses to record a
    /// certificate for it.
    ///
    /// # Errors
    /// When the claim is malformed, not fresh or used, its host is unknown or revoked, or its signature is not the
    /// host's over exactly what was sent.
    pub async fn attest(&self, claim: &Claim<'_>, now: Timestamp) -> Result<Attested, HostError> {
        let nonce = decode(&URL_SAFE_NO_PAD, claim.nonce, MAX_NONCE_BYTES)
            .filter(|nonce| nonce.len() >= MIN_NONCE_BYTES)
            .ok_or(HostError::Malformed { field: "nonce" })?;
        let signature = decode(&STANDARD, claim.signature, MAX_SIGNATURE_BYTES)
            .ok_or(HostError::Malformed { field: "signature" })?;
        let statement = host_statement(
            self.trust_domain.as_str(),
            claim.host,
            claim.time,
            claim.nonce,
            claim.id,
            claim.csr,
        )
        .ok_or(HostError::Malformed { field: "text" })?;
        let time = Timestamp::from_unix(claim.time);
        Statements::fresh(time, now)?;
        let host = self.host(claim.host).await?;
        host.key
            .verify(&statement, &signature)
            .map_err(|source| HostError::Signature { source })?;
        // Only who holds the key learns that it was revoked, and is named in the ledger for trying.
        if host.revoked {
            return Err(HostError::Revoked {
                host: claim.host.to_owned(),
            });
        }
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.take(claim.host, &nonce, time, now)?;
        drop(statements);
        Ok(Attested {
            caller: Caller::new(CallerKind::Host, claim.host),
            entitlement: host.entitlement.clone(),
            host: Some(claim.host.to_owned()),
        })
    }

    async fn host(&self, name: &str) -> Result<Arc<EnrolledHost>, HostError> {
        let generation = self.generations.borrow().hosts;
        if let Some(host) = self.known(|known| known.at(generation).get(name).cloned()) {
            return Ok(host);
        }
        let unknown = || HostError::Unknown;
        if name.is_empty() || name.len() > MAX_HOST_BYTES {
            return Err(unknown());
        }
        let found = self
            .ledger
            .host(name.to_owned())
            .await
            .map_err(|source| HostError::Ledger { source })?;
        let found = found.ok_or_else(unknown)?;
        let patterns: Result<Vec<IdPattern>, _> = found.identities.iter().map(|text| text.parse()).collect();
        let patterns = patterns.map_err(|source| HostError::Record {
            host: name.to_owned(),
            source,
        })?;
        let host = Arc::new(EnrolledHost {
            key: found.key,
            entitlement: Entitlement::new(patterns),
            revoked: found.revoked,
        });
        // Kept under the generation that was current before the look-up: if it changed meanwhile, the next caller
        // looks again.
        self.known(|known| known.keep(generation, name, &host));
        Ok(host)
    }

    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    /// The hosts as of `generation`; none when it is a later one than those that are kept.
    fn at(&mut self, generation: u64) -> &HashMap<String, Arc<EnrolledHost>> {
        if self.generation != generation {
            self.generation = generation;
            self.hosts.clear();
        }
        &self.hosts
    }

    fn keep(&mut self, generation: u64, name: &str, host: &Arc<EnrolledHost>) {
        if self.generation != generation {
            return;
        }
        if self.hosts.len() >= self.capacity {
            self.hosts.clear();
        }
        self.hosts.insert(name.to_owned(), host.clone());
    }
}

/// The bytes that `text` encodes, when they are at most `limit`.
fn decode(engine: &impl Engine, text: &str, limit: usize) -> Option<Vec<u8>> {
    let longest = limit.div_ceil(3) * 4;
    if text.len() > longest {
        return None;
    }
    engine.decode(text).ok().filter(|bytes| bytes.len() <= limit)
}

/// Why a claim does not show who made it.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A field is not of its form.
    #[error("the host statement's {field} is malformed")]
    Malformed {
        /// Which one.
        field: &'static str,
    },
    /// Not fresh, used before, or there is no room to remember it.
    #[error(transparent)]
    Statement(#[from] StatementFault),
    /// No such host is enrolled.
    #[error("no host of that name is enrolled here; enrol it with a join token")]
    Unknown,
    /// The host was revoked.
    #[error("the host {host} is revoked")]
    Revoked {
        /// Which one.
        host: String,
    },
    /// Not signed by the host, or something else was signed than what was sent.
    #[error(
        "the statement's signature is not the host's over this trust domain, host, time, nonce, identity and request"
    )]
    Signature {
        /// What the check reported.
        source: KeyError,
    },
    /// The ledger cannot be read.
    #[error("cannot look up the host")]
    Ledger {
        /// The cause.
        source: LedgerError,
    },
    /// What the ledger has about the host cannot be used.
    #[error("the record of the host {host} names no identities that can be read")]
    Record {
        /// Which one.
        host: String,
        /// What is wrong.
        source: SpiffeIdError,
    },
}

impl HostError {
    /// The stable word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "statement_malformed",
            Self::Statement(StatementFault::Stale { .. }) => "statement_stale",
            Self::Statement(StatementFault::Replayed) => "statement_replayed",
            Self::Statement(StatementFault::Full { .. }) => "statements_full",
            Self::Unknown => "host_unknown",
            Self::Revoked { .. } => "host_revoked",
            Self::Signature { .. } => "statement_signature",
            Self::Ledger { .. } => "ledger_unavailable",
            Self::Record { .. } => "internal",
        }
    }

    /// Whether the caller has shown that it holds the host's key.
    pub const fn is_known_caller(&self) -> bool {
        matches!(
            self,
            Self::Revoked { .. } | Self::Statement(StatementFault::Replayed | StatementFault::Full { .. })
        )
    }
}

const MIN_NONCE_BYTES: usize = 16;
const MAX_NONCE_BYTES: usize = 64;

/// RSA-4096 has 512.
const MAX_SIGNATURE_BYTES: usize = 512;

/// As long as a DNS name.
const MAX_HOST_BYTES: usize = 253;
