//! Sends any bytes, in any pieces, to a TLS session that waits for its peer, before and after the handshake.
#![no_main]

use std::sync::{Arc, OnceLock};

use ferrule_proxy::buffer::Buffer;
use ferrule_proxy::tls::session::{Progress, Session};
use libfuzzer_sys::fuzz_target;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

fn settings() -> &'static (Arc<ClientConfig>, Arc<ServerConfig>) {
    static SETTINGS: OnceLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["db.test".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server");
        (client.enable_secret_extraction, server.enable_secret_extraction) = (true, true);
        (Arc::new(client), Arc::new(server))
    })
}

/// Gives `bytes` to `session`; false when it refused them.
fn take(session: &mut Session, bytes: &[u8], plain: &mut Buffer, reply: &mut Buffer) -> Option<Progress> {
    let mut incoming = [session.held(), bytes].concat();
    session.receive(&mut incoming, plain, reply).ok()
}

fuzz_target!(|input: (bool, u8, Vec<u8>)| {
    let (open, piece, bytes) = input;
    let (client, server) = settings();
    let name = "db.test".try_into().expect("a name");
    let near = UnbufferedClientConnection::new(Arc::clone(client), name).expect("a client");
    let far = UnbufferedServerConnection::new(Arc::clone(server)).expect("a server");
    let (mut near, mut far) = (Session::client(near), Session::server(far));
    let mut plain = Buffer::new();
    if open {
        let mut to_far = Buffer::new();
        take(&mut near, &[], &mut plain, &mut to_far).expect("a hello");
        let mut to_near = Buffer::new();
        take(&mut far, to_far.filled(), &mut plain, &mut to_near).expect("a flight");
        to_far.clear();
        take(&mut near, to_near.filled(), &mut plain, &mut to_far).expect("an end");
        to_near.clear();
        let progress = take(&mut far, to_far.filled(), &mut plain, &mut to_near);
        assert_eq!(progress, Some(Progress::Open));
    }
    let mut reply = Buffer::new();
    for part in bytes.chunks(usize::from(piece).max(1)) {
        if take(&mut far, part, &mut plain, &mut reply).is_none() {
            break;
        }
        if open {
            // Writing between two pieces must not disturb what is held.
            let mut out = Buffer::new();
            far.seal(b"meanwhile", &mut out).expect("the session is open");
        }
    }
    assert_eq!(plain.filled(), b"", "nobody without the keys gets a byte through");
});
