//! Speaks HTTP/1.1 over one TLS connection, every wait and every answer within limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferrule_daemon::dial::{DialError, dial_name};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A connection that carries one request after another. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// The `Host` of every request.
    authority: String,
    driver: tokio_util::task::AbortOnDropHandle<()>,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; at most [`MAX_ANSWER_BYTES`].
    pub body: Bytes,
}

impl Connection {
    /// Connects to `address`, a host name or an IP address with a port, and verifies the server as `tls` says.
    ///
    /// # Errors
    /// When nobody answers within [`CONNECT_LIMIT`], or the server is refused.
    pub async fn open(address: &str, tls: Arc<ClientConfig>) -> Result<Self, ConnectionError> {
        let (host, port) = split(address)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectionError::Address {
            address: address.to_owned(),
        })?;
        let tcp = dial_name(host, port, CONNECT_LIMIT)
            .await
            .map_err(|source| ConnectionError::Dial { source })?;
        let shake = TlsConnector::from(tls).connect(name, tcp);
        let failed = |source| ConnectionError::handshake(address, source);
        let tls = match timeout(HANDSHAKE_LIMIT, shake).await {
            Ok(done) => done.map_err(failed)?,
            Err(_) => return Err(failed(std::io::ErrorKind::TimedOut.into())),
        };
        let (sender, driver) = http1::Builder::new()
            .max_headers(64)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|source| ConnectionError::Http { source })?;
        let driver = async move {
            // Its error, if any, comes to whoever waits for an answer, too.
            let _ = driver.await;
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "owned: the handle ends the task when the connection is dropped"
        )]
        let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(Self {
            sender,
            authority: address.to_owned(),
            driver,
        })
    }

    /// Sends one request and reads the whole answer, within `limit`.
    ///
    /// # Errors
    /// When the connection breaks, the answer does not come in time, or is longer than [`MAX_ANSWER_BYTES`]. The
    /// connection is of no use then.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, String)],
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, ConnectionError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, &self.authority);
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|source| ConnectionError::Request { source })?;
        match timeout(limit, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ConnectionError::Late { limit }),
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, ConnectionError> {
        self.sender
            .ready()
            .await
            .map_err(|source| ConnectionError::Http { source })?;
        let answer = self
            .sender
            .send_request(request)
            .await
            .map_err(|source| ConnectionError::Http { source })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|source| {
                if source.is::<LengthLimitError>() {
                    ConnectionError::TooLong
                } else {
                    ConnectionError::Body { source }
                }
            })?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// Whether the server has closed the connection, or it broke.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.driver.is_finished()
    }
}

/// Host and port of `host:port`, `192.0.2.1:15010` or `[2001:db8::1]:15010`.
fn split(address: &str) -> Result<(&str, u16), ConnectionError> {
    let refused = || ConnectionError::Address {
        address: address.chars().take(256).collect(),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(refused)?;
    let port = port.parse().map_err(|_| refused())?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']').ok_or_else(refused)?,
        None if host.contains(':') => return Err(refused()),
        None => host,
    };
    if host.is_empty() {
        Err(refused())
    } else {
        Ok((host, port))
    }
}

impl ConnectionError {
    /// Whether nobody took the connection, so that to try costs a packet.
    pub const fn is_away(&self) -> bool {
        matches!(
            self,
            Self::Dial {
                source: DialError::Timeout { .. } | DialError::Refused { .. }
            }
        )
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Not an address with a port.
    #[error("{address:?} is no address with a port, such as ca.shop.local:15010")]
    Address {
        /// What was given, cut short.
        address: String,
    },
    /// Nobody answers there.
    #[error("cannot connect")]
    Dial {
        /// Where, and why.
        source: DialError,
    },
    /// The server's certificate chains to no root that we trust.
    #[error(
        "the server at {address} is not the CA that is trusted here; is the address, or the token, another CA's?"
    )]
    Untrusted {
        /// Where.
        address: String,
        /// In rustls' words.
        source: std::io::Error,
    },
    /// The server is not whom we want, or it refuses us.
    #[error("the TLS handshake with {address} failed")]
    Handshake {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The request cannot be written down.
    #[error("the request is malformed")]
    Request {
        /// How.
        source: http::Error,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("the HTTP exchange failed")]
    Http {
        /// How.
        source: hyper::Error,
    },
    /// The answer stopped in the middle.
    #[error("the answer's body broke off")]
    Body {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More than anybody should have to read.
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// No answer in time.
    #[error("no answer within {limit:?}")]
    Late {
        /// The time that was allowed.
        limit: Duration,
    },
}

impl ConnectionError {
    fn handshake(address: &str, source: std::io::Error) -> Self {
        let address = address.to_owned();
        let cause = source
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                Self::Untrusted { address, source }
            }
            _ => Self::Handshake { address, source },
        }
    }
}

/// The longest answer that is read, in bytes: a deny list of ten thousand entries fits.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// How long finding and reaching the server may take.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long the TLS handshake may take.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_into_host_and_port() {
        assert_eq!(split("ca.local:15010").unwrap(), ("ca.local", 15010));
        assert_eq!(split("[::1]:15010").unwrap(), ("::1", 15010));
        assert_eq!(split("192.0.2.1:1").unwrap(), ("192.0.2.1", 1));
        for wrong in [
            "",
            "ca.local",
            ":1",
            "::1:15010",
            "[::1:15010",
            "ca:0x1",
            "ca:70000",
            "[]:1",
        ] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
