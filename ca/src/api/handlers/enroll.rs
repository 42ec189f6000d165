//! Answers `/v1/enroll`.

use ferrule_daemon::https::{Body, Reply};
use ferrule_wire::ca::{EnrollReply, EnrollRequest};

use super::{Asking, answer, message};
use crate::api::Api;
use crate::api::status::Fault;

impl Api {
    /// A host key for whoever holds a join token.
    pub(in crate::api) async fn enroll(&self, asking: &Asking<'_>, body: Body) -> Result<Reply, Fault> {
        self.check_address(asking)?;
        let request: EnrollRequest = match message(asking, body).await {
            Ok(request) => request,
            Err(fault) => return Err(self.refuse_unknown(asking, fault).await),
        };
        match self
            .rooms
            .enroller
            .enroll(&request.token, &request.csr, asking.now)
            .await
        {
            Ok(enrolled) => {
                tracing::info!(
                    event = "enrolled",
                    host = enrolled.host,
                    identities = enrolled.identities.join(","),
                    from = asking.address.map(tracing::field::display),
                    "enrolled"
                );
                answer(&EnrollReply {
                    host: enrolled.host,
                    identities: enrolled.identities,
                    server_time: self.now().unix(),
                })
            }
            Err(error) => {
                let fault = Fault::caused(error.word(), &error);
                match error.token() {
                    // Its holder is known by the token, and pays for it like anybody unknown.
                    Some(token) => {
                        let _ = self.charge_address(asking);
                        let caller = format!("token {token}");
                        Err(self.refuse_known(asking, &caller, "", fault).await)
                    }
                    None => Err(self.refuse_unknown(asking, fault).await),
                }
            }
        }
    }
}
