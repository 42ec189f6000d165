//! Lets sessions talk to each other, and to rustls' own buffered connections.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};

use super::*;
use crate::tls::record::Record;

mod compared;
mod records;

/// Settings of both sides that trust one self-signed certificate.
pub(crate) fn settings() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["db.test".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    server.send_tls13_tickets = 0;
    server.enable_secret_extraction = true;
    client.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

fn client(settings: &Arc<ClientConfig>, name: &'static str) -> Session {
    let name = name.try_into().unwrap();
    Session::client(UnbufferedClientConnection::new(Arc::clone(settings), name).unwrap())
}

/// A session and what it took from the peer.
struct End {
    session: Session,
    plain: Buffer,
}

impl End {
    fn new(session: Session) -> Self {
        Self {
            session,
            plain: Buffer::new(),
        }
    }

    /// Takes `bytes` in pieces of `piece`; returns its replies and where it is.
    fn take(&mut self, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Progress), Error> {
        let mut reply = Buffer::new();
        let mut progress = Progress::Handshake;
        for part in bytes.chunks(piece.max(1)) {
            let mut incoming = [self.session.held(), part].concat();
            progress = self.session.receive(&mut incoming, &mut self.plain, &mut reply)?;
        }
        Ok((reply.filled().to_vec(), progress))
    }

    fn start(&mut self) -> Vec<u8> {
        let mut reply = Buffer::new();
        self.session
            .receive(&mut [], &mut self.plain, &mut reply)
            .unwrap();
        reply.filled().to_vec()
    }
}

/// Two ends after their handshake, every flight cut into pieces of `piece` bytes.
fn open(piece: usize) -> (End, End) {
    let (for_client, for_server) = settings();
    let mut client = End::new(client(&for_client, "db.test"));
    let mut server = End::new(Session::server(
        UnbufferedServerConnection::new(for_server).unwrap(),
    ));
    let mut to_server = client.start();
    loop {
        let (to_client, server_at) = server.take(&to_server, piece).unwrap();
        if to_client.is_empty() {
            assert_eq!(server_at, Progress::Open);
            return (client, server);
        }
        to_server = client.take(&to_client, piece).unwrap().0;
    }
}

#[test]
fn bytes_arrive_whole_however_they_are_cut() {
    for piece in [1, 7, 1000, usize::MAX] {
        let (mut client, mut server) = open(piece);
        let sent: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let mut sealed = Buffer::new();
        client.session.seal(&sent, &mut sealed).unwrap();
        assert_eq!(
            server.take(sealed.filled(), piece).unwrap(),
            (Vec::new(), Progress::Open)
        );
        assert_eq!(server.plain.filled(), sent);
        sealed.clear();
        server.session.seal(b"pong", &mut sealed).unwrap();
        client.take(sealed.filled(), piece).unwrap();
        assert_eq!(client.plain.filled(), b"pong");
        assert_eq!(
            (client.session.held(), server.session.held()),
            ([].as_slice(), [].as_slice())
        );
    }
}

#[test]
fn one_side_finishes_and_the_other_goes_on() {
    let (mut client, mut server) = open(usize::MAX);
    let mut sealed = Buffer::new();
    client.session.seal(b"last words", &mut sealed).unwrap();
    client.session.finish(&mut sealed).unwrap();
    let (_, at) = server.take(sealed.filled(), usize::MAX).unwrap();
    assert_eq!(
        (at, server.plain.filled()),
        (Progress::PeerFinished, b"last words".as_slice())
    );
    for word in [b"still ".as_slice(), b"here"] {
        sealed.clear();
        server.session.seal(word, &mut sealed).unwrap();
        client.take(sealed.filled(), usize::MAX).unwrap();
    }
    assert_eq!(client.plain.filled(), b"still here");
    sealed.clear();
    server.session.finish(&mut sealed).unwrap();
    assert_eq!(
        client.take(sealed.filled(), usize::MAX).unwrap().1,
        Progress::PeerFinished
    );
}

/// One of ours after its handshake with a server that is none of ours.
fn foreign() -> (End, ServerConnection) {
    let (for_client, for_server) = settings();
    let mut ours = End::new(client(&for_client, "db.test"));
    let mut theirs = ServerConnection::new(for_server).unwrap();
    let mut to_server = ours.start();
    let mut progress = Progress::Handshake;
    while progress == Progress::Handshake || theirs.is_handshaking() {
        theirs.read_tls(&mut to_server.as_slice()).unwrap();
        theirs.process_new_packets().unwrap();
        let mut to_client = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut to_client).unwrap();
        }
        if !to_client.is_empty() {
            (to_server, progress) = ours.take(&to_client, usize::MAX).unwrap();
        }
    }
    (ours, theirs)
}

