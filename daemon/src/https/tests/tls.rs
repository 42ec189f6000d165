//! Tests of the server behind TLS.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

struct Pair {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Pair {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["ferrule.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, key }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    /// A server that takes clients with the certificate of `client`, and without any.
    fn server(&self, client: &Self) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder(client.roots()).allow_unauthenticated();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![self.certificate.clone()], self.key());
        Arc::new(config.unwrap())
    }

    fn connector(&self, own: Option<&Self>) -> TlsConnector {
        let builder = ClientConfig::builder().with_root_certificates(self.roots());
        let config = match own {
            Some(own) => builder
                .with_client_auth_cert(vec![own.certificate.clone()], own.key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn secured(
    running: &Running,
    server: &Pair,
    own: Option<&Pair>,
) -> io::Result<TlsStream<DuplexStream>> {
    let name = ServerName::try_from("ferrule.test").unwrap();
    server.connector(own).connect(name, running.connect().await).await
}

async fn who(request: Request) -> Reply {
    let peer = Peer::of(&request).unwrap();
    let shown: Vec<_> = peer
        .certificates
        .iter()
        .map(|certificate| certificate.len())
        .collect();
    text(StatusCode::OK, format!("{} {shown:?}.", peer.address))
}

#[tokio::test]
async fn the_handler_learns_who_is_calling() {
    let (server, client) = (Pair::new(), Pair::new());
    let running = start(Limits::default(), Some(server.server(&client)), who);
    let mut stream = secured(&running, &server, Some(&client)).await.unwrap();
    send(&mut stream, GET).await;
    let expected = format!("192.0.2.7:4711 [{}].", client.certificate.len());
    let answer = next_answer(&mut stream).await;
    assert!(answer.ends_with(&expected), "{answer}");
    let mut stream = secured(&running, &server, None).await.unwrap();
    send(&mut stream, LAST).await;
    assert!(rest(&mut stream).await.ends_with("192.0.2.7:4711 []."));
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_ends_the_connection() {
    let (server, client, stranger) = (Pair::new(), Pair::new(), Pair::new());
    let running = start(Limits::default(), Some(server.server(&client)), who);
    // In TLS 1.3 the client learns of it with the first answer.
    if let Ok(mut stream) = secured(&running, &server, Some(&stranger)).await {
        let _ = stream.write_all(GET.as_bytes()).await;
        assert_eq!(rest(&mut stream).await, "");
    }
    assert_eq!(running.refused("handshake"), 1);
    assert_eq!(running.count("ferrule_server_requests_total"), 0);
}

// A9: two hundred callers that never finish their handshake, more than may shake hands at once.
#[tokio::test(start_paused = true)]
async fn half_open_handshakes_are_gone_when_their_time_is_up() {
    let (server, client) = (Pair::new(), Pair::new());
    let limits = Limits {
        handshakes: 20,
        ..Limits::default()
    };
    let running = start(limits, Some(server.server(&client)), who);
    let mut half_open = Vec::new();
    for at in 0..200 {
        let mut stream = running.connect().await;
        // Half of them send the beginning of a hello.
        if at % 2 == 0 {
            stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        half_open.push(stream);
    }
    while running.drain.open() < 200 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Limits::default().handshake_time).await;
    while running.drain.open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.refused("handshake_time"), 200);
    assert_eq!(running.count("ferrule_server_connections_open"), 0);
    let mut stream = secured(&running, &server, None).await.unwrap();
    send(&mut stream, LAST).await;
    assert!(rest(&mut stream).await.ends_with("[]."));
}

// A9: with many more of them than may shake hands at once, nobody else waits for a moment.
#[tokio::test(start_paused = true)]
async fn whoever_does_not_finish_its_hello_takes_nobodys_turn() {
    let (server, client) = (Pair::new(), Pair::new());
    let limits = Limits {
        handshakes: 1,
        ..Limits::default()
    };
    let running = start(limits, Some(server.server(&client)), who);
    let mut silent = Vec::new();
    for at in 0..50 {
        let mut stream = running.connect().await;
        if at % 2 == 0 {
            stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        silent.push(stream);
    }
    while running.drain.open() < 50 {
        tokio::task::yield_now().await;
    }
    let begun = tokio::time::Instant::now();
    let mut stream = secured(&running, &server, None).await.unwrap();
    send(&mut stream, LAST).await;
    assert!(rest(&mut stream).await.ends_with("[]."));
    assert!(begun.elapsed() < Limits::default().handshake_time);
    assert_eq!(running.refused("handshake_time"), 0);
}

#[tokio::test]
async fn a_hello_that_does_not_end_is_not_kept() {
    let (server, client) = (Pair::new(), Pair::new());
    let limits = Limits {
        handshake_time: Duration::from_secs(600),
        ..Limits::default()
    };
    let running = start(limits, Some(server.server(&client)), who);
    let mut stream = running.connect().await;
    // Records of 16,000 bytes, of a hello of 64,000.
    let mut hello = vec![1, 0, 250, 0];
    hello.resize(16_000, 0);
    let record = [&[22, 3, 1, 0x3e, 0x80][..], &hello].concat();
    let more = [&[22, 3, 1, 0x3e, 0x80][..], &[0; 16_000]].concat();
    // The server may have gone before all of it is sent.
    let _ = stream.write_all(&record).await;
    let _ = stream.write_all(&more).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    while running.refused("handshake") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.refused("handshake"), 1);
}

#[tokio::test]
async fn garbage_instead_of_a_hello_costs_nobody_else() {
    let (server, client) = (Pair::new(), Pair::new());
    let running = start(Limits::default(), Some(server.server(&client)), who);
    let mut stream = running.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(running.refused("handshake"), 1);
    assert!(secured(&running, &server, None).await.is_ok());
}

#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "a client of one's own listener, in a test"
)]
async fn a_new_certificate_serves_the_next_caller() {
    let (old, new, client) = (Pair::new(), Pair::new(), Pair::new());
    let (publish, current) = tokio::sync::watch::channel(old.server(&client));
    let listener = listen("[::]:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let drain = Drain::new();
    let counters = ServerMetrics::register(&Metrics::new());
    let server = Server::new(
        "test",
        Limits::default(),
        Clock::system(),
        drain.clone(),
        &counters,
    );
    let tls = move || current.borrow().clone();
    let serving = tokio::spawn(server.serve_tls(listener, tls, Arc::new(who)));
    let connect = |trusted: TlsConnector| async move {
        // The unspecified IPv6 address takes IPv4 callers too, under their own addresses.
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        trusted
            .connect(ServerName::try_from("ferrule.test").unwrap(), stream)
            .await
    };
    let mut stream = connect(old.connector(None)).await.unwrap();
    send(&mut stream, GET).await;
    let answer = next_answer(&mut stream).await;
    assert!(answer.contains("\r\n\r\n127.0.0.1:"), "{answer}");
    publish.send_replace(new.server(&client));
    connect(new.connector(None)).await.unwrap();
    connect(old.connector(None)).await.unwrap_err();
    // Who is connected stays connected.
    send(&mut stream, GET).await;
    next_answer(&mut stream).await;
    drop(stream);
    drain.close();
    serving.await.unwrap();
    drain.empty().await;
}
