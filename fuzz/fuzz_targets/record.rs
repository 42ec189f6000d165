//! Opens any bytes as protected records, bends good ones, and says anything at all to an open session.
#![no_main]

use std::sync::{Arc, LazyLock};

use ferrule_fuzz::bend;
use ferrule_proxy::buffer::Buffer;
use ferrule_proxy::tls::record::{Keys, Record};
use ferrule_proxy::tls::session::{Progress, Session};
use libfuzzer_sys::fuzz_target;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, ConnectionTrafficSecrets, ContentType, RootCertStore, ServerConfig};

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    match how % 3 {
        0 => assert_eq!(opened(rest), b"", "a record that nobody sealed"),
        1 => {
            let text: Vec<u8> = (0..40_000_u32).map(|number| number.to_be_bytes()[2]).collect();
            let mut sealed = Buffer::new();
            let mut keys = keys();
            for piece in text.chunks(9_999) {
                keys.seal(ContentType::ApplicationData, piece, &mut sealed)
                    .expect("a record");
            }
            let taken = opened(&bend(sealed.filled(), rest));
            assert!(text.starts_with(&taken), "text that nobody sealed");
        }
        _ => say(rest),
    }
});

fn keys() -> Keys {
    let (key, iv) = (AeadKey::from([1; 32]), Iv::new([2; 12]));
    Keys::new(&ConnectionTrafficSecrets::Aes256Gcm { key, iv }, 0).expect("keys")
}

/// The content of the records that `bytes` begin with.
fn opened(bytes: &[u8]) -> Vec<u8> {
    let (mut keys, mut text, mut rest) = (keys(), Buffer::new(), bytes);
    while let Ok(Some(record)) = Record::first(rest) {
        if keys.open(&record, &mut text).is_err() {
            break;
        }
        rest = &rest[record.length()..];
    }
    text.filled().to_vec()
}

/// Each two bytes of `script` are a kind and a length, before as many bytes of content.
fn say(script: &[u8]) {
    let (mut session, mut far) = open();
    let (mut rest, mut said) = (script, Vec::new());
    let mut heard = Buffer::new();
    while let Some(([kind, length], behind)) = rest.split_first_chunk() {
        let content = &behind[..behind.len().min(usize::from(*length))];
        rest = &behind[content.len()..];
        let mut record = Buffer::new();
        far.seal(ContentType::from(*kind), content, &mut record)
            .expect("a record");
        let (kind, content) = meant(*kind, content);
        let (before, mut reply) = (heard.filled().len(), Buffer::new());
        match session.receive(record.filled_mut(), &mut heard, &mut reply) {
            Ok(progress) => {
                if kind == 23 {
                    said.extend_from_slice(content);
                }
                assert_eq!(heard.filled(), said);
                if progress == Progress::PeerFinished {
                    return;
                }
            }
            Err(_) => {
                assert_eq!(heard.filled().len(), before, "what was refused was taken");
                assert!(session.seal(b"more", &mut reply).is_err());
                return;
            }
        }
        // Keys of theirs that follow are not known here.
        if kind == 22 && content.contains(&24) {
            return;
        }
    }
}

/// What a record says: its kind is the last byte that is not zero (RFC 8446 §5.4).
fn meant(kind: u8, content: &[u8]) -> (u8, &[u8]) {
    if kind != 0 {
        return (kind, content);
    }
    let last = content.iter().rposition(|byte| *byte != 0);
    last.map_or((0, &[]), |last| (content[last], &content[..last]))
}

/// A session after its handshake, and what the far side seals with.
fn open() -> (Session, Keys) {
    let (client, server) = &*SETTINGS;
    let name = "db.test".try_into().expect("a name");
    let client = UnbufferedClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut server = UnbufferedServerConnection::new(Arc::clone(server)).expect("a server");
    let mut session = Session::client(client);
    let mut to_client = Vec::new();
    loop {
        let mut reply = Buffer::new();
        session
            .receive(&mut to_client, &mut Buffer::new(), &mut reply)
            .expect("a flight");
        let mut to_server = reply.filled().to_vec();
        to_client = answer(&mut server, &mut to_server);
        if to_client.is_empty() {
            let (secrets, _) = server.dangerous_into_kernel_connection().expect("secrets");
            return (session, Keys::new(&secrets.tx.1, secrets.tx.0).expect("keys"));
        }
    }
}

fn answer(server: &mut UnbufferedServerConnection, bytes: &mut Vec<u8>) -> Vec<u8> {
    let mut answers = Vec::new();
    loop {
        let status = server.process_tls_records(bytes);
        let discard = status.discard;
        let more = match status.state.expect("a state") {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = [0; 20_000];
                let count = data.encode(&mut room).expect("room");
                answers.extend_from_slice(&room[..count]);
                true
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                true
            }
            _ => false,
        };
        bytes.drain(..discard);
        if !more {
            return answers;
        }
    }
}

static SETTINGS: LazyLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = LazyLock::new(|| {
    let made = generate_simple_self_signed(["db.test".to_owned()]).expect("a certificate");
    let CertifiedKey { cert, signing_key } = made;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a certificate with its key");
    server.send_tls13_tickets = 0;
    (client.enable_secret_extraction, server.enable_secret_extraction) = (true, true);
    (Arc::new(client), Arc::new(server))
});
