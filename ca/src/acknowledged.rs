//! Asks the directory which live proxies hold the newest bundle.

use std::collections::BTreeSet;
use std::sync::Arc;

use ferrule_credentials::directory::Directories;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::{TrustCell, TrustSnapshot};
use ferrule_identity::{
    Bundles, CertificateError, KeyAlgorithm, KeyError, PrivateKey, RequestError, SigningRequest, SpiffeId,
    SpiffeIdError, TrustBundle, WorkloadCertificate,
};
use ferrule_wire::directory::HOST_ACCOUNT;

use crate::authority::{Acknowledgements, Lagging};
use crate::config::DirectoryConfig;
use crate::crypto::CryptoProfile;
use crate::instance::Instance;
use crate::issue::{IssueError, Wanted};
use crate::ledger::Ledger;

/// What the directories say, beside what the ledger knows of live certificates.
pub struct Reported {
    directories: Directories,
    ledger: Arc<dyn Ledger>,
    /// Who has a certificate and is no proxy: the directory, and the CA itself.
    others: BTreeSet<String>,
}

impl Reported {
    /// Asks the directories of `config`, with a certificate of the shortest life that the CA issues for that to itself.
    ///
    /// # Errors
    /// When the CA cannot issue it.
    pub async fn new(ca: &Instance, config: &DirectoryConfig) -> Result<Self, ReportedError> {
        let domain = &ca.trust_domain;
        let system = |account| {
            SpiffeId::workload(domain, SYSTEM, account).map_err(|source| ReportedError::Identity { source })
        };
        let id = config
            .id
            .clone()
            .map_or_else(|| system("ferrule-directory"), Ok)?;
        let own = system("ferrule-ca")?;
        let algorithm = match ca.config.crypto {
            CryptoProfile::Standard => KeyAlgorithm::EcdsaP256,
            CryptoProfile::Cnsa1 => KeyAlgorithm::EcdsaP384,
        };
        let key = PrivateKey::generate(algorithm).map_err(|source| ReportedError::Key { source })?;
        let request = SigningRequest::build_pem(&key)
            .and_then(|pem| SigningRequest::from_pem(&pem))
            .map_err(|source| ReportedError::Request { source })?;
        let wanted = Wanted {
            id: Some(own.clone()),
            lifetime: i64::try_from(ca.config.leaf.min_lifetime.as_secs()).ok(),
        };
        let issued = ca.issuer.issue(&ca.operator(), &request, &wanted).await;
        let issued = issued.map_err(|source| ReportedError::Issue { source })?;
        let view = ca.authorities.view();
        let (sequence, roots) = (view.slots().sequence(), view.trusted_roots());
        let bundle = TrustBundle::new(domain.clone(), sequence, None, &roots, ca.now())
            .map_err(|source| ReportedError::Bundle { source })?;
        let certificate = WorkloadCertificate::from_pem(&issued.chain_pem, key, &bundle, ca.now())
            .map_err(|source| ReportedError::Certificate { source })?;
        let trust = TrustCell::new(TrustSnapshot {
            bundles: Bundles::from_iter([bundle]),
            ..TrustSnapshot::default()
        });
        let others = BTreeSet::from([id.to_string(), own.to_string()]);
        Ok(Self {
            directories: Directories {
                addresses: config.addresses.clone(),
                id,
                own: certificate,
                trust: Arc::new(trust),
                clock: ca.clock.clone(),
            },
            ledger: ca.shared_ledger(),
            others,
        })
    }

    async fn ask(&self, sequence: u64) -> Result<Vec<String>, String> {
        let proxies = self.directories.proxies().await;
        let proxies = proxies.map_err(|error| Chain(&error).to_string())?;
        let live = self.ledger.live_identities().await;
        let live = live.map_err(|error| Chain(&error).to_string())?;
        let behind = proxies.iter().filter(|proxy| proxy.bundle_sequence < sequence);
        let mut lagging: Vec<String> = behind
            .map(|proxy| {
                let state = if proxy.connected_since == 0 { ", away" } else { "" };
                format!("{} ({} at {}{state})", proxy.identity, proxy.name, proxy.address)
            })
            .collect();
        // A directory that was started anew knows nothing of a proxy that has not come back.
        let reported: BTreeSet<&str> = proxies.iter().map(|proxy| proxy.identity.as_str()).collect();
        let unseen = live
            .iter()
            .filter(|id| id.starts_with("spiffe://"))
            .filter(|id| !reported.contains(id.as_str()) && !self.others.contains(*id))
            // A host that speaks for its workloads is no proxy; theirs are asked.
            .filter(|id| !id.ends_with(&format!("/sa/{HOST_ACCOUNT}")));
        lagging.extend(
            unseen.map(|id| format!("{id} (has a live certificate, and no proxy of it has reported)")),
        );
        Ok(lagging)
    }
}

impl Acknowledgements for Reported {
    fn lagging(&self, sequence: u64) -> Lagging<'_> {
        Box::pin(self.ask(sequence))
    }
}

/// The namespace of the mesh's own programs.
const SYSTEM: &str = "ferrule-system";

/// Why the directory cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ReportedError {
    /// Fixed words make no identity of this trust domain.
    #[error("cannot name the CA as a caller")]
    Identity {
        /// Why.
        source: SpiffeIdError,
    },
    /// No key.
    #[error("cannot make a key to ask the directory with")]
    Key {
        /// Why.
        source: KeyError,
    },
    /// No request.
    #[error("cannot make a request for a certificate to ask the directory with")]
    Request {
        /// Why.
        source: RequestError,
    },
    /// No certificate.
    #[error("cannot issue a certificate to ask the directory with")]
    Issue {
        /// Why.
        source: IssueError,
    },
    /// No bundle.
    #[error("cannot tell whom to trust as the directory")]
    Bundle {
        /// Why.
        source: ferrule_identity::BundleError,
    },
    /// A certificate that nobody would take.
    #[error("the certificate to ask the directory with cannot be used")]
    Certificate {
        /// Why.
        source: CertificateError,
    },
}
