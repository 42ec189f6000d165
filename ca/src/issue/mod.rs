//! Issues certificates: admits, signs, checks, records, and only then answers.

pub mod admit;
pub mod error;
pub mod measure;
mod sign;
mod template;

use std::fmt;
use std::sync::Arc;

use ferrule_daemon::clock::Clock;
use ferrule_identity::{Lifetime, PublicKey, SigningRequest, SpiffeId, Timestamp};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::attest::{Attested, Caller, CallerKind};
use crate::authority::Authorities;
use crate::ledger::event::{self, Event};
use crate::ledger::refusals::{self, Refusals};
use crate::ledger::{Conflict, Ledger, LedgerError, Serial};

pub use admit::{LeafPolicy, Wanted};
pub use error::{IssueError, Refusal};

pub(crate) use template::random_serial;

use sign::Signed;
use template::Profile;

/// A certificate that is recorded and may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Whom it names: the SPIFFE ID, or the names of a serving certificate with commas between them.
    pub name: String,
    /// Leaf first, then the signing certificates below the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The same in PEM.
    pub chain_pem: String,
    /// The leaf's serial number.
    pub serial: Serial,
    /// The leaf's life.
    pub lifetime: Lifetime,
    /// When the client should renew, before its own jitter: after a third of the life that was ahead of it.
    pub renew_at: Timestamp,
    /// The key identifier of the authority that signed it, in hexadecimal.
    pub issuer: String,
}

/// Who may have a serving certificate, and for which names.
pub type Servers = std::collections::HashMap<SpiffeId, Vec<ServerName<'static>>>;

/// The only way to a certificate.
///
/// Every certificate is verified by the rules that a peer will use, then made durable in the ledger, and only then
/// handed out. Cheap to clone.
#[derive(Clone)]
pub struct Issuer {
    authorities: Arc<Authorities>,
    ledger: Arc<dyn Ledger>,
    refusals: Arc<Refusals>,
    clock: Clock,
    policy: Arc<LeafPolicy>,
}

impl Issuer {
    /// Issues what `policy` allows, with whatever signing certificate `authorities` has active at the moment.
    pub fn new(
        authorities: Arc<Authorities>,
        ledger: Arc<dyn Ledger>,
        refusals: Arc<Refusals>,
        clock: Clock,
        policy: LeafPolicy,
    ) -> Self {
        Self {
            authorities,
            ledger,
            refusals,
            clock,
            policy: Arc::new(policy),
        }
    }

    /// What is issued to workloads at all.
    pub fn policy(&self) -> &LeafPolicy {
        &self.policy
    }

    /// Issues a workload certificate to `caller` for the key of `request`.
    ///
    /// The answer is in the ledger before it is here. So is a refusal, when it is the caller's fault.
    ///
    /// # Errors
    /// [`IssueError::Refused`] with the reason; everything else is the CA's own trouble.
    pub async fn issue(
        &self,
        caller: &Attested,
        request: &SigningRequest,
        wanted: &Wanted,
    ) -> Result<Issued, IssueError> {
        let key = request.public_key();
        let admitted = match admit::admit(caller, key, request.asked(), wanted, &self.policy) {
            Ok(admitted) => admitted,
            Err(refusal) => return Err(self.refused(caller, wanted, refusal).await),
        };
        let profile = Profile::Workload(admitted.id.clone());
        match self.make(caller, &profile, key, admitted.lifetime).await {
            Err(IssueError::Refused(refusal)) => Err(self.refused(caller, wanted, refusal).await),
            made => made,
        }
    }

    /// Issues a serving certificate to `caller`, a part of the control plane elsewhere, for the names that `servers`
    /// gives the one identity it may have. It is never accepted as a peer's.
    ///
    /// # Errors
    /// [`IssueError::Refused`] with the reason; everything else is the CA's own trouble.
    pub async fn issue_server(
        &self,
        caller: &Attested,
        request: &SigningRequest,
        wanted: &Wanted,
        servers: &Servers,
    ) -> Result<Issued, IssueError> {
        let key = request.public_key();
        let admitted = admit::admit(caller, key, request.asked(), wanted, &self.policy);
        let named = admitted.and_then(|admitted| match servers.get(&admitted.id) {
            Some(names) => Ok((names.clone(), admitted.lifetime)),
            None => Err(Refusal::NoServer { id: admitted.id }),
        });
        match named {
            Ok((names, lifetime)) => self.make(caller, &Profile::Serving(names), key, lifetime).await,
            Err(refusal) => Err(self.refused(caller, wanted, refusal).await),
        }
    }

