//! Carries several streams over one connection, in a framing made for the purpose.

use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::channel::Channel;
use super::exchange::{self, OpenError, tell_end};
use super::*;
use crate::forward::relay::{Arrived, Leg, Moved, RelayError, sealed};
use crate::tls::session::tests::settings;
use crate::tls::session::{Progress, Session};

/// Each piece behind its length; a length above all others is a word.
#[derive(Default)]
struct Lengths {
    rest: Vec<u8>,
    said_end: bool,
    heard_end: bool,
}

const HEAD: usize = 4;
const WORDS: [(u32, Heard); 4] = [
    (u32::MAX, Heard::Opened),
    (u32::MAX - 1, Heard::Accepted),
    (u32::MAX - 2, Heard::Finished),
    (u32::MAX - 3, Heard::Reset),
];
const REFUSED: u32 = u32::MAX - 4;

fn word(heard: &Heard, out: &mut Buffer) {
    let (length, _) = WORDS.iter().find(|(_, word)| word == heard).unwrap();
    out.push(&length.to_be_bytes());
}

impl Framing for Lengths {
    fn head(&self) -> usize {
        HEAD
    }

    fn pack(&mut self, piece: &mut [u8]) {
        let length = u32::try_from(piece.len() - HEAD).unwrap();
        piece[..HEAD].copy_from_slice(&length.to_be_bytes());
    }

    fn unpack(&mut self, text: &mut Buffer, is_over: bool) -> Result<Heard, FramingError> {
        self.rest.extend_from_slice(text.filled());
        text.clear();
        while let Some((head, behind)) = self.rest.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes(*head);
            let heard = WORDS
                .iter()
                .find(|(word, _)| *word == length)
                .map(|(_, heard)| heard.clone());
            let heard = heard.or((length == REFUSED).then(|| Heard::Refused("no".to_owned())));
            if let Some(heard) = heard {
                self.rest.drain(..HEAD);
                match heard {
                    Heard::Opened | Heard::Accepted => (self.said_end, self.heard_end) = (false, false),
                    Heard::Finished => self.heard_end = true,
                    Heard::Reset => (self.said_end, self.heard_end) = (true, true),
                    _ => {}
                }
                return Ok(heard);
            }
            let length = length as usize;
            let Some(piece) = behind.get(..length) else { break };
            text.push(piece);
            self.rest.drain(..HEAD + length);
        }
        if is_over {
            return Err(FramingError::Unfinished);
        }
        Ok(Heard::Data)
    }

    fn opening(&self) -> Opening {
        Opening::Awaited
    }

    fn open(&mut self, out: &mut Buffer) {
        word(&Heard::Opened, out);
    }

    fn accept(&mut self, out: &mut Buffer) {
        word(&Heard::Accepted, out);
    }

    fn refuse(&mut self, _reason: &str, out: &mut Buffer) -> End {
        out.push(&REFUSED.to_be_bytes());
        End::Stream
    }

    fn finish(&mut self, out: &mut Buffer) -> End {
        self.said_end = true;
        word(&Heard::Finished, out);
        End::Stream
    }

    fn reset(&mut self, out: &mut Buffer) -> End {
        (self.said_end, self.heard_end) = (true, true);
        word(&Heard::Reset, out);
        End::Stream
    }

    fn is_reusable(&self) -> bool {
        self.said_end && self.heard_end
    }
}

/// One end of a connection.
struct Side {
    tcp: TcpStream,
    channel: Channel,
}

const LIMIT: Duration = Duration::from_secs(20);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    dial.set_nonblocking(true).unwrap();
    (
        TcpStream::from_std(dial).unwrap(),
        listener.accept().await.unwrap().0,
    )
}

async fn shake(mut tcp: TcpStream, mut session: Session) -> Side {
    let mut incoming = Buffer::new();
    loop {
        let (mut text, mut reply) = (Buffer::new(), Buffer::new());
        let progress = session
            .receive(incoming.filled_mut(), &mut text, &mut reply)
            .unwrap();
        tcp.write_all(reply.filled()).await.unwrap();
        if progress == Progress::Open {
            let channel = Channel::new(session, Box::<Lengths>::default());
            return Side { tcp, channel };
        }
        incoming.clear();
        incoming.push(session.held());
        let read = tcp.read(incoming.room(4096)).await.unwrap();
        incoming.advance(read);
    }
}

