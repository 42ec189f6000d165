//! Answers each kind of request, one file for each.

mod admin;
mod certificates;
mod enroll;
mod public;

use std::net::IpAddr;

use bytes::Bytes;
use ferrule_daemon::https::{Body, BodyError, Peer, Reply, reply};
use ferrule_daemon::logging::Foreign;
use ferrule_identity::Timestamp;
use ferrule_wire::ca::read;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::accountable;
use super::routes::Route;
use super::status::Fault;

/// What is known of a request before its body is read.
pub(super) struct Asking<'a> {
    pub(super) route: &'a Route,
    pub(super) head: &'a Parts,
    /// Where it comes from, as far as that can be held to account; `None` through a Unix socket.
    pub(super) address: Option<IpAddr>,
    /// What was shown when the connection was opened, leaf first.
    pub(super) certificates: &'a [CertificateDer<'static>],
    /// The CA's clock when the request came.
    pub(super) now: Timestamp,
}

impl<'a> Asking<'a> {
    pub(super) fn new(route: &'a Route, head: &'a Parts, peer: Option<&'a Peer>, now: Timestamp) -> Self {
        Self {
            route,
            head,
            address: peer.and_then(|peer| peer.address.ip()).map(accountable),
            certificates: peer.map_or(&[], |peer| &peer.certificates),
            now,
        }
    }

    /// What was asked for and from where, for ledger and log; `wanted` is the sender's own text.
    pub(super) fn described(&self, wanted: &str) -> String {
        let route = self.route.as_str();
        let from = self
            .address
            .map_or_else(|| "this machine".to_owned(), |address| address.to_string());
        match wanted {
            "" => format!("{route} from {from}"),
            wanted => format!("{route} {} from {from}", Foreign(wanted)),
        }
    }
}

/// Reads the one message that a request may carry.
async fn message<T: DeserializeOwned>(asking: &Asking<'_>, body: Body) -> Result<T, Fault> {
    // Read before anything is refused: a body that is left unread would cost the caller its connection.
    let body = body.read().await.map_err(|error| {
        let word = match error {
            BodyError::TooLarge { .. } => "body_too_long",
            BodyError::TooSlow { .. } => "body_too_slow",
            BodyError::Broken { .. } => "body_broken",
        };
        Fault::new(word, error.to_string())
    })?;
    let headers = &asking.head.headers;
    let json = headers.get(CONTENT_TYPE).is_some_and(is_json);
    if !json || headers.contains_key(CONTENT_ENCODING) {
        return Err(Fault::new(
            "media_type",
            "the body must be application/json, not encoded otherwise",
        ));
    }
    read(&body).map_err(|error| Fault::new("message_invalid", error.to_string()))
}

/// Whether a media type is JSON in UTF-8.
fn is_json(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let mut parts = text.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    json && parts.all(|parameter| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    })
}

/// A message as an answer that nobody keeps.
fn answer(message: &impl Serialize) -> Result<Reply, Fault> {
    let body = serde_json::to_vec(message)
        .map_err(|error| Fault::new("internal", format!("the answer cannot be written: {error}")))?;
    let mut reply = reply(StatusCode::OK, "application/json", body);
    reply
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

/// An answer that is there already.
fn ready_made(content_type: &'static str, body: Bytes) -> Reply {
    reply(StatusCode::OK, content_type, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_utf_8_is_the_only_media_type() {
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert!(is_json(&HeaderValue::from_static(good)), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/json, text/plain",
            "application/json; charset=latin1",
            "application/json; x",
            "application/jsonp",
        ] {
            assert!(!is_json(&HeaderValue::from_static(bad)), "{bad}");
        }
    }
}
