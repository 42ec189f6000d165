//! Holds an open session to what a peer may say: new keys, tickets, fragments, alerts, and what no peer may.

use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ContentType, ExtractedSecrets};

use super::*;
use crate::tls::record::Keys;

/// One of ours after its handshake, and the far side's keys, so that anything at all can be said to it.
struct Bare {
    ours: End,
    far: Far,
}

/// The keys of a server after its handshake.
pub(super) struct Far {
    secrets: ExtractedSecrets,
    kernel: KernelConnection<ServerConnectionData>,
    sealing: Keys,
}

impl Far {
    pub(super) fn new(server: UnbufferedServerConnection) -> Self {
        let (secrets, kernel) = server.dangerous_into_kernel_connection().unwrap();
        let sealing = Keys::new(&secrets.tx.1, secrets.tx.0).unwrap();
        Self {
            secrets,
            kernel,
            sealing,
        }
    }

    pub(super) fn sealed(&mut self, kind: ContentType, content: &[u8]) -> Vec<u8> {
        let mut out = Buffer::new();
        self.sealing.seal(kind, content, &mut out).unwrap();
        out.filled().to_vec()
    }

    /// Says that new keys follow, and changes to them.
    pub(super) fn renews(&mut self, wanted: bool) -> Vec<u8> {
        let record = self.sealed(ContentType::Handshake, &[24, 0, 0, 1, u8::from(wanted)]);
        let (sequence, secrets) = self.kernel.update_tx_secret().unwrap();
        self.sealing = Keys::new(&secrets, sequence).unwrap();
        record
    }
}

impl Bare {
    fn new() -> Self {
        let (for_client, for_server) = settings();
        let mut ours = End::new(client(&for_client, "db.test"));
        let mut theirs = UnbufferedServerConnection::new(for_server).unwrap();
        let mut to_server = ours.start();
        while ours.session.is_handshaking() || theirs.is_handshaking() {
            let to_client = drive(&mut theirs, &mut to_server);
            to_server = match to_client.is_empty() {
                true => Vec::new(),
                false => ours.take(&to_client, usize::MAX).unwrap().0,
            };
        }
        Self {
            ours,
            far: Far::new(theirs),
        }
    }

    fn says(&mut self, kind: ContentType, content: &[u8]) -> Result<(Vec<u8>, Progress), Error> {
        let record = self.far.sealed(kind, content);
        self.ours.take(&record, usize::MAX)
    }

    /// What ours seals, opened record by record with the first keys.
    fn opened(&self, sealed: &[u8]) -> Vec<(ContentType, Vec<u8>)> {
        let mut keys = Keys::new(&self.far.secrets.rx.1, self.far.secrets.rx.0).unwrap();
        opened(&mut keys, sealed)
    }
}

fn opened(keys: &mut Keys, mut sealed: &[u8]) -> Vec<(ContentType, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(record) = Record::first(sealed).unwrap() {
        let mut text = Buffer::new();
        let kind = keys.open(&record, &mut text).unwrap();
        all.push((kind, text.filled().to_vec()));
        sealed = &sealed[record.length()..];
    }
    all
}

/// Lets a server of rustls' take `bytes`, which it uses up; returns its answers.
pub(super) fn drive(theirs: &mut UnbufferedServerConnection, bytes: &mut Vec<u8>) -> Vec<u8> {
    let mut answers = Vec::new();
    loop {
        let status = theirs.process_tls_records(bytes);
        let discard = status.discard;
        match status.state.unwrap() {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = [0; 20_000];
                let count = data.encode(&mut room).unwrap();
                answers.extend_from_slice(&room[..count]);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            _ => {
                bytes.drain(..discard);
                return answers;
            }
        }
        bytes.drain(..discard);
    }
}

/// A ticket of `length` bytes, as a server says it (RFC 8446 §4.6.1).
pub(super) fn ticket(length: u8) -> Vec<u8> {
    let mut message = vec![4, 0, 0, 14 + length];
    // Its life, what is added to its age, one byte of a nonce; its length; no extensions.
    message.extend([0, 0, 0, 60, 1, 2, 3, 4, 1, 9, 0, length]);
    message.extend(vec![7; usize::from(length)]);
    message.extend([0, 0]);
    message
}

