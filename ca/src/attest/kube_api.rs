//! Calls the Kubernetes API server: one connection, one request, one answer, all within a limit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::config::KubernetesConfig;

/// The API server, reached with the CA's own service-account token.
///
/// The certificates that it is trusted by and the token are read again for each call, because the kubelet replaces
/// both. Redirects are not followed: an answer that sends the token elsewhere is no answer.
#[derive(Debug)]
pub struct KubeApi {
    host: String,
    port: u16,
    name: ServerName<'static>,
    ca_file: PathBuf,
    token_file: PathBuf,
    /// Bounds the calls under way.
    slots: Semaphore,
    limit: Duration,
}

impl KubeApi {
    /// The API server of `config`, with at most `calls` calls under way, each within `limit`.
    ///
    /// # Errors
    /// When the host is neither a DNS name nor an IP address.
    pub fn new(config: &KubernetesConfig, calls: usize, limit: Duration) -> Result<Self, KubeApiError> {
        let name = ServerName::try_from(config.host.clone()).map_err(|_| KubeApiError::Host)?;
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            name,
            ca_file: config.ca_file.clone(),
            token_file: config.token_file.clone(),
            slots: Semaphore::new(calls),
            limit,
        })
    }

    /// Sends a JSON document with POST and gives the body of the answer.
    ///
    /// # Errors
    /// When there is no answer within the limit, its status is not 200 or 201, or it is too long. Every error means
    /// that nothing is known.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, KubeApiError> {
        self.send(Method::POST, path, "application/json", body).await
    }

    /// Makes the object at `path` have the fields of a JSON document (server-side apply), whoever set them before.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub async fn apply(&self, path: &str, body: Vec<u8>) -> Result<(), KubeApiError> {
        let path = format!("{path}?fieldManager=ferrule-ca&force=true");
        let sent = self.send(Method::PATCH, &path, "application/apply-patch+yaml", body);
        sent.await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: &'static str,
        body: Vec<u8>,
    ) -> Result<Bytes, KubeApiError> {
        let call = async {
            let _slot = self
                .slots
                .acquire()
                .await
                .map_err(|_| KubeApiError::Timeout { limit: self.limit })?;
            self.call(method, path, content, body).await
        };
        match tokio::time::timeout(self.limit, call).await {
            Ok(answer) => answer,
            Err(_) => Err(KubeApiError::Timeout { limit: self.limit }),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content: &'static str,
        body: Vec<u8>,
    ) -> Result<Bytes, KubeApiError> {
        let config = self.tls().await?;
        let request = self.request(method, path, content, body).await?;
        let stream = ferrule_daemon::dial::dial_name(&self.host, self.port, self.limit)
            .await
            .map_err(|source| KubeApiError::Unreachable { source })?;
        let stream = TlsConnector::from(config)
            .connect(self.name.clone(), stream)
            .await
            .map_err(|source| KubeApiError::Tls { source })?;
        let http = |source| KubeApiError::Http { source };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(http)?;
            match answer.status() {
                StatusCode::OK | StatusCode::CREATED => {}
                status if status.is_redirection() => return Err(KubeApiError::Redirect),
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    return Err(KubeApiError::Forbidden {
                        status: status.as_u16(),
                    });
                }
                status => {
                    return Err(KubeApiError::Status {
                        status: status.as_u16(),
                    });
                }
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
            body.map(|body| body.to_bytes())
                .map_err(|_| KubeApiError::Answer {
                    problem: "it is cut or too long",
                })
        };
        tokio::pin!(connection, exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                // What the connection has read before it ended is still to be taken.
                Ok(()) => exchange.await,
                Err(source) => Err(http(source)),
            },
        }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content: &'static str,
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, KubeApiError> {
        let token = read(&self.token_file).await?;
        let token = token.trim_ascii();
        let mut authorization = Zeroizing::new(b"Bearer ".to_vec());
        authorization.extend_from_slice(token);
        let unusable = || KubeApiError::File {
            file: self.token_file.clone(),
            source: not_a_token(),
        };
        let mut authorization = HeaderValue::from_bytes(&authorization).map_err(|_| unusable())?;
        authorization.set_sensitive(true);
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{host}:{}", self.port))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, content)
            .header(ACCEPT, "application/json")
            .body(Full::new(body.into()))
            .map_err(|_| KubeApiError::Host)
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>, KubeApiError> {
        let pem = read(&self.ca_file).await?;
        let mut roots = RootCertStore::empty();
        let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(KubeApiError::Roots {
                file: self.ca_file.clone(),
            });
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| KubeApiError::Provider { source })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Reads a small file whole.
async fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KubeApiError> {
    let failed = |source| KubeApiError::File {
        file: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is too long",
        )));
    }
    Ok(bytes)
}

fn not_a_token() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file holds no token")
}

/// Why the API server gave no answer. Nothing may be concluded from any of these.
#[derive(Debug, thiserror::Error)]
pub enum KubeApiError {
    /// The settings name no host.
    #[error("the API server's host is neither a DNS name nor an IP address")]
    Host,
    /// The CA file or the token file cannot be used.
    #[error("cannot read {file}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The CA file has no certificate.
    #[error("{file} holds no certificate in PEM", file = file.display())]
    Roots {
        /// The file.
        file: PathBuf,
    },
    /// The TLS library refuses its own defaults.
    #[error("cannot set up TLS to the API server")]
    Provider {
        /// The cause.
        source: rustls::Error,
    },
    /// No connection.
    #[error("cannot reach the API server")]
    Unreachable {
        /// The cause.
        source: ferrule_daemon::dial::DialError,
    },
    /// The handshake failed, most often because its certificate is not trusted.
    #[error("the TLS handshake with the API server failed")]
    Tls {
        /// The cause.
        source: io::Error,
    },
    /// The connection ended, or what came is no HTTP.
    #[error("the exchange with the API server failed")]
    Http {
        /// The cause.
        source: hyper::Error,
    },
    /// Too slow, or too many calls under way.
    #[error("the API server gave no answer within {limit:?}")]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// It wants the token to go elsewhere.
    #[error("the API server answered with a redirect, which is not followed")]
    Redirect,
    /// The CA's own token is not accepted, or it may not review tokens.
    #[error(
        "the API server answered {status} to the CA itself; to review tokens its service account needs the cluster \
         role system:auth-delegator, to publish the bundle the right to patch that ConfigMap"
    )]
    Forbidden {
        /// The status.
        status: u16,
    },
    /// Any other status.
    #[error("the API server answered {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The answer is not what was asked for.
    #[error("the API server's answer cannot be used: {problem}")]
    Answer {
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl KubeApiError {
    /// The stable word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Host | Self::File { .. } | Self::Roots { .. } | Self::Provider { .. } => "api_server_setup",
            Self::Unreachable { .. } | Self::Http { .. } => "api_server_unreachable",
            Self::Tls { .. } => "api_server_tls",
            Self::Timeout { .. } => "api_server_timeout",
            Self::Redirect => "api_server_redirect",
            Self::Forbidden { .. } => "api_server_forbidden",
            Self::Status { .. } => "api_server_status",
            Self::Answer { .. } => "api_server_answer",
        }
    }
}

/// A TokenReview has a few KiB.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Tokens have 1 to 2 KiB, CA files one certificate or a few.
const MAX_FILE_BYTES: u64 = 256 * 1024;
