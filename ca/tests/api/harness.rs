//! Starts a CA, makes hosts and requests, speaks HTTPS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use ferrule_ca::app::{Served, Surroundings};
use ferrule_ca::config::{self, Config};
use ferrule_ca::instance::Instance;
use ferrule_ca::ledger::event::TokenCreated;
use ferrule_ca::ledger::sqlite::SqliteLedger;
use ferrule_ca::ledger::{Ledger as _, Row, RowFilter};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::signals::{Asking, Signal, Signals};
use ferrule_identity::tls::{Presented, ServerVerifier, TrustCell, TrustSnapshot, control_client_config};
use ferrule_identity::{
    Bundles, KeyAlgorithm, PrivateKey, Revocations, SigningRequest, Timestamp, TrustBundle, TrustDomain,
    WorkloadCertificate,
};
use ferrule_wire::JoinSecret;
use ferrule_wire::ca::host_statement;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The trust domain of every CA here.
pub(crate) const DOMAIN: &str = "shop.test";

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A CA that is served, in a folder of its own.
pub(crate) struct Ca {
    pub(crate) instance: Instance,
    pub(crate) port: u16,
    pub(crate) metrics: Metrics,
    /// The ledger as the serving side has it open.
    pub(crate) served_ledger: Arc<SqliteLedger>,
    asking: Asking,
    running: JoinHandle<()>,
    _home: tempfile::TempDir,
}

impl Ca {
    /// A CA with the settings that all are born with, but for `settings`, such as `("LIMITS__BODY", "32KiB")`.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with(settings, |_| ()).await
    }

    /// The same, with whatever `change` does to the settings.
    pub(crate) async fn start_with(settings: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = config_in(home.path(), settings);
        change(&mut config);
        let first = Instance::open(config.clone(), Clock::system(), true)
            .await
            .unwrap();
        first.authorities.found_new("test").await.unwrap();
        first.close().await.unwrap();
        drop(first);
        let served = Instance::open(config.clone(), Clock::system(), false)
            .await
            .unwrap();
        let instance = Instance::open(config, Clock::system(), false).await.unwrap();
        let metrics = Metrics::new();
        let surroundings = Surroundings {
            metrics: metrics.clone(),
            levels: None,
        };
        let served = Served::start(served, surroundings).await.unwrap();
        let port = served.address().port();
        let served_ledger = served.instance().ledger.clone();
        tokio::time::timeout(PATIENCE, served.ready())
            .await
            .expect("the CA becomes ready");
        let mut signals = Signals::without_system();
        let asking = signals.asking();
        #[allow(clippy::disallowed_methods, reason = "the test itself watches the task")]
        let running = tokio::spawn(async move {
            served.run(&mut signals).await.unwrap();
        });
        Self {
            instance,
            port,
            metrics,
            served_ledger,
            asking,
            running,
            _home: home,
        }
    }

    /// Asks the CA to stop, and does not wait for it.
    pub(crate) fn ask_to_stop(&self) {
        self.asking.send(Signal::Asked);
    }

    /// Stops the CA in order.
    pub(crate) async fn stop(self) {
        self.asking.send(Signal::Asked);
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .expect("the CA stops")
            .unwrap();
        self.instance.close().await.unwrap();
    }

    /// The bundle, straight from the instance.
    pub(crate) fn bundle(&self) -> TrustBundle {
        let view = self.instance.authorities.view();
        let (sequence, roots) = (view.slots().sequence(), view.trusted_roots());
        TrustBundle::new(domain(), sequence, None, &roots, self.now()).unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.instance.now()
    }

    /// A connection of somebody who shows nothing.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self, None).await
    }

    /// One request of somebody who shows nothing, on a connection of its own.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.connect().await.send(method, path, body).await
    }

    /// Makes a join token straight in the ledger; gives its secret.
    pub(crate) async fn token(&self, name: &str, identities: &[&str], lifetime: Duration) -> JoinSecret {
        let secret = JoinSecret::from_bytes(rand::random());
        let event = TokenCreated {
            token: name.to_owned(),
            secret: secret.hash(),
            identities: identities.iter().map(|id| (*id).to_owned()).collect(),
            expires: self.now().plus(lifetime),
            by: "test".to_owned(),
        };
        self.instance.ledger.append(vec![event.into()]).await.unwrap();
        secret
    }

    /// Enrols a host over HTTPS.
    pub(crate) async fn host(&self, name: &str, identities: &[&str]) -> Host {
        let secret = self.token(name, identities, Duration::from_secs(3_600)).await;
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let body = json!({ "token": secret.to_text(), "csr": SigningRequest::build_pem(&key).unwrap() });
        let answer = self.send(Method::POST, "/v1/enroll", Some(body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.json());
        assert_eq!(answer.json()["host"], name);
        Host {
            name: name.to_owned(),
            key,
        }
    }

    /// A certificate for `id`, by a host of its own.
    pub(crate) async fn certificate(&self, id: &str) -> WorkloadCertificate {
        let name = format!("host-{:08x}", rand::random::<u32>());
        let host = self.host(&name, &[id]).await;
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let csr = SigningRequest::build_pem(&key).unwrap();
        let answer = self
            .send(Method::POST, "/v1/issue", Some(host.ask(self, &csr, Some(id))))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.json());
        self.taken(&answer, key)
    }

    /// The certificate of an answer, checked as its workload would.
    pub(crate) fn taken(&self, answer: &Answer, key: PrivateKey) -> WorkloadCertificate {
        let json = answer.json();
        let pem = json["certificates"].as_str().unwrap();
        let chain = rustls_pki_types::CertificateDer::pem_slice_iter(pem.as_bytes());
        let chain: Vec<_> = chain.map(Result::unwrap).collect();
        WorkloadCertificate::new(chain, key, &self.bundle(), self.now()).unwrap()
    }

    /// The rows of a kind, oldest first.
    pub(crate) async fn rows(&self, kind: &str) -> Vec<Row> {
        let filter = RowFilter {
            kinds: vec![kind.to_owned()],
            ..RowFilter::default()
        };
        self.instance.ledger.rows(filter, 0, 10_000).await.unwrap()
    }

    /// The bodies of the refusals on record.
    pub(crate) async fn refusals(&self) -> Vec<Value> {
        self.rows("refused")
            .await
            .iter()
            .map(|row| serde_json::from_str(&row.body).unwrap())
            .collect()
    }
}

