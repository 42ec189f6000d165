//! Looks at the CA from outside: its newest bundle, its clock, how long its own certificates last.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::client::{Anchor, CaClient, Fetched, Since, now as as_now};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::dial::dial_name;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::{ServerVerifier, TrustCell, TrustSnapshot, control_client_config};
use ferrule_identity::{Bundles, CertificateInfo, Revocations, Timestamp, TrustBundle, TrustDomain};
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Limits;
use super::finding::Looked;
use super::sidecar::{clock_fault, ending};
use crate::arguments::Check;
use crate::failure::Failure;
use crate::state::Running;

/// A CA to look at.
pub(super) struct Authority {
    address: String,
    trust_domain: TrustDomain,
    trust: Arc<TrustCell>,
}

impl Authority {
    /// The CA that is named, or the one of the mesh that runs.
    pub(super) fn of(
        arguments: &Check,
        running: Option<&Running>,
        now: Timestamp,
    ) -> Result<Option<Self>, Failure> {
        let (url, bundle, domain) = match (&arguments.ca, &arguments.bundle, &arguments.trust_domain, running)
        {
            (Some(url), Some(bundle), Some(domain), _) => (url.clone(), bundle.clone(), domain.clone()),
            (None, _, _, Some(running)) => {
                let mesh = &running.mesh;
                let domain = TrustDomain::parse(&mesh.trust_domain);
                let domain = domain.map_err(Failure::could_not("read the trust domain"))?;
                (mesh.ca.url.clone(), mesh.ca.bundle.clone(), domain)
            }
            _ => return Ok(None),
        };
        let text = fs::read_to_string(&bundle);
        let text = text.map_err(Failure::could_not(format!("read {}", bundle.display())))?;
        let read = TrustBundle::from_pem(domain.clone(), &text, now);
        let read = read.map_err(Failure::could_not(format!("use {}", bundle.display())))?;
        let address = url.strip_prefix("https://").unwrap_or(&url).trim_end_matches('/');
        Ok(Some(Self {
            address: address.to_owned(),
            trust_domain: domain,
            trust: Arc::new(TrustCell::new(TrustSnapshot {
                bundles: Bundles::from_iter([read]),
                revocations: Revocations::empty(),
            })),
        }))
    }

    /// Looks at it; the number of its newest bundle.
    pub(super) async fn look(&mut self, limits: &Limits, looked: &mut Looked) -> Option<u64> {
        let place = format!("the CA at {}", self.address);
        let mut client = CaClient::new(
            vec![self.address.clone()],
            self.trust_domain.clone(),
            Anchor::Trust(Arc::clone(&self.trust)),
            Clock::system(),
        );
        let bundle = match client.bundle(Since::default()).await {
            Ok(Fetched::New { value, .. }) => value,
            Ok(Fetched::Unchanged) => return None,
            Err(error) => {
                looked.unseen(&place, &Chain(&error).to_string());
                return None;
            }
        };
        looked.check(clock_fault("this machine", client.skew()));
        for anchor in bundle.anchors().iter().chain(bundle.expired()) {
            let life = anchor.lifetime();
            let fault = limits.is_near(life.not_before(), life.not_after());
            let what = format!("the root {:.16}", anchor.fingerprint().to_string());
            looked.check(fault.then(|| ending(&place, &what, life.not_after(), limits.now)));
        }
        match self.presented().await {
            Ok(chain) => {
                for (at, info) in chain.iter().enumerate() {
                    let what = if at == 0 {
                        "its serving certificate"
                    } else {
                        "the signing certificate"
                    };
                    let (starts, ends) = (info.lifetime.not_before(), info.lifetime.not_after());
                    // The serving certificate is renewed by the CA itself, as leaves are by sidecars.
                    let fault = if at == 0 {
                        ends.since(limits.now) < ends.since(starts) / 5
                    } else {
                        limits.is_near(starts, ends)
                    };
                    looked.check(fault.then(|| ending(&place, what, ends, limits.now)));
                }
            }
            Err(error) => looked.unseen(&place, &Chain(&error).to_string()),
        }
        Some(bundle.sequence())
    }

    /// The certificates that it shows.
    async fn presented(&self) -> Result<Vec<CertificateInfo>, Failure> {
        let verifier = ServerVerifier::new(self.trust_domain.clone(), Arc::clone(&self.trust));
        let config = control_client_config(verifier, None, &[b"http/1.1"], as_now(&Clock::system()));
        let connector = TlsConnector::from(Arc::new(config.map_err(Failure::could_not(LOOKING))?));
        let (host, port) = self
            .address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
            .ok_or("an address is written HOST:PORT")
            .map_err(Failure::could_not(LOOKING))?;
        let name = ServerName::try_from(host.to_owned()).map_err(Failure::could_not(LOOKING))?;
        let tcp = dial_name(host, port, LIMIT)
            .await
            .map_err(Failure::could_not(LOOKING))?;
        let shaken = timeout(LIMIT, connector.connect(name, tcp)).await;
        let tls = shaken
            .map_err(Failure::could_not(LOOKING))?
            .map_err(Failure::could_not(LOOKING))?;
        let shown = tls.get_ref().1.peer_certificates().unwrap_or_default();
        shown
            .iter()
            .map(|der| CertificateInfo::from_der(der).map_err(Failure::could_not(LOOKING)))
            .collect()
    }
}

const LOOKING: &str = "look at its certificates";

/// How long the CA may take to be reached, and then to shake hands.
const LIMIT: Duration = Duration::from_secs(5);