#[test]
fn tickets_are_taken_however_they_are_cut_and_change_nothing() {
    let mut bare = Bare::new();
    let two = [ticket(20), ticket(20)].concat();
    for piece in [1, 5, 30, 48] {
        for part in two.chunks(piece) {
            let (reply, progress) = bare.says(ContentType::Handshake, part).unwrap();
            assert_eq!((reply, progress), (Vec::new(), Progress::Open));
        }
        bare.says(ContentType::ApplicationData, b"text").unwrap();
        assert_eq!(bare.ours.plain.filled(), b"text");
        bare.ours.plain.clear();
    }
}

#[test]
fn nothing_comes_between_the_parts_of_a_message() {
    for (kind, content) in [
        (ContentType::ApplicationData, b"text"),
        (ContentType::Alert, b"\x01\x00.."),
    ] {
        let mut bare = Bare::new();
        bare.says(ContentType::Handshake, &[4, 0, 0, 20, 1]).unwrap();
        let content = if kind == ContentType::Alert {
            &content[..2]
        } else {
            content
        };
        assert!(matches!(
            bare.says(kind, content),
            Err(Error::InappropriateMessage { .. })
        ));
        assert_eq!(bare.ours.plain.filled(), b"");
    }
}

#[test]
fn what_no_peer_may_say_ends_the_connection_and_is_answered_by_an_alert() {
    let update_and_more = [24, 0, 0, 1, 0, 24];
    let cases: [(ContentType, &[u8], u8); 13] = [
        (ContentType::Handshake, &[], 10),
        (ContentType::Handshake, &[1, 0, 0, 0], 10),
        (ContentType::Handshake, &[13, 0, 0, 0], 10),
        (ContentType::Handshake, &[20, 0, 0, 0], 10),
        (ContentType::Handshake, &[4, 1, 0, 0], 50),
        (ContentType::Handshake, &[4, 0, 0, 1, 0], 50),
        (ContentType::Handshake, &[24, 0, 0, 1, 2], 50),
        (ContentType::Handshake, &[24, 0, 0, 0], 50),
        (ContentType::Handshake, &update_and_more, 10),
        (ContentType::ChangeCipherSpec, &[1], 10),
        (ContentType::Heartbeat, &[1], 10),
        (ContentType::Alert, &[1], 50),
        (ContentType::Alert, &[1, 0, 1, 0], 50),
    ];
    for (kind, content, wanted) in cases {
        let mut bare = Bare::new();
        let mut record = bare.far.sealed(kind, content);
        let (mut plain, mut reply) = (Buffer::new(), Buffer::new());
        let error = bare.ours.session.receive(&mut record, &mut plain, &mut reply);
        assert!(error.is_err(), "{kind:?} {content:?}");
        let told = bare.opened(reply.filled());
        assert_eq!(
            told,
            [(ContentType::Alert, vec![2, wanted])],
            "{kind:?} {content:?}"
        );
        assert_eq!(plain.filled(), b"");
        // Nothing more is said on it.
        assert!(bare.ours.session.seal(b"text", &mut reply).is_err());
    }
}

#[test]
fn alerts_end_the_connection_and_are_not_answered() {
    for (level, description) in [(2, 20), (1, 20), (2, 90), (7, 40), (2, 255)] {
        let mut bare = Bare::new();
        let mut record = bare.far.sealed(ContentType::Alert, &[level, description]);
        let (mut plain, mut reply) = (Buffer::new(), Buffer::new());
        let error = bare.ours.session.receive(&mut record, &mut plain, &mut reply);
        assert_eq!(error, Err(Error::AlertReceived(description.into())));
        assert_eq!(reply.filled(), b"");
    }
}

#[test]
fn an_alert_that_says_nothing_is_taken_a_few_times() {
    let mut bare = Bare::new();
    let refused = (0..10).find_map(|_| bare.says(ContentType::Alert, &[1, 90]).err());
    assert_eq!(
        refused,
        Some(rustls::PeerMisbehaved::TooManyWarningAlertsReceived.into())
    );
}

#[test]
fn what_follows_the_end_is_ignored() {
    let mut bare = Bare::new();
    let mut end = bare.far.sealed(ContentType::Alert, &[1, 0]);
    end.extend(bare.far.sealed(ContentType::ApplicationData, b"too late"));
    end.extend(b"and no record at all");
    for piece in [usize::MAX, 3] {
        let (_, progress) = bare.ours.take(&end, piece).unwrap();
        assert_eq!(progress, Progress::PeerFinished);
        assert_eq!(bare.ours.plain.filled(), b"");
        assert_eq!(bare.ours.session.held(), b"");
    }
}