/// The trust domain, checked.
pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse(DOMAIN).unwrap()
}

/// The settings of a CA in `home`.
pub(crate) fn config_in(home: &Path, settings: &[(&str, &str)]) -> Config {
    let data = home.join("ca").display().to_string();
    let own = [
        ("TRUST_DOMAIN", DOMAIN),
        ("DATA", &data),
        ("LISTEN", "127.0.0.1:0"),
        ("ADMIN__ENABLED", "false"),
        ("STOP__DEADLINE", "2s"),
    ];
    let variables = own
        .iter()
        .chain(settings)
        .map(|(name, value)| (format!("FERRULE_CA__{name}"), *value));
    config::load(None, variables)
        .map_err(|problems| problems.to_string())
        .unwrap()
        .config
}

/// An enrolled host.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) key: PrivateKey,
}

impl Host {
    /// A request for a certificate over `csr` with a fresh statement.
    pub(crate) fn ask(&self, ca: &Ca, csr: &str, id: Option<&str>) -> Value {
        self.ask_at(ca.now().unix(), &nonce(), csr, id)
    }

    /// The same with a statement of a given time and nonce.
    pub(crate) fn ask_at(&self, time: i64, nonce: &str, csr: &str, id: Option<&str>) -> Value {
        let statement = host_statement(DOMAIN, &self.name, time, nonce, id.unwrap_or_default(), csr).unwrap();
        let signature = STANDARD.encode(self.key.sign(&statement).unwrap());
        let mut request = json!({
            "csr": csr,
            "evidence": {
                "kind": "host_key", "host": self.name, "time": time, "nonce": nonce, "signature": signature,
            },
        });
        if let Some(id) = id {
            request["id"] = json!(id);
        }
        request
    }
}

pub(crate) fn nonce() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}

/// A request over a new key that asks for nothing else.
pub(crate) fn csr() -> String {
    SigningRequest::build_pem(&PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap()
}

/// A kept HTTPS connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: tokio_util::task::AbortOnDropHandle<()>,
}

/// The whole answer to a request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Connection {
    /// A connection to `ca`, which is verified by its bundle; `own` is shown to it.
    pub(crate) async fn open(ca: &Ca, own: Option<&WorkloadCertificate>) -> Self {
        Self::try_open(ca, own)
            .await
            .expect("the CA takes the connection")
    }

    pub(crate) async fn try_open(ca: &Ca, own: Option<&WorkloadCertificate>) -> std::io::Result<Self> {
        let stream = tls(ca, own).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        #[allow(clippy::disallowed_methods, reason = "ends with the connection")]
        let driver = tokio::spawn(async move {
            // What ends a connection shows in the request that it carried.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            _driver: tokio_util::task::AbortOnDropHandle::new(driver),
        })
    }

    /// Sends a request; a body goes as JSON.
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.exchange(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("an answer in time")
    }
}

/// Sends octets over TLS and gives all that comes back until the CA closes.
pub(crate) async fn raw(ca: &Ca, octets: &[u8]) -> String {
    raw_as(ca, None, octets).await
}

/// The same by somebody who shows a certificate.
pub(crate) async fn raw_as(ca: &Ca, own: Option<&WorkloadCertificate>, octets: &[u8]) -> String {
    let mut stream = tls(ca, own).await.unwrap();
    // The CA may have its answer, and close, before it was told all.
    let _ = stream.write_all(octets).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    // It may close without a last word of TLS; what it said before counts.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("the CA closes");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn tls(ca: &Ca, own: Option<&WorkloadCertificate>) -> std::io::Result<TlsStream<TcpStream>> {
    let bundles = Bundles::from_iter([ca.bundle()]);
    let trust = Arc::new(TrustCell::new(TrustSnapshot {
        bundles,
        revocations: Revocations::empty(),
    }));
    let verifier = ServerVerifier::new(domain(), trust);
    let now = ca.now();
    let own = own.map(|own| Presented::workload(own).unwrap());
    let config =
        control_client_config(verifier, own.as_ref(), &[b"http/1.1"], Arc::new(move || now)).unwrap();
    let target = ([127, 0, 0, 1], ca.port).into();
    let stream = ferrule_daemon::dial::dial(target, PATIENCE)
        .await
        .map_err(std::io::Error::other)?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl Answer {
    /// The answer whose octets these are.
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
            headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        Self {
            status,
            headers,
            body: Bytes::from(body.to_owned()),
        }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} without JSON: {:?}", self.status, self.body))
    }

    /// The word of a refusal, after a look at the status and the time that each has.
    pub(crate) fn refusal(&self) -> String {
        let json = self.json();
        let word = json["error"]
            .as_str()
            .unwrap_or_else(|| panic!("no refusal: {json}"))
            .to_owned();
        assert_eq!(self.status, ferrule_ca::api::status::status_of(&word), "{word}");
        assert!(
            json["server_time"].is_i64() && !json["message"].as_str().unwrap().is_empty(),
            "{json}"
        );
        word
    }
}