    /// Issues a serving certificate of the CA itself, for `names` from its configuration, to `key`. It is
    /// never accepted as a peer's.
    ///
    /// # Errors
    /// When there is no name, or the CA cannot issue.
    pub async fn issue_serving(
        &self,
        names: &[ServerName<'static>],
        key: &PublicKey,
    ) -> Result<Issued, IssueError> {
        if names.is_empty() {
            return Err(IssueError::ServingName { name: String::new() });
        }
        let caller = Attested {
            caller: Caller::new(CallerKind::Operator, "serving"),
            entitlement: crate::attest::Entitlement::default(),
            host: None,
        };
        let profile = Profile::Serving(names.to_vec());
        self.make(&caller, &profile, key, self.policy.default_lifetime)
            .await
    }

    /// Signs, records, and only then answers.
    async fn make(
        &self,
        caller: &Attested,
        profile: &Profile,
        key: &PublicKey,
        lifetime: std::time::Duration,
    ) -> Result<Issued, IssueError> {
        let now = Timestamp::from(self.clock.now());
        let signer = self
            .authorities
            .active_signer()
            .map_err(|error| IssueError::NoSigner {
                reason: error.to_string(),
            })?;
        let chain = signer.lifetime();
        if !chain.contains(now) {
            return Err(IssueError::ChainNotValid { lifetime: chain, now });
        }
        let life = template::leaf_life(lifetime, chain, now)
            .filter(|life| life.left(now) >= self.policy.min_lifetime)
            .ok_or(IssueError::EndsTooSoon {
                ends: chain.not_after(),
                min: self.policy.min_lifetime,
            })?;
        let Signed { leaf, serial } = sign::sign(profile, key, life, &signer, now)?;
        let record = event::Issued {
            serial,
            id: profile.name(),
            profile: profile.as_str().to_owned(),
            issuer: signer.authority().to_owned(),
            not_before: life.not_before(),
            not_after: life.not_after(),
            key: key.fingerprint(),
            caller: caller.caller.to_string(),
            evidence: caller.caller.kind().as_str().to_owned(),
            host: caller.host.clone(),
        };
        let name = record.id.clone();
        match self.ledger.append(vec![Event::from(record).into()]).await {
            Ok(_) => {}
            Err(LedgerError::Conflict(Conflict::IdentityRevoked { id })) => {
                return Err(Refusal::IdentityRevoked { id }.into());
            }
            Err(LedgerError::Conflict(Conflict::HostRevoked { host } | Conflict::HostUnknown { host })) => {
                return Err(Refusal::HostRevoked { host }.into());
            }
            Err(source) => return Err(IssueError::Record { name, source }),
        }
        Ok(Issued {
            name,
            chain_pem: signer.chain_pem(&leaf),
            chain: signer.chain(leaf),
            serial,
            lifetime: life,
            renew_at: template::renew_at(life, now),
            issuer: signer.authority().to_owned(),
        })
    }

    /// Writes a refusal down. That it could not be written does not make it less of a refusal.
    async fn refused(&self, caller: &Attested, wanted: &Wanted, refusal: Refusal) -> IssueError {
        let asked = wanted
            .id
            .as_ref()
            .map_or_else(|| "a certificate".into(), ToString::to_string);
        let record = refusals::Refusal {
            caller: Some(caller.caller.to_string()),
            asked,
            reason: refusal.word(),
            detail: refusal.to_string(),
        };
        if let Err(error) = self.refusals.record(record).await {
            tracing::warn!(caller = %caller.caller, reason = refusal.word(), %error, "refusal not recorded");
        }
        refusal.into()
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
