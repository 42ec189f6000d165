//! Asks the application one question, as the kubelet would.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use ferrule_daemon::dial::{DialError, dial};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::config::{HttpProbe, Probe, ProbeAsk};

/// Asks, and waits for a yes.
///
/// # Errors
/// When the answer is no, or does not come within the probe's limit.
pub(super) async fn ask(probe: &Probe, application: IpAddr) -> Result<(), ProbeError> {
    let end = Instant::now() + probe.timeout;
    let limit = probe.timeout;
    let at = |port: u16| SocketAddr::new(application, port);
    let asking = async {
        match &probe.ask {
            // That it accepts is all there is to know.
            ProbeAsk::Tcp { port } => connect(at(port.get()), limit).await.map(drop),
            ProbeAsk::Http(http) => {
                let target = at(http.port.get());
                let tcp = connect(target, limit).await?;
                if http.tls {
                    get(http, target, shake(tcp, target).await?).await
                } else {
                    get(http, target, tcp).await
                }
            }
            ProbeAsk::Grpc { port, service } => {
                let target = at(port.get());
                health(service, target, connect(target, limit).await?).await
            }
        }
    };
    timeout_at(end, asking)
        .await
        .map_err(|_| ProbeError::Late { limit })?
}

async fn connect(target: SocketAddr, limit: std::time::Duration) -> Result<TcpStream, ProbeError> {
    dial(target, limit)
        .await
        .map_err(|source| ProbeError::Dial { source })
}

/// HTTP/1.1; every status from 200 to 399 is a yes, as it is for the kubelet.
async fn get<S>(probe: &HttpProbe, target: SocketAddr, stream: S) -> Result<(), ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |source| ProbeError::Http { source };
    let mut request = Request::builder().method(Method::GET).uri(&probe.path);
    let own_host = probe.headers.iter().any(|(name, _)| name == http::header::HOST);
    if !own_host {
        request = request.header(http::header::HOST, target.to_string());
    }
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::<Bytes>::default())
        .map_err(|source| ProbeError::Request { source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let asking = async { sender.send_request(request).await.map_err(failed) };
    tokio::pin!(connection, asking);
    let answer = tokio::select! {
        biased;
        answer = &mut asking => answer?,
        ended = &mut connection => {
            ended.map_err(failed)?;
            // What the connection has read before it ended is still to be taken.
            asking.await?
        }
    };
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(ProbeError::Status { status })
    }
}

/// The gRPC health checking protocol, version 1: `Check` of one service.
async fn health(service: &str, target: SocketAddr, tcp: TcpStream) -> Result<(), ProbeError> {
    let failed = |source| ProbeError::Http { source };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{target}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, HeaderValue::from_static("trailers"))
        .body(Full::new(check_message(service)))
        .map_err(|source| ProbeError::Request { source })?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
        .await
        .map_err(failed)?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(ProbeError::Status { status });
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES);
        let body = body.collect().await.map_err(|_| ProbeError::Answer)?;
        Ok(body.to_bytes())
    };
    tokio::pin!(connection, asking);
    let body = tokio::select! {
        biased;
        body = &mut asking => body?,
        ended = &mut connection => {
            ended.map_err(failed)?;
            asking.await?
        }
    };
    // A frame of one message: a byte for compression, four for the length; then field 1, a varint, SERVING.
    if body.as_ref() == [0, 0, 0, 0, 2, 0x08, 0x01] {
        Ok(())
    } else {
        Err(ProbeError::NotServing)
    }
}

/// `HealthCheckRequest { service = 1 }` in its frame.
fn check_message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or_default();
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.append(&mut message);
    Bytes::from(frame)
}

async fn shake(
    tcp: TcpStream,
    target: SocketAddr,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ProbeError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|source| ProbeError::Provider { source })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whoever { provider }))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::from(target.ip()), tcp)
        .await
        .map_err(|source| ProbeError::Tls { source })
}

/// Takes the application's certificate whatever it is, as the kubelet does: the probe asks whether it works, within the
/// pod's own network namespace, and nothing is told to it that is secret.
#[derive(Debug)]
struct Whoever {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A health answer has seven bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// Why a probe is answered with no.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// Nobody listens.
    #[error("the application does not answer")]
    Dial {
        /// Where, and why.
        source: DialError,
    },
    /// Too slow.
    #[error("no answer within {limit:?}")]
    Late {
        /// The probe's limit.
        limit: std::time::Duration,
    },
    /// TLS failed.
    #[error("the TLS handshake with the application failed")]
    Tls {
        /// Why.
        source: io::Error,
    },
    /// No TLS at all.
    #[error("cannot speak TLS")]
    Provider {
        /// Why.
        source: rustls::Error,
    },
    /// The declared path or a header cannot be written down.
    #[error("the declared request is malformed")]
    Request {
        /// How.
        source: http::Error,
    },
    /// HTTP failed.
    #[error("the application broke the exchange off")]
    Http {
        /// How.
        source: hyper::Error,
    },
    /// It answered with no.
    #[error("the application answered {status}")]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// Its answer was cut, or too long.
    #[error("the application's answer cannot be read")]
    Answer,
    /// The health service says no, or that it does not know.
    #[error("the application says that it is not serving")]
    NotServing,
}
