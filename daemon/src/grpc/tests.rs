//! Calls a server over TLS on loopback.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
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