#[test]
fn keys_are_renewed_before_they_are_used_up() {
    let mut bare = Bare::new();
    let Stage::Open { open, .. } = &mut bare.ours.session.stage else {
        unreachable!("the handshake is over");
    };
    open.renew_after(4);
    let mut sealed = Buffer::new();
    for _ in 0..20 {
        bare.ours.session.seal(b"text", &mut sealed).unwrap();
    }
    let mut keys = Keys::new(&bare.far.secrets.rx.1, bare.far.secrets.rx.0).unwrap();
    let (mut rest, mut texts, mut renewed) = (sealed.filled(), 0, 0);
    while let Some(record) = Record::first(rest).unwrap() {
        let mut said = Buffer::new();
        match keys.open(&record, &mut said).unwrap() {
            ContentType::ApplicationData => texts += 1,
            kind => {
                // The fourth record of every key says that a new one follows.
                assert_eq!(
                    (kind, said.filled()),
                    (ContentType::Handshake, [24, 0, 0, 1, 0].as_slice())
                );
                assert_eq!(keys.sequence(), 4);
                let (sequence, secrets) = bare.far.kernel.update_rx_secret().unwrap();
                keys = Keys::new(&secrets, sequence).unwrap();
                renewed += 1;
            }
        }
        rest = &rest[record.length()..];
    }
    assert_eq!((rest, texts, renewed), ([].as_slice(), 20, 6));
}

#[test]
fn new_keys_that_are_asked_for_come_once_and_before_anything_else() {
    let mut bare = Bare::new();
    for _ in 0..2 {
        let record = bare.far.renews(true);
        bare.ours.take(&record, usize::MAX).unwrap();
    }
    let mut sealed = Buffer::new();
    bare.ours.session.finish(&mut sealed).unwrap();
    let record = Record::first(sealed.filled()).unwrap().unwrap();
    let first = &sealed.filled()[..record.length()];
    assert_eq!(
        bare.opened(first),
        [(ContentType::Handshake, vec![24, 0, 0, 1, 0])]
    );
    let (sequence, secrets) = bare.far.kernel.update_rx_secret().unwrap();
    let mut keys = Keys::new(&secrets, sequence).unwrap();
    let rest = opened(&mut keys, &sealed.filled()[record.length()..]);
    assert_eq!(rest, [(ContentType::Alert, vec![1, 0])]);
    sealed.clear();
    bare.ours.session.finish(&mut sealed).unwrap();
    assert_eq!(sealed.filled(), b"", "the end is said once");
}

// What comes right behind the handshake, in one piece with it, belongs to the records already.
#[test]
fn bytes_that_travel_with_the_last_flight_are_taken() {
    for piece in [1, 6, 100, usize::MAX] {
        let (for_client, for_server) = settings();
        let mut client = End::new(client(&for_client, "db.test"));
        let mut server = End::new(Session::server(
            UnbufferedServerConnection::new(for_server).unwrap(),
        ));
        let hello = client.start();
        let (flight, _) = server.take(&hello, piece).unwrap();
        // The server may speak before it has heard the client's last words.
        let (last, at) = client.take(&flight, piece).unwrap();
        assert_eq!(at, Progress::Open);
        let mut behind = Buffer::new();
        behind.push(&last);
        let text = vec![3; 40_000];
        client.session.seal(&text, &mut behind).unwrap();
        client.session.finish(&mut behind).unwrap();
        let (_, at) = server.take(behind.filled(), piece).unwrap();
        assert_eq!(at, Progress::PeerFinished);
        assert!(server.plain.filled() == text);
    }
}

#[test]
fn secrets_that_are_not_handed_over_are_an_error() {
    let (for_client, for_server) = settings();
    let mut closed = (*for_client).clone();
    closed.enable_secret_extraction = false;
    let mut ours = End::new(client(&Arc::new(closed), "db.test"));
    let mut theirs = UnbufferedServerConnection::new(for_server).unwrap();
    let flight = drive(&mut theirs, &mut ours.start());
    assert!(ours.take(&flight, usize::MAX).is_err());
    assert!(ours.session.seal(b"text", &mut Buffer::new()).is_err());
    assert!(ours.take(b"more", usize::MAX).is_err());
}
