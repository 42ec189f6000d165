//! Says the same to a session of ours and to rustls' own connection, which must take it alike.

use std::io::ErrorKind;

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::{ClientConnection, ContentType};

use super::records::{Far, drive, ticket};
use super::*;

/// What a server says after its handshake.
#[derive(Debug, Clone)]
enum Word {
    Text(Vec<u8>),
    Renewal { wanted: bool },
    Ticket { length: u8, cut: usize },
    Alert(u8, u8),
    Anything { kind: u8, content: Vec<u8> },
    Altered { text: Vec<u8>, at: usize },
}

impl Word {
    /// In records under the keys of `far`.
    fn sealed(&self, far: &mut Far) -> Vec<u8> {
        match self {
            Self::Text(text) => far.sealed(ContentType::ApplicationData, text),
            Self::Renewal { wanted } => far.renews(*wanted),
            Self::Ticket { length, cut } => {
                let message = ticket(*length);
                let parts = message.chunks((*cut).max(1));
                parts
                    .flat_map(|part| far.sealed(ContentType::Handshake, part))
                    .collect()
            }
            Self::Alert(level, description) => far.sealed(ContentType::Alert, &[*level, *description]),
            Self::Anything { kind, content } => far.sealed((*kind).into(), content),
            Self::Altered { text, at } => {
                let mut record = far.sealed(ContentType::ApplicationData, text);
                // rustls takes any second byte of a version there; RFC 8446 §5.2 knows one.
                let at = match at % record.len() {
                    2 => 0,
                    at => at,
                };
                record[at] ^= 0x80;
                record
            }
        }
    }
}

fn word() -> impl Strategy<Value = Word> {
    let text = || vec(any::<u8>(), 0..2_000);
    prop_oneof![
        8 => text().prop_map(Word::Text),
        4 => any::<bool>().prop_map(|wanted| Word::Renewal { wanted }),
        4 => (1_u8..200, 1_usize..100).prop_map(|(length, cut)| Word::Ticket { length, cut }),
        1 => Just(Word::Alert(1, 0)),
        1 => Just(Word::Alert(1, 90)),
        1 => (1_u8..3, any::<u8>()).prop_map(|(level, description)| Word::Alert(level, description)),
        1 => (20_u8..26, vec(any::<u8>(), 1..40)).prop_map(|(kind, content)| Word::Anything { kind, content }),
        1 => (text(), any::<usize>()).prop_map(|(text, at)| Word::Altered { text, at }),
    ]
}

/// What was taken: the text, whether the server has finished, whether it was refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    text: Vec<u8>,
    finished: bool,
    refused: bool,
}

/// By a session of ours, in pieces of `piece` bytes.
fn by_ours(words: &[Word], piece: usize) -> Taken {
    let (for_client, for_server) = settings();
    let mut ours = End::new(client(&for_client, "db.test"));
    let mut server = UnbufferedServerConnection::new(for_server).unwrap();
    let mut to_server = ours.start();
    while ours.session.is_handshaking() || server.is_handshaking() {
        let to_client = drive(&mut server, &mut to_server);
        if !to_client.is_empty() {
            to_server = ours.take(&to_client, piece).unwrap().0;
        }
    }
    let mut far = Far::new(server);
    let mut taken = Taken::default();
    for word in words {
        match ours.take(&word.sealed(&mut far), piece) {
            Ok((_, progress)) => taken.finished = progress == Progress::PeerFinished,
            Err(_) => {
                taken.refused = true;
                break;
            }
        }
    }
    taken.text = ours.plain.filled().to_vec();
    taken
}

fn by_rustls(words: &[Word]) -> Taken {
    let (for_client, for_server) = settings();
    let mut theirs = ClientConnection::new(for_client, "db.test".try_into().unwrap()).unwrap();
    let mut server = UnbufferedServerConnection::new(for_server).unwrap();
    while theirs.is_handshaking() || server.is_handshaking() {
        let mut to_server = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut to_server).unwrap();
        }
        let to_client = drive(&mut server, &mut to_server);
        let mut unread = to_client.as_slice();
        while !unread.is_empty() {
            theirs.read_tls(&mut unread).unwrap();
            theirs.process_new_packets().unwrap();
        }
    }
    let mut far = Far::new(server);
    let mut taken = Taken::default();
    'words: for word in words {
        let sealed = word.sealed(&mut far);
        let mut unread = sealed.as_slice();
        while !unread.is_empty() && !taken.finished {
            theirs.read_tls(&mut unread).unwrap();
            let state = theirs.process_new_packets();
            let read = theirs.reader().read_to_end(&mut taken.text);
            if state.is_err() {
                taken.refused = true;
                break 'words;
            }
            match read {
                Ok(_) => taken.finished = true,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn ours_takes_what_rustls_takes(words in vec(word(), 0..40), piece in 1_usize..5_000) {
        let ours = by_ours(&words, piece);
        prop_assert_eq!(ours, by_rustls(&words));
    }
}
