//! Hellos that are encrypted (ECH, RFC 9849): whom they mean cannot be read, so only a rule about addresses lets them pass.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use ferrule_tests::netns::{Host, alone};
use ferrule_tests::wait::until;
use rustls::client::{EchConfig, EchMode};
use rustls::crypto::aws_lc_rs::{self, hpke};
use rustls::pki_types::EchConfigListBytes;
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore};

use super::{GOOD, SEALED, World, refusals};

/// What a server that takes encrypted hellos would have in its DNS record: a key, and `cover` to be named in clear.
fn offer(cover: &str) -> EchConfigListBytes<'static> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    // X25519, of which every number is a key; HKDF-SHA256; AES-128-GCM.
    let (kem, suite) = ([0, 0x20], [0, 1, 0, 1]);
    let mut contents = vec![7];
    contents.extend(kem);
    contents.extend(sized(&[9; 32]));
    contents.extend(sized(&suite));
    contents.extend([64, u8::try_from(cover.len()).unwrap()]);
    contents.extend(cover.as_bytes());
    contents.extend(sized(&[]));
    let config = [&[0xfe, 0x0d], &sized(&contents)[..]].concat();
    sized(&config).into()
}

/// How a handshake ends with whoever is at `address`, by an encrypted hello that names `cover` in clear.
fn call(host: &Host, address: &str, cover: &str) -> std::io::Result<()> {
    let offered = EchConfig::new(offer(cover), hpke::ALL_SUPPORTED_SUITES).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_ech(EchMode::Enable(offered))
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = "secret.example.com".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = host.inside(|| TcpStream::connect((address, 443)).unwrap());
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root or user namespaces, nft, nginx and openssl: tests/run"]
fn an_encrypted_hello_passes_by_a_rule_about_its_address_and_by_no_other() {
    alone(|mesh| {
        let web = mesh.workload("web");
        let _world = World::new(mesh);
        let sidecar = mesh.sidecar(&web);
        // The name in clear is one that rules allow; it is not the one that is meant.
        let heard = call(&web, GOOD, "api.example.com").unwrap_err();
        assert_eq!(heard.kind(), std::io::ErrorKind::ConnectionReset, "{heard}");
        let refusal = until("a refusal", || refusals(&sidecar).pop());
        for word in ["encrypted (ECH)", "stands in for another", "no rule about hosts"] {
            assert!(refusal.contains(word), "{refusal}");
        }
        sidecar.counts(&["egress_names_total", "outcome=\"nameless\""], 1.0);

        // nginx answers: its certificate is one that this client does not know.
        let heard = call(&web, SEALED, "api.example.com").unwrap_err();
        let said = heard.get_ref().and_then(|error| error.downcast_ref::<Error>());
        assert!(matches!(said, Some(Error::InvalidCertificate(_))), "{heard}");
        sidecar.line(&[("dst_addr", SEALED), ("verdict", "allow"), ("tls", "plaintext")]);
        assert_eq!(refusals(&sidecar).len(), 1);
    });
}
