//! Calls a server over TLS on loopback.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::client::Channel;
use super::server::{Call, Server, Service};
use super::{ALPN, Code, Limits, Status};
use crate::drain::Drain;
use crate::https::{ServerMetrics, listen};
use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends back what it receives; `/t/Refuse` refuses, `/t/Panic` panics.
struct Echo;

impl Service for Echo {
    async fn call(&self, mut call: Call) -> Result<(), Status> {
        match call.path.as_str() {
            "/t/Echo" => {}
            "/t/Refuse" => return Err(Status::new(Code::PermissionDenied, "nö, 100 % not")),
            "/t/Panic" => panic!("as asked"),
            _ => return Err(Status::new(Code::Unimplemented, "")),
        }
        while let Some(message) = call.requests.next().await? {
            call.replies.send(&message).await?;
        }
        Ok(())
    }
}

struct Running {
    drain: Drain,
    connector: TlsConnector,
    address: std::net::SocketAddr,
}

fn start(limits: Limits) -> Running {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["directory.test".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    server.alpn_protocols = vec![ALPN.to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::new();
    let counters = ServerMetrics::register(&Metrics::new());
    let tls = Arc::new(server);
    let server = Server::new("test", limits, 16, 4, drain.clone(), &counters);
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(server.serve(listener, move || tls.clone(), Arc::new(Echo)));
    Running {
        drain,
        connector: TlsConnector::from(Arc::new(client)),
        address,
    }
}

impl Running {
    async fn channel(&self, limits: Limits) -> Channel {
        let tcp = crate::dial::dial(self.address, PATIENCE).await.unwrap();
        let name = ServerName::try_from("directory.test").unwrap();
        let tls = self.connector.connect(name, tcp).await.unwrap();
        Channel::open(tls, "directory.test".to_owned(), limits)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn messages_go_both_ways_until_the_caller_has_said_everything() {
    let server = start(Limits::default());
    let mut channel = server.channel(Limits::default()).await;
    let (sender, mut receiver) = channel.call("/t/Echo", b"one", PATIENCE).await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "one");
    let long = vec![7; 3_000_000];
    sender.send(&long).await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), long);
    drop(sender);
    assert_eq!(receiver.next().await, Ok(None));
    assert_eq!(channel.ask("/t/Echo", b"once", PATIENCE).await.unwrap(), "once");
}

#[tokio::test]
async fn a_refusal_keeps_its_words_and_a_panic_its_secrets() {
    let server = start(Limits::default());
    let mut channel = server.channel(Limits::default()).await;
    let refused = channel.ask("/t/Refuse", b"", PATIENCE).await.unwrap_err();
    assert_eq!(refused, Status::new(Code::PermissionDenied, "nö, 100 % not"));
    let panicked = channel.ask("/t/Panic", b"", PATIENCE).await.unwrap_err();
    assert_eq!(panicked, Status::new(Code::Internal, "the server has a fault"));
    let nothing = channel.ask("/t/Nothing", b"", PATIENCE).await.unwrap_err();
    assert_eq!(nothing.code, Code::Unimplemented);
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_its_call_alone() {
    let limits = Limits {
        message_bytes: 1000,
        ..Limits::default()
    };
    let server = start(limits);
    let mut channel = server.channel(Limits::default()).await;
    let refused = channel.ask("/t/Echo", &[0; 1001], PATIENCE).await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    assert_eq!(
        channel.ask("/t/Echo", &[0; 1000], PATIENCE).await.unwrap().len(),
        1000
    );
}

#[tokio::test]
async fn a_server_that_stops_says_so_and_takes_no_more() {
    let server = start(Limits::default());
    let mut channel = server.channel(Limits::default()).await;
    let (_sender, mut receiver) = channel.call("/t/Echo", b"one", PATIENCE).await.unwrap();
    receiver.next().await.unwrap().unwrap();
    server.drain.close();
    let ended = receiver.next().await.unwrap_err();
    assert_eq!(ended, Status::new(Code::Unavailable, "the server is stopping"));
    drop((receiver, channel));
    tokio::time::timeout(PATIENCE, server.drain.empty())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_at_the_server() {
    let server = start(Limits::default());
    let mut channel = server.channel(Limits::default()).await;
    let mut calls = Vec::new();
    // More than may be open at once, one after another.
    for _ in 0..40 {
        let (sender, mut receiver) = channel.call("/t/Echo", b"one", PATIENCE).await.unwrap();
        receiver.next().await.unwrap().unwrap();
        calls.push((sender, receiver));
        calls.clear();
    }
    drop(channel);
    let all = async {
        while server.drain.open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
}

/// What the server's frames are that answer these bytes at a Unix socket: their kinds, up to the end of stream 1.
async fn kinds_of_answer(sent: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let counters = ServerMetrics::register(&Metrics::new());
    let server = Server::new("test", Limits::default(), 16, 4, Drain::new(), &counters);
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(server.serve_clear(listener, Arc::new(Echo)));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let [high, middle, low, kind, flags, _, _, _, stream_id] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if stream_id == 1 {
            kinds.push(kind);
            // The stream's end, or a reset.
            if kind == 3 || (kind <= 1 && flags & 1 == 1) {
                return kinds;
            }
        }
    }
}

// A call as gRPC's C core writes it.
#[tokio::test]
async fn a_caller_may_name_a_socket_by_its_path() {
    let string = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, u8::from(kind < 2)], payload].concat()
    };
    let call = |authority: &str| {
        // POST, http.
        let mut block = vec![0x83, 0x86];
        for (name, value) in [
            (":path", "/t/Echo"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.push(0x40);
            block.extend(string(name));
            block.extend(string(value));
        }
        let message = [0, 0, 0, 0, 2, b'/', b'%'];
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        [
            preface,
            frame(4, 0, &[]),
            frame(1, 4, &block),
            frame(0, 1, &message),
        ]
        .concat()
    };
    for authority in ["localhost", "%2Frun%2Fspiffe.sock", "/run/spiffe.sock"] {
        // Headers, the message, trailers.
        assert_eq!(kinds_of_answer(&call(authority)).await, [1, 0, 1], "{authority}");
    }
    // What is no authority for another reason is refused.
    assert_eq!(kinds_of_answer(&call("a b")).await, [3]);
}
