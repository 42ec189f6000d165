//! Answers what is open to everyone: trust, time, readiness, the API's description.

use bytes::Bytes;
use ferrule_daemon::https::{Reply, reply};
use ferrule_wire::ca::{CrlEntry, CrlListReply, ReadyReply, RevocationsReply, TimeReply};
use http::StatusCode;
use http::header::{CACHE_CONTROL, ETAG, HeaderValue};
use tokio::time::{Instant, sleep_until};

use super::{Asking, answer, ready_made};
use crate::api::Api;
use crate::api::conditional::Asked;
use crate::api::openapi::DOCUMENT;
use crate::api::status::Fault;
use crate::api::trust::Trust;

impl Api {
    pub(in crate::api) async fn bundle(&self, asking: &Asking<'_>) -> Result<Reply, Fault> {
        let version = |trust: &Trust| (trust.sequence, trust.jwks.tag.clone());
        let body = |trust: &Trust| Ok(trust.jwks.body.clone());
        self.versioned(asking, "application/json", version, body).await
    }

    pub(in crate::api) async fn bundle_pem(&self, asking: &Asking<'_>) -> Result<Reply, Fault> {
        let version = |trust: &Trust| (trust.sequence, trust.pem.tag.clone());
        let body = |trust: &Trust| Ok(trust.pem.body.clone());
        self.versioned(asking, "application/pem-certificate-chain", version, body)
            .await
    }

    pub(in crate::api) async fn revocations(&self, asking: &Asking<'_>) -> Result<Reply, Fault> {
        let version = |trust: &Trust| (trust.generation, trust.denied_tag.clone());
        let body = |trust: &Trust| {
            let list = RevocationsReply::from_list(&trust.denied, trust.generation, self.now().unix());
            let body = serde_json::to_vec(&list).map(Bytes::from);
            body.map_err(|error| Fault::new("internal", format!("the list cannot be written: {error}")))
        };
        self.versioned(asking, "application/json", version, body).await
    }

    pub(in crate::api) fn crls(&self, asking: &Asking<'_>) -> Result<Reply, Fault> {
        self.charge_address(asking)?;
        let trust = self.rooms.trust.borrow().clone();
        let entry = |issuer: &String| CrlEntry {
            issuer: issuer.clone(),
            path: format!("/v1/crl/{issuer}.crl"),
        };
        answer(&CrlListReply {
            crls: trust.crls.keys().map(entry).collect(),
            server_time: asking.now.unix(),
        })
    }

    pub(in crate::api) fn crl(&self, asking: &Asking<'_>, issuer: &str) -> Result<Reply, Fault> {
        self.charge_address(asking)?;
        let trust = self.rooms.trust.borrow().clone();
        let none = || {
            Fault::new(
                "not_found",
                "there is no revocation list of that issuer; /v1/crl names those there are",
            )
        };
        let crl = trust.crls.get(issuer).ok_or_else(none)?;
        let asked = Asked::read(None, &asking.head.headers, self.rooms.limits.wait)?;
        let tag = crl.tag.to_str().unwrap_or_default();
        // A number is never asked for here: the query is not read.
        let reply = if asked.has(u64::MAX, tag) {
            not_modified()
        } else {
            ready_made("application/pkix-crl", crl.body.clone())
        };
        Ok(tagged(reply, crl.tag.clone()))
    }

    pub(in crate::api) fn time(&self, asking: &Asking<'_>) -> Result<Reply, Fault> {
        self.charge_address(asking)?;
        answer(&TimeReply {
            server_time: asking.now.unix(),
        })
    }

    pub(in crate::api) fn openapi(&self, asking: &Asking<'_>) -> Result<Reply, Fault> {
        self.charge_address(asking)?;
        Ok(ready_made(
            "application/json",
            Bytes::from_static(DOCUMENT.as_bytes()),
        ))
    }

    /// Never refused, so that whoever watches the CA does not take a limit for a fault.
    pub(in crate::api) fn ready(&self, asking: &Asking<'_>) -> Reply {
        let missing = self.rooms.readiness.check().err().unwrap_or_default();
        let status = if missing.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let message = ReadyReply {
            ready: missing.is_empty(),
            waiting_for: missing.into_iter().map(str::to_owned).collect(),
            server_time: asking.now.unix(),
        };
        let body = serde_json::to_vec(&message).unwrap_or_default();
        reply(status, "application/json", body)
    }

    /// Answers with what there is, or once it is not what the client has any more.
    async fn versioned(
        &self,
        asking: &Asking<'_>,
        content_type: &'static str,
        version: impl Fn(&Trust) -> (u64, HeaderValue),
        body: impl Fn(&Trust) -> Result<Bytes, Fault>,
    ) -> Result<Reply, Fault> {
        self.charge_address(asking)?;
        let (query, headers) = (asking.head.uri.query(), &asking.head.headers);
        let asked = Asked::read(query, headers, self.rooms.limits.wait)?;
        let until = Instant::now() + asked.wait;
        let mut published = self.rooms.trust.clone();
        loop {
            let trust = published.borrow_and_update().clone();
            let (number, tag) = version(&trust);
            if !asked.has(number, tag.to_str().unwrap_or_default()) {
                return Ok(tagged(ready_made(content_type, body(&trust)?), tag));
            }
            let changed = tokio::select! {
                changed = published.changed() => changed.is_ok(),
                () = sleep_until(until) => false,
                () = self.rooms.drain.closing() => false,
            };
            if !changed {
                return Ok(tagged(not_modified(), tag));
            }
        }
    }
}

fn not_modified() -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::NOT_MODIFIED;
    reply
}

fn tagged(mut reply: Reply, tag: HeaderValue) -> Reply {
    reply.headers_mut().insert(ETAG, tag);
    reply
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}