#[test]
fn a_foreign_peer_renews_its_keys_and_ours() {
    let (mut ours, mut theirs) = foreign();
    for _ in 0..3 {
        theirs.refresh_traffic_keys().unwrap();
        theirs.writer().write_all(b"new keys").unwrap();
        let mut sealed = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut sealed).unwrap();
        }
        ours.plain.clear();
        let (reply, _) = ours.take(&sealed, usize::MAX).unwrap();
        assert_eq!(ours.plain.filled(), b"new keys");
        // Ours come with the next bytes that we send.
        let mut answer = Buffer::new();
        answer.push(&reply);
        ours.session.seal(b"mine as well", &mut answer).unwrap();
        theirs.read_tls(&mut answer.filled()).unwrap();
        theirs.process_new_packets().unwrap();
        let mut heard = [0; 12];
        theirs.reader().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"mine as well");
    }
}

// B7: new keys again and again, and nothing said with them, cost a computation each; soon there is an end of it.
#[test]
fn a_flood_of_key_updates_is_refused() {
    let (mut ours, mut theirs) = foreign();
    let mut taken = 0;
    let error = loop {
        theirs.refresh_traffic_keys().unwrap();
        let mut sealed = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut sealed).unwrap();
        }
        match ours.take(&sealed, usize::MAX) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "it goes on for ever");
    };
    assert_eq!(error, rustls::PeerMisbehaved::TooManyKeyUpdateRequests.into());
}

#[test]
fn a_refusal_leaves_with_its_alert() {
    let (for_client, for_server) = settings();
    let mut client = End::new(client(&for_client, "other.test"));
    let mut server = End::new(Session::server(
        UnbufferedServerConnection::new(for_server).unwrap(),
    ));
    let hello = client.start();
    let (flight, _) = server.take(&hello, usize::MAX).unwrap();
    let (mut flight, mut reply) = (flight, Buffer::new());
    let refused = client
        .session
        .receive(&mut flight, &mut client.plain, &mut reply)
        .unwrap_err();
    assert!(matches!(refused, Error::InvalidCertificate(_)), "{refused}");
    let told = server.take(reply.filled(), usize::MAX).unwrap_err();
    assert!(matches!(told, Error::AlertReceived(_)), "{told}");
}

#[test]
fn garbage_and_altered_records_are_refused() {
    let (_, for_server) = settings();
    let mut server = End::new(Session::server(
        UnbufferedServerConnection::new(for_server).unwrap(),
    ));
    assert!(server.take(b"GET / HTTP/1.1\r\n\r\n", usize::MAX).is_err());

    let (mut client, mut server) = open(usize::MAX);
    let mut sealed = Buffer::new();
    client.session.seal(b"to be altered", &mut sealed).unwrap();
    let last = sealed.filled().len() - 1;
    sealed.filled_mut()[last] ^= 1;
    assert!(server.take(sealed.filled(), usize::MAX).is_err());
    assert_eq!(server.plain.filled(), b"");
}

#[test]
fn nothing_is_sealed_before_the_handshake_is_over() {
    let (for_client, _) = settings();
    let mut client = client(&for_client, "db.test");
    let mut out = Buffer::new();
    assert!(client.seal(b"too early", &mut out).is_err());
    assert!(!out.filled().windows(9).any(|window| window == b"too early"));
}

#[test]
fn writing_does_not_disturb_half_a_message() {
    let (for_client, for_server) = settings();
    let mut ours = End::new(client(&for_client, "db.test"));
    let mut theirs = ServerConnection::new(for_server).unwrap();
    let mut to_server = ours.start();
    while ours.session.is_handshaking() || theirs.is_handshaking() {
        theirs.read_tls(&mut to_server.as_slice()).unwrap();
        theirs.process_new_packets().unwrap();
        let mut to_client = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut to_client).unwrap();
        }
        to_server = ours.take(&to_client, usize::MAX).unwrap().0;
    }
    theirs.writer().write_all(&[7; 20_000]).unwrap();
    let mut sealed = Vec::new();
    while theirs.wants_write() {
        theirs.write_tls(&mut sealed).unwrap();
    }
    for part in sealed.chunks(1000) {
        ours.take(part, 100).unwrap();
        let mut out = Buffer::new();
        ours.session.seal(b"meanwhile", &mut out).unwrap();
        theirs.read_tls(&mut out.filled()).unwrap();
        theirs.process_new_packets().unwrap();
    }
    assert_eq!(ours.plain.filled(), vec![7; 20_000]);
}
