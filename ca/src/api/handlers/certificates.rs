//! Answers `/v1/issue` and `/v1/renew`.

use ferrule_daemon::https::{Body, Reply};
use ferrule_daemon::logging::Chain;
use ferrule_identity::{SigningRequest, SpiffeId};
use ferrule_wire::ca::{Evidence, IssueReply, IssueRequest};

use super::{Asking, answer, message};
use crate::api::Api;
use crate::api::status::Fault;
use crate::attest::Attested;
use crate::attest::certificate::CertificateFault;
use crate::attest::enroll::request_word;
use crate::attest::host_key::Claim;
use crate::issue::{IssueError, Issued, Wanted};

impl Api {
    /// A certificate for whoever the evidence in the request shows.
    pub(in crate::api) async fn issue(&self, asking: &Asking<'_>, body: Body) -> Result<Reply, Fault> {
        self.check_address(asking)?;
        let request: IssueRequest = match message(asking, body).await {
            Ok(request) => request,
            Err(fault) => return Err(self.refuse_unknown(asking, fault).await),
        };
        let attested = self.attest(asking, &request).await?;
        self.certify(asking, &attested, &request).await
    }

    /// The next certificate for whoever opened the connection with one.
    pub(in crate::api) async fn renew(&self, asking: &Asking<'_>, body: Body) -> Result<Reply, Fault> {
        self.check_address(asking)?;
        let request: IssueRequest = match message(asking, body).await {
            Ok(request) => request,
            Err(fault) => return Err(self.refuse_unknown(asking, fault).await),
        };
        if request.evidence.is_some() {
            let fault = Fault::new(
                "evidence_unexpected",
                "/v1/renew goes by the client certificate alone",
            );
            return Err(self.refuse_unknown(asking, fault).await);
        }
        let trust = self.rooms.trust.borrow().clone();
        let (bundles, revocations) = (&trust.bundles, &trust.revocations);
        let certificates = &self.rooms.certificates;
        let attested = match certificates.identify(asking.certificates, bundles, revocations, asking.now) {
            Ok(peer) => certificates.attest(&peer).await,
            Err(fault) => Err(fault),
        };
        match attested {
            Ok(attested) => self.certify(asking, &attested, &request).await,
            Err(error) => Err(self.refuse_unknown(asking, certificate_fault(&error)).await),
        }
    }

    /// Who asks, by the evidence in the request.
    async fn attest(&self, asking: &Asking<'_>, request: &IssueRequest) -> Result<Attested, Fault> {
        let fault = match &request.evidence {
            None => Fault::new("evidence_missing", "show who is asking: `evidence` is missing"),
            Some(Evidence::KubernetesToken { token }) => match &self.rooms.reviewer {
                None => Fault::new(
                    "kubernetes_not_configured",
                    "this CA takes no Kubernetes tokens: its setting `kubernetes` is missing",
                ),
                Some(reviewer) => match reviewer.attest(token, asking.now).await {
                    Ok(attested) => return Ok(attested),
                    Err(error) => {
                        let fault = Fault::caused(error.word(), &error);
                        // What is the API server's fault tells nothing about the caller.
                        if fault.status().is_server_error() {
                            tracing::warn!(error = %Chain(&error), "a token was not reviewed");
                        }
                        fault
                    }
                },
            },
            Some(Evidence::HostKey {
                host,
                time,
                nonce,
                signature,
            }) => {
                let claim = Claim {
                    host,
                    time: *time,
                    nonce,
                    signature,
                    id: request.id.as_deref().unwrap_or_default(),
                    csr: &request.csr,
                };
                match self.rooms.hosts.attest(&claim, asking.now).await {
                    Ok(attested) => return Ok(attested),
                    Err(error) if error.is_known_caller() => {
                        let caller = format!("host {host}");
                        let fault = Fault::caused(error.word(), &error);
                        let wanted = request.id.as_deref().unwrap_or_default();
                        return Err(self.refuse_known(asking, &caller, wanted, fault).await);
                    }
                    Err(error) => Fault::caused(error.word(), &error),
                }
            }
        };
        Err(self.refuse_unknown(asking, fault).await)
    }

    /// What an attested caller gets.
    async fn certify(
        &self,
        asking: &Asking<'_>,
        attested: &Attested,
        request: &IssueRequest,
    ) -> Result<Reply, Fault> {
        let caller = attested.caller.to_string();
        let wanted = request.id.as_deref().unwrap_or_default();
        let checked = self.charge_caller(&caller).and_then(|()| checked(request));
        let (csr, asked) = match checked {
            Ok(checked) => checked,
            Err(fault) => return Err(self.refuse_known(asking, &caller, wanted, fault).await),
        };
        let (issuer, servers) = (&self.rooms.issuer, &self.rooms.servers);
        let issued = if request.serving {
            issuer.issue_server(attested, &csr, &asked, servers).await
        } else {
            issuer.issue(attested, &csr, &asked).await
        };
        match issued {
            Ok(issued) => {
                log_issued(&issued, &caller);
                let certificates = &self.rooms.certificates;
                certificates.remember(issued.serial, &issued.name, attested.host.as_deref());
                answer(&self.issue_reply(issued))
            }
            // The issuer has recorded it.
            Err(error @ IssueError::Refused(_)) => Err(Fault::caused(error.word(), &error)),
            Err(error) => {
                tracing::error!(caller, error = %Chain(&error), "a certificate could not be issued");
                Err(Fault::new(error.word(), error.to_string()))
            }
        }
    }

    fn issue_reply(&self, issued: Issued) -> IssueReply {
        IssueReply {
            id: issued.name,
            certificates: issued.chain_pem,
            serial: issued.serial.to_string(),
            not_before: issued.lifetime.not_before().unix(),
            not_after: issued.lifetime.not_after().unix(),
            renew_at: issued.renew_at.unix(),
            server_time: self.now().unix(),
            bundle_sequence: self.rooms.trust.borrow().sequence,
        }
    }
}

/// The checked form of what is asked for.
fn checked(request: &IssueRequest) -> Result<(SigningRequest, Wanted), Fault> {
    let id = request.id.as_deref().map(SpiffeId::parse).transpose();
    let id = id.map_err(|error| Fault::new("id_invalid", format!("`id`: {error}")))?;
    let csr = SigningRequest::from_pem(&request.csr)
        .map_err(|error| Fault::caused(request_word(&error), &error))?;
    Ok((
        csr,
        Wanted {
            id,
            lifetime: request.lifetime_seconds,
        },
    ))
}

fn log_issued(issued: &Issued, caller: &str) {
    tracing::info!(
        event = "issued",
        id = issued.name,
        serial = %issued.serial,
        caller,
        not_after = %issued.lifetime.not_after(),
        issuer = issued.issuer,
        "issued"
    );
}

pub(super) fn certificate_fault(error: &CertificateFault) -> Fault {
    Fault::caused(error.word(), error)
}
