//! Speaks the CA's API: what is asked, what comes back, checked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferrule_daemon::clock::Clock;
use ferrule_identity::tls::{Now, Presented, ServerVerifier, TlsError, TrustCell, control_client_config};
use ferrule_identity::{BundleError, Fingerprint, Timestamp, TrustBundle, TrustDomain, WorkloadCertificate};
use ferrule_wire::ca::{
    EnrollReply, EnrollRequest, ErrorReply, IssueReply, IssueRequest, MessageError, RevocationsReply, read,
};
use http::header::{ETAG, IF_NONE_MATCH};
use http::{Method, StatusCode};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connection::{Answer, Connection, ConnectionError};

/// Whom the client believes to be the CA.
#[derive(Debug, Clone)]
pub enum Anchor {
    /// The bundle of our trust domain, as it is at the time of each handshake.
    Trust(Arc<TrustCell>),
    /// The root whose certificate has this SHA-256: what a join token says.
    Root(Fingerprint),
}

/// A client of the CA, which may be reached at several addresses. One connection is kept from call to call.
pub struct CaClient {
    addresses: Vec<String>,
    /// Where the next connection is tried first.
    next: usize,
    trust_domain: TrustDomain,
    anchor: Anchor,
    clock: Clock,
    connection: Option<(Connection, Shown)>,
    /// The CA's clock minus ours, in seconds, as of the last answer.
    offset: i64,
}

/// Whose certificate a connection shows: a connection made under another is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Nobody,
    Serial(String),
}

/// Something with a version, asked for by somebody who may have it already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched<T> {
    /// Another version than the one that was named.
    New {
        /// It.
        value: T,
        /// Its name for the next call.
        etag: Option<String>,
    },
    /// Still the one that was named.
    Unchanged,
}

/// What is asked of something with a version.
#[derive(Debug, Clone, Copy, Default)]
pub struct Since<'a> {
    /// The version that is known.
    pub etag: Option<&'a str>,
    /// How long the CA should wait for another one before it answers; zero for not at all.
    pub wait: Duration,
}

impl CaClient {
    /// A client of the CA of `trust_domain` at `addresses`, tried in turn, each a host name or an IP address with a
    /// port. `anchor` says whom to believe.
    pub fn new(addresses: Vec<String>, trust_domain: TrustDomain, anchor: Anchor, clock: Clock) -> Self {
        Self {
            addresses,
            next: 0,
            trust_domain,
            anchor,
            clock,
            connection: None,
            offset: 0,
        }
    }

    /// The time by the CA's clock, as far as it is known.
    pub fn ca_time(&self) -> Timestamp {
        Timestamp::from_unix(self.clock.unix().saturating_add(self.offset))
    }

    /// How far our clock is behind the CA's, in seconds, by the last answer; negative when it is ahead.
    pub const fn skew(&self) -> i64 {
        self.offset
    }

    /// Trades a join token's secret for the enrolment of the key that signed `request`.
    ///
    /// # Errors
    /// When the CA cannot be reached or refuses.
    pub async fn enroll(&mut self, request: &EnrollRequest) -> Result<EnrollReply, ClientError> {
        self.post("/v1/enroll", request, None).await
    }

    /// Asks for a certificate on the evidence in `request`.
    ///
    /// # Errors
    /// When the CA cannot be reached or refuses.
    pub async fn issue(&mut self, request: &IssueRequest) -> Result<IssueReply, ClientError> {
        self.post("/v1/issue", request, None).await
    }

    /// Asks for another certificate for the identity of `own`, which is the evidence.
    ///
    /// # Errors
    /// When the CA cannot be reached or refuses.
    pub async fn renew(
        &mut self,
        request: &IssueRequest,
        own: &WorkloadCertificate,
    ) -> Result<IssueReply, ClientError> {
        self.post("/v1/renew", request, Some(own)).await
    }

