//! Stands for the hosts and workloads that ask the CA.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use ferrule_credentials::client::now;
use ferrule_credentials::connection::Connection;
use ferrule_credentials::join::{Host, join};
use ferrule_daemon::clock::Clock;
use ferrule_identity::tls::{Presented, ServerVerifier, TrustCell, control_client_config};
use ferrule_identity::{KeyAlgorithm, PrivateKey, SigningRequest, SpiffeId, Timestamp, WorkloadCertificate};
use ferrule_wire::JoinToken;
use ferrule_wire::ca::{IssueReply, IssueRequest};
use http::Method;

use super::load::{Ask, LIMIT};

/// A host that has entered, with the trust of all its workloads.
#[derive(Debug)]
pub(crate) struct Callers {
    host: Host,
    trust: Arc<TrustCell>,
    clock: Clock,
}

impl Callers {
    /// Enters with `token`.
    pub(crate) async fn enter(token: &JoinToken) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let host = join(token, &clock).await.context("cannot enter with the token")?;
        Ok(Self {
            trust: Arc::new(host.trust()),
            host,
            clock,
        })
    }

    /// A connection as a workload that shows `own`, or as one that shows nothing.
    pub(crate) async fn connect(&self, own: Option<&WorkloadCertificate>) -> anyhow::Result<Connection> {
        let own = own.map(Presented::workload).transpose()?;
        let verifier = ServerVerifier::new(self.host.trust_domain.clone(), self.trust.clone());
        let tls = control_client_config(verifier, own.as_ref(), &[b"http/1.1"], now(&self.clock))?;
        let address = self
            .host
            .addresses
            .first()
            .context("the token names no address")?;
        Ok(Connection::open(address, Arc::new(tls)).await?)
    }

    /// A request for another certificate over a connection that shows one.
    pub(crate) fn renewal(&self, asker: &Asker) -> anyhow::Result<Ask> {
        ask(
            "/v1/renew",
            &IssueRequest {
                csr: asker.csr.clone(),
                id: None,
                lifetime_seconds: None,
                serving: false,
                evidence: None,
            },
        )
    }

    /// A request for a certificate on a fresh statement of the host.
    pub(crate) fn statement(&self, asker: &Asker) -> anyhow::Result<Ask> {
        let now = Timestamp::from_unix(self.clock.unix());
        let evidence = self
            .host
            .evidence()
            .show(&self.host.trust_domain, &asker.id, &asker.csr, now)?;
        let (csr, id) = (asker.csr.clone(), Some(asker.id.to_string()));
        ask(
            "/v1/issue",
            &IssueRequest {
                csr,
                id,
                lifetime_seconds: None,
                serving: false,
                evidence,
            },
        )
    }

    /// A first certificate for each of `askers`.
    pub(crate) async fn certificates(&self, askers: &[Asker]) -> anyhow::Result<Vec<WorkloadCertificate>> {
        let mut connection = self.connect(None).await?;
        let mut certificates = Vec::with_capacity(askers.len());
        for asker in askers {
            let Ask {
                method,
                path,
                headers,
                body,
            } = self.statement(asker)?;
            let answer = connection.ask(method, path, &headers, body, LIMIT).await?;
            certificates.push(self.certificate(asker, &answer.body)?);
        }
        Ok(certificates)
    }

    /// What the CA answered, verified as a workload does.
    pub(crate) fn certificate(&self, asker: &Asker, answer: &[u8]) -> anyhow::Result<WorkloadCertificate> {
        let text = || String::from_utf8_lossy(answer).into_owned();
        let reply: IssueReply = serde_json::from_slice(answer).with_context(text)?;
        let trust = self.trust.load();
        let bundle = trust.bundles.of(&self.host.trust_domain).context("no bundle")?;
        let key = PrivateKey::from_pem(&asker.key.to_pem())?;
        let now = Timestamp::from_unix(self.clock.unix());
        Ok(WorkloadCertificate::from_pem(
            &reply.certificates,
            key,
            bundle,
            now,
        )?)
    }
}

/// A workload with a key, and a request over it.
#[derive(Debug)]
pub(crate) struct Asker {
    id: SpiffeId,
    key: PrivateKey,
    csr: String,
}

impl Asker {
    /// `count` workloads of `group`, each with a key of its own.
    pub(crate) fn several(group: &str, count: usize) -> anyhow::Result<Vec<Self>> {
        let made = (0..count).map(|number| {
            let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
            let csr = SigningRequest::build_pem(&key)?;
            let id = format!(
                "spiffe://{}/ns/bench/sa/{group}-{number}",
                super::server::TRUST_DOMAIN
            );
            Ok(Self {
                id: SpiffeId::parse(&id)?,
                key,
                csr,
            })
        });
        made.collect()
    }
}

fn ask(path: &'static str, request: &IssueRequest) -> anyhow::Result<Ask> {
    let body = Bytes::from(serde_json::to_vec(request)?);
    Ok(Ask {
        method: Method::POST,
        path,
        headers: Vec::new(),
        body,
    })
}

/// Requests that cost the CA nothing but TLS and HTTP.
pub(crate) fn idle_asks(count: usize) -> Vec<Ask> {
    let ask = Ask {
        method: Method::GET,
        path: "/v1/time",
        headers: Vec::new(),
        body: Bytes::new(),
    };
    vec![ask; count]
}
