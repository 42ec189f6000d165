//! Answers administrators: `/v1/revoke` and `/v1/status`.

use ferrule_daemon::https::{Body, Reply};
use ferrule_daemon::logging::Chain;
use ferrule_wire::ca::{RevocationSubject, RevokeReply, RevokeRequest};

use super::certificates::certificate_fault;
use super::{Asking, answer, message};
use crate::api::Api;
use crate::api::status::Fault;
use crate::revoking;

impl Api {
    /// Takes trust away, or gives it back, on the record.
    pub(in crate::api) async fn revoke(&self, asking: &Asking<'_>, body: Body) -> Result<Reply, Fault> {
        let caller = self.administrator(asking).await?;
        let request: RevokeRequest = match message(asking, body).await {
            Ok(request) => request,
            Err(fault) => return Err(self.refuse_known(asking, &caller, "", fault).await),
        };
        let wanted = match &request.subject {
            RevocationSubject::Identity(text)
            | RevocationSubject::Serial(text)
            | RevocationSubject::Host(text) => text.clone(),
        };
        let done = async {
            let subject = revoking::subject(&request.subject)?;
            revoking::change(
                self.rooms.ledger.as_ref(),
                subject,
                &request.reason,
                &caller,
                request.lift,
            )
            .await
        };
        match done.await {
            Ok(generation) => {
                let event = if request.lift { "lifted" } else { "revoked" };
                tracing::info!(
                    event,
                    subject = wanted,
                    by = caller,
                    reason = request.reason,
                    "{event}"
                );
                answer(&RevokeReply {
                    generation,
                    server_time: self.now().unix(),
                })
            }
            Err(error) => {
                let fault = Fault::caused(error.word(), &error);
                Err(self.refuse_known(asking, &caller, &wanted, fault).await)
            }
        }
    }

    /// How the CA is.
    pub(in crate::api) async fn status(&self, asking: &Asking<'_>) -> Result<Reply, Fault> {
        self.administrator(asking).await?;
        match self.rooms.overview.read(asking.now).await {
            Ok(status) => answer(&status),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the status could not be read");
                Err(Fault::caused("ledger_unavailable", &error))
            }
        }
    }

    /// The administrator who opened the connection.
    async fn administrator(&self, asking: &Asking<'_>) -> Result<String, Fault> {
        self.check_address(asking)?;
        let trust = self.rooms.trust.borrow().clone();
        let (bundles, revocations) = (&trust.bundles, &trust.revocations);
        let certificates = &self.rooms.certificates;
        let peer = match certificates.identify(asking.certificates, bundles, revocations, asking.now) {
            Ok(peer) => peer,
            Err(error) => return Err(self.refuse_unknown(asking, certificate_fault(&error)).await),
        };
        let caller = format!("certificate {}", peer.id());
        if !self.rooms.admins.contains(peer.id()) {
            let message = format!(
                "{} is not an administrator; the setting `admins` names them",
                peer.id()
            );
            let fault = Fault::new("not_an_administrator", message);
            return Err(self.refuse_known(asking, &caller, "", fault).await);
        }
        match self.charge_caller(&caller) {
            Ok(()) => Ok(caller),
            Err(fault) => Err(self.refuse_known(asking, &caller, "", fault).await),
        }
    }
}