    /// The trust bundle of our own trust domain, its anchors checked.
    ///
    /// # Errors
    /// When the CA cannot be reached or refuses, or the bundle is no good.
    pub async fn bundle(&mut self, since: Since<'_>) -> Result<Fetched<TrustBundle>, ClientError> {
        let Some(answer) = self.versioned("/v1/bundle", since).await? else {
            return Ok(Fetched::Unchanged);
        };
        let text = std::str::from_utf8(&answer.body).map_err(|_| ClientError::Text { what: "bundle" })?;
        let now = Timestamp::from_unix(self.clock.unix());
        let value = TrustBundle::from_jwks(self.trust_domain.clone(), text, now)
            .map_err(|source| ClientError::Bundle { source })?;
        Ok(Fetched::New {
            value,
            etag: etag(&answer),
        })
    }

    /// The deny list.
    ///
    /// # Errors
    /// When the CA cannot be reached or refuses, or the list is no good.
    pub async fn revocations(&mut self, since: Since<'_>) -> Result<Fetched<RevocationsReply>, ClientError> {
        let Some(answer) = self.versioned("/v1/revocations", since).await? else {
            return Ok(Fetched::Unchanged);
        };
        let value = decoded(&answer.body)?;
        Ok(Fetched::New {
            value,
            etag: etag(&answer),
        })
    }

    /// Asks for something with a version; `None` when it is the known one.
    async fn versioned(&mut self, path: &str, since: Since<'_>) -> Result<Option<Answer>, ClientError> {
        let wait = since.wait.as_secs();
        let path = if wait == 0 {
            path.to_owned()
        } else {
            format!("{path}?wait={wait}")
        };
        let headers: Vec<_> = since
            .etag
            .map(|etag| (IF_NONE_MATCH, etag.to_owned()))
            .into_iter()
            .collect();
        let limit = since.wait + ANSWER_LIMIT;
        let answer = self
            .exchange(Method::GET, &path, &headers, Bytes::new(), None, limit)
            .await?;
        match answer.status {
            StatusCode::NOT_MODIFIED => Ok(None),
            StatusCode::OK => Ok(Some(answer)),
            _ => Err(self.refused(&answer)),
        }
    }

    async fn post<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        path: &'static str,
        request: &Q,
        own: Option<&WorkloadCertificate>,
    ) -> Result<A, ClientError> {
        let body = serde_json::to_vec(request).map_err(|source| ClientError::Encode { source })?;
        let answer = self
            .exchange(Method::POST, path, &[], body.into(), own, ANSWER_LIMIT)
            .await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(&answer));
        }
        decoded(&answer.body)
    }

    /// One exchange, on the connection that is kept or on a new one, at each address in turn until one answers.
    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, String)],
        body: Bytes,
        own: Option<&WorkloadCertificate>,
        limit: Duration,
    ) -> Result<Answer, ClientError> {
        let shown = own.map_or(Shown::Nobody, |own| Shown::Serial(own.serial().to_string()));
        // A kept connection may have been closed meanwhile, which shows only when it is used: that try is free.
        if let Some((mut kept, by)) = self.connection.take()
            && by == shown
            && !kept.is_closed()
            && let Ok(answer) = kept.ask(method.clone(), path, headers, body.clone(), limit).await
        {
            self.connection = Some((kept, by));
            return Ok(self.timed(answer));
        }
        let tls = Arc::new(self.tls(own)?);
        let mut last = ClientError::NoAddress;
        for _ in 0..self.addresses.len() {
            let at = self.next % self.addresses.len();
            let address = self.addresses[at].clone();
            let tried = async {
                let mut connection = Connection::open(&address, Arc::clone(&tls)).await?;
                let answer = connection
                    .ask(method.clone(), path, headers, body.clone(), limit)
                    .await?;
                Ok::<_, ConnectionError>((connection, answer))
            };
            match tried.await {
                Ok((connection, answer)) => {
                    self.connection = Some((connection, shown));
                    return Ok(self.timed(answer));
                }
                Err(source) => {
                    // Who refuses us tells more than who is away.
                    let told = matches!(&last, ClientError::Unreachable { source, .. } if !source.is_away());
                    if !(told && source.is_away()) {
                        last = ClientError::Unreachable { address, source };
                    }
                    self.next = at + 1;
                }
            }
        }
        Err(last)
    }

    fn tls(&self, own: Option<&WorkloadCertificate>) -> Result<ClientConfig, ClientError> {
        let failed = |source| ClientError::Tls { source };
        let verifier = match &self.anchor {
            Anchor::Trust(trust) => ServerVerifier::new(self.trust_domain.clone(), Arc::clone(trust)),
            Anchor::Root(root) => ServerVerifier::pinned(self.trust_domain.clone(), *root),
        };
        let own = own.map(Presented::workload).transpose().map_err(failed)?;
        control_client_config(verifier, own.as_ref(), &[b"http/1.1"], now(&self.clock)).map_err(failed)
    }

    /// Learns the CA's clock from the answer's `Date`.
    fn timed(&mut self, answer: Answer) -> Answer {
        let date = answer
            .headers
            .get(http::header::DATE)
            .and_then(|date| date.to_str().ok());
        if let Some(then) = date.and_then(http_date) {
            self.offset = then.saturating_sub(self.clock.unix());
        }
        answer
    }

    /// The refusal in an answer's body, or what stands for it.
    fn refused(&self, answer: &Answer) -> ClientError {
        let reply: Result<ErrorReply, _> = read(&answer.body);
        let (word, message) = match reply {
            Ok(reply) => (reply.error, reply.message),
            Err(_) => ("unknown".to_owned(), "the answer has no explanation".to_owned()),
        };
        ClientError::Refused {
            status: answer.status.as_u16(),
            word: shortened(word),
            message: shortened(message),
            skew: self.offset,
        }
    }
}