async fn sides() -> (Side, Side) {
    let (for_client, for_server) = settings();
    let name = "db.test".try_into().unwrap();
    let near = Session::client(UnbufferedClientConnection::new(for_client, name).unwrap());
    let far = Session::server(UnbufferedServerConnection::new(for_server).unwrap());
    let (dialled, accepted) = pair().await;
    tokio::join!(shake(dialled, near), shake(accepted, far))
}

impl Side {
    async fn open(&mut self) -> Result<Arrived, OpenError> {
        exchange::open(&mut self.tcp, &mut self.channel, Arrived::default(), LIMIT).await
    }

    async fn next(&mut self) -> Result<Arrived, OpenError> {
        exchange::next(&mut self.tcp, &mut self.channel, Arrived::default(), LIMIT).await
    }

    async fn relay(&mut self, mut inner: TcpStream, arrived: Arrived) -> Result<(), RelayError> {
        let moved = Moved::default();
        sealed(
            &mut self.tcp,
            &mut self.channel,
            &mut inner,
            arrived,
            LIMIT,
            &moved,
        )
        .await
    }
}

/// Opens one stream; returns what came with it at both ends.
async fn opened(near: &mut Side, far: &mut Side) -> (Arrived, Arrived) {
    let accepting = async {
        let arrived = far.next().await.unwrap();
        exchange::accept(&mut far.tcp, &mut far.channel, LIMIT)
            .await
            .unwrap();
        arrived
    };
    let (near, far) = tokio::join!(near.open(), accepting);
    (near.unwrap(), far)
}

#[tokio::test]
async fn streams_follow_each_other_on_one_connection() {
    let (mut near, mut far) = sides().await;
    for round in 0..3_u8 {
        let (near_arrived, far_arrived) = opened(&mut near, &mut far).await;
        let (mut client, near_inner) = pair().await;
        let (far_inner, mut server) = pair().await;
        let talk = async {
            client.write_all(&vec![round; 300_000]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let answer = async {
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).await.unwrap();
            // After the client's end: half of the stream is still open.
            server.write_all(&heard).await.unwrap();
            drop(server);
        };
        let (near_ended, far_ended, heard, ()) = tokio::join!(
            near.relay(near_inner, near_arrived),
            far.relay(far_inner, far_arrived),
            talk,
            answer,
        );
        near_ended.unwrap();
        far_ended.unwrap();
        assert_eq!(heard, vec![round; 300_000]);
        assert!(near.channel.is_reusable() && far.channel.is_reusable());
    }
}

#[tokio::test]
async fn a_refused_stream_leaves_the_connection() {
    let (mut near, mut far) = sides().await;
    let refusing = async {
        far.next().await.unwrap();
        let (tcp, channel) = (&far.tcp, &mut far.channel);
        assert_eq!(tell_end(tcp, |out| channel.refuse("denied", out)), End::Stream);
    };
    let (opened_near, ()) = tokio::join!(near.open(), refusing);
    assert!(matches!(opened_near, Err(OpenError::Refused { reason }) if reason == "no"));
    opened(&mut near, &mut far).await;
}

#[tokio::test]
async fn a_reset_ends_one_stream_and_not_the_connection() {
    let (mut near, mut far) = sides().await;
    let (near_arrived, _) = opened(&mut near, &mut far).await;
    let (_client, near_inner) = pair().await;
    let resetting = async {
        let (tcp, channel) = (&far.tcp, &mut far.channel);
        assert_eq!(tell_end(tcp, |out| channel.reset(out)), End::Stream);
    };
    let (ended, ()) = tokio::join!(near.relay(near_inner, near_arrived), resetting);
    assert!(matches!(ended, Err(RelayError::Broken { leg: Leg::Outer, .. })));
    assert!(near.channel.is_reusable());
    opened(&mut near, &mut far).await;
}

#[tokio::test]
async fn the_end_of_the_connection_within_a_stream_is_no_end_of_it() {
    let (mut near, mut far) = sides().await;
    let (near_arrived, _) = opened(&mut near, &mut far).await;
    let (_client, near_inner) = pair().await;
    drop(far);
    let ended = near.relay(near_inner, near_arrived).await;
    assert!(matches!(ended, Err(RelayError::Truncated)));
    assert!(!near.channel.is_reusable());
}

#[test]
fn a_handshake_without_a_name_means_the_bytes_as_they_are() {
    assert!(agreed(None).is_ok());
    assert!(agreed(Some(raw::NAME)).is_ok());
    assert_eq!(agreed(Some(b"h2")).err(), Some(FramingError::Unknown));
}
