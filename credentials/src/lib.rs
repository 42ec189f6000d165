//! Keeps a workload's certificate and trust bundle fresh.
//!
//! Everybody of Ferrule who shows a certificate gets it here: from the CA ([`keeper`]), or from files that another
//! authority keeps ([`files`]). What comes is verified by the rules of a peer before it is used. Reading order:
//! [`connection`] (one HTTPS connection), [`client`] (the CA's API), [`join`] (a host's first contact),
//! [`evidence`], [`renewal`] (when and what next), [`trust`], [`keeper`], [`files`], [`store`], [`source`] (which of
//! these a program's settings name).

pub mod client;
pub mod connection;
pub mod directory;
pub mod evidence;
pub mod files;
pub mod join;
pub mod keeper;
pub mod peer;
pub mod remember;
pub mod renewal;
pub mod source;
pub mod store;
pub mod trust;
pub mod workload_api;

use std::sync::Arc;

use ferrule_identity::WorkloadCertificate;
use ferrule_identity::tls::TrustSnapshot;

/// What a workload shows, and whom it trusts, at one time. A value: whoever has one has both halves of one moment.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// What it shows.
    pub certificate: WorkloadCertificate,
    /// Whom it trusts.
    pub trust: Arc<TrustSnapshot>,
}

/// Where the newest credentials are, for whoever watches them; none until the first have come.
pub type Newest = tokio::sync::watch::Receiver<Option<Arc<Credentials>>>;