impl std::fmt::Debug for CaClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "CaClient({} at {})",
            self.trust_domain,
            self.addresses.join(", ")
        )
    }
}

/// `clock` as verification takes it.
pub fn now(clock: &Clock) -> Arc<dyn Now> {
    let clock = clock.clone();
    Arc::new(move || Timestamp::from_unix(clock.unix()))
}

fn decoded<A: DeserializeOwned>(body: &[u8]) -> Result<A, ClientError> {
    read(body).map_err(|source| ClientError::Decode { source })
}

fn etag(answer: &Answer) -> Option<String> {
    Some(answer.headers.get(ETAG)?.to_str().ok()?.to_owned())
}

/// Unix seconds of an HTTP date (RFC 9110 §5.6.7).
fn http_date(text: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(text).ok()?;
    Some(Timestamp::from(date).unix())
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(512) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

/// Why the CA did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is nowhere to ask.
    #[error("no address of the CA is known")]
    NoAddress,
    /// Renewal by a certificate that there is not.
    #[error("there is no certificate yet that could show who is asking")]
    NoCertificate,
    /// Nobody answered at any address; this is the reason of the last one at which somebody took the connection, or of the
    /// last one.
    #[error("the CA cannot be reached at {address}")]
    Unreachable {
        /// Which.
        address: String,
        /// Why.
        source: ConnectionError,
    },
    /// The CA said no.
    #[error("the CA refused ({word}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The CA's word for it.
        word: String,
        /// The CA's sentence.
        message: String,
        /// How far our clock is behind the CA's, in seconds.
        skew: i64,
    },
    /// No settings for TLS.
    #[error("cannot prepare TLS towards the CA")]
    Tls {
        /// Why.
        source: TlsError,
    },
    /// A request that cannot be written.
    #[error("cannot write the request down")]
    Encode {
        /// Why.
        source: serde_json::Error,
    },
    /// An answer that is not what was asked for.
    #[error("the CA's answer cannot be read")]
    Decode {
        /// Where, and why.
        source: MessageError,
    },
    /// An answer that is no text.
    #[error("the CA's {what} is not UTF-8")]
    Text {
        /// What was read.
        what: &'static str,
    },
    /// A bundle that we do not take.
    #[error("the CA's bundle is refused")]
    Bundle {
        /// Why.
        source: BundleError,
    },
}

/// How long the CA may take to answer, beyond the time that it is asked to wait.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
    }
}
