//! Carries several streams over one connection.

use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};

use super::channel::{Channel, First};
use super::early::Early;
use super::exchange::{self, OpenError, tell_end};
use super::*;
use crate::forward::moment::Moments;
use crate::forward::relay::{Arrived, Leg, Moved, RelayError, sealed};
use crate::net::socket::reset_on_close;
use crate::tls::session::tests::settings;
use crate::tls::session::{Progress, Session};

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

async fn shake(mut tcp: TcpStream, mut session: Session, end: streams::Side) -> Side {
    let mut incoming = Buffer::new();
    loop {
        let (mut text, mut reply) = (Buffer::new(), Buffer::new());
        let progress = session
            .receive(incoming.filled_mut(), &mut text, &mut reply)
            .unwrap();
        tcp.write_all(reply.filled()).await.unwrap();
        if progress == Progress::Open {
            let channel = Channel::new(session, Box::new(Streams::new(end)));
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
    tokio::join!(
        shake(dialled, near, streams::Side::Dialling),
        shake(accepted, far, streams::Side::Dialled)
    )
}

impl Side {
    async fn open(&mut self) -> Result<Arrived, OpenError> {
        exchange::open(&mut self.tcp, &mut self.channel, Arrived::default(), LIMIT).await
    }

    async fn next(&mut self) -> Result<Arrived, OpenError> {
        exchange::next(&mut self.tcp, &mut self.channel, Arrived::default(), LIMIT).await
    }

    /// Cuts the stream.
    fn cut(&mut self, reason: &str) {
        let (tcp, channel) = (&self.tcp, &mut self.channel);
        assert_eq!(tell_end(tcp, |out| channel.reset(reason, out)), End::Stream);
    }

    async fn accept(&mut self) {
        let mut sealed = Buffer::new();
        self.channel.accept(First::default(), &mut sealed).unwrap();
        self.tcp.write_all(sealed.filled()).await.unwrap();
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
        far.accept().await;
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
        assert!(near.channel.is_idle() && far.channel.is_idle());
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
    assert!(matches!(opened_near, Err(OpenError::Refused { reason }) if reason == "denied"));
    near.cut("");
    opened(&mut near, &mut far).await;
}

#[tokio::test]
async fn a_reset_ends_one_stream_and_not_the_connection() {
    let (mut near, mut far) = sides().await;
    let (near_arrived, _) = opened(&mut near, &mut far).await;
    let (_client, near_inner) = pair().await;
    let resetting = async {
        far.cut("denied");
    };
    let (ended, ()) = tokio::join!(near.relay(near_inner, near_arrived), resetting);
    assert!(matches!(ended, Err(RelayError::Reset { reason }) if reason == "denied"));
    assert!(!near.channel.is_reusable());
    near.cut("");
    assert!(near.channel.is_idle());
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

/// What one record holds, without its end.
async fn received(side: &mut Side) -> (Heard, Vec<u8>) {
    let mut incoming = Buffer::new();
    incoming.push(side.channel.held());
    let read = side.tcp.read(incoming.room(20_000)).await.unwrap();
    incoming.advance(read);
    let (mut text, mut reply) = (Buffer::new(), Buffer::new());
    let heard = side
        .channel
        .receive(&mut incoming, &mut text, &mut reply)
        .unwrap();
    (heard, text.filled().to_vec())
}

#[tokio::test]
async fn a_question_travels_with_the_opening_and_the_rest_behind_it() {
    let (mut near, mut far) = sides().await;
    let (mut client, mut inner) = pair().await;
    client.write_all(b"GET /").await.unwrap();
    inner.readable().await.unwrap();
    let mut early = Early::default();
    let none = Arrived::default();
    let Side { tcp, channel } = &mut near;
    let opening = exchange::open_for(&mut inner, &mut early, tcp, channel, none, true, LIMIT);
    let serving = async {
        // One record has both.
        let arrived = far.next().await.unwrap();
        assert_eq!(&*arrived.text, b"GET /");
        client.write_all(b" HTTP").await.unwrap();
        assert_eq!(received(&mut far).await, (Heard::Data, b" HTTP".to_vec()));
        client.shutdown().await.unwrap();
        assert_eq!(received(&mut far).await, (Heard::Finished, Vec::new()));
        far.accept().await;
    };
    let (opened, ()) = tokio::join!(opening, serving);
    opened.unwrap();
    assert_eq!(early.count(), 10);
}

#[tokio::test]
async fn what_a_server_has_said_first_travels_with_the_word_that_its_stream_is_taken() {
    for (greeting, ends) in [("220 ready", false), ("", true), ("", false)] {
        let (mut near, mut far) = sides().await;
        let (mut inner, mut server) = pair().await;
        server.write_all(greeting.as_bytes()).await.unwrap();
        if ends {
            server.shutdown().await.unwrap();
        }
        if ends || !greeting.is_empty() {
            inner.readable().await.unwrap();
        }
        let (moments, moved) = (Moments::default(), Moved::default());
        let accepting = async {
            let mut arrived = far.next().await.unwrap();
            let Side { tcp, channel } = &mut far;
            // Nobody is waited for who says nothing.
            taking::take(tcp, channel, &mut inner, &mut arrived, LIMIT, &moments, &moved).await
        };
        let (opened, taken) = tokio::join!(near.open(), accepting);
        taken.unwrap();
        let arrived = opened.unwrap();
        assert_eq!(*arrived.text, *greeting.as_bytes());
        assert_eq!(arrived.finished, ends);
        assert_eq!(usize::try_from(moved.outward()).unwrap(), greeting.len());
    }
}

#[tokio::test]
async fn what_nobody_took_is_said_again_and_to_a_quiet_connection_only_once_it_is_taken() {
    let (mut client, mut inner) = pair().await;
    client.write_all(b"once").await.unwrap();
    inner.readable().await.unwrap();
    let mut early = Early::default();
    for tells in [true, false] {
        let (mut near, mut far) = sides().await;
        let Side { tcp, channel } = &mut near;
        let none = Arrived::default();
        let opening = exchange::open_for(&mut inner, &mut early, tcp, channel, none, tells, LIMIT);
        let refusing = async {
            let arrived = far.next().await.unwrap();
            assert_eq!(arrived.text.is_empty(), !tells);
            if tells {
                // It left in place of an answer.
                exchange::part_at_once(&far.tcp, &mut far.channel);
            } else {
                far.accept().await;
                assert_eq!(received(&mut far).await, (Heard::Data, b"once".to_vec()));
            }
        };
        let (opened, ()) = tokio::join!(opening, refusing);
        if tells {
            let error = opened.unwrap_err();
            assert!(matches!(error, OpenError::Left));
            assert!(error.is_untaken());
        } else {
            opened.unwrap();
        }
        assert!(early.is_told());
    }
}

#[tokio::test]
async fn a_connection_that_broke_may_have_been_heard() {
    let (mut near, far) = sides().await;
    let (mut client, mut inner) = pair().await;
    client.write_all(b"pay").await.unwrap();
    inner.readable().await.unwrap();
    let mut early = Early::default();
    let Side { tcp, channel } = &mut near;
    drop(far);
    let none = Arrived::default();
    let opened = exchange::open_for(&mut inner, &mut early, tcp, channel, none, true, LIMIT).await;
    assert!(!opened.unwrap_err().is_untaken());
    assert!(early.is_told());
}

#[test]
fn a_handshake_without_a_name_means_the_bytes_as_they_are() {
    let opening = |name| agreed(name, streams::Side::Dialled).map(|framing| framing.opening());
    assert_eq!(opening(None), Ok(Opening::Open));
    assert_eq!(opening(Some(raw::NAME)), Ok(Opening::Open));
    assert_eq!(opening(Some(streams::NAME)), Ok(Opening::Awaited));
    assert_eq!(opening(Some(b"h2")), Err(FramingError::Unknown));
}

/// One end of the stream's relay, whose application has already said `words` and then ended as `end` makes it; and the
/// first that the other end reads of it.
async fn first_read(words: &[u8], end: impl FnOnce(TcpStream)) -> (Heard, Vec<u8>, Result<(), RelayError>) {
    let (mut near, mut far) = sides().await;
    opened(&mut near, &mut far).await;
    let (inner, mut server) = pair().await;
    server.write_all(words).await.unwrap();
    end(server);
    while !inner.ready(Interest::READABLE).await.unwrap().is_read_closed() {
        tokio::task::yield_now().await;
    }
    let reading = async {
        let mut sealed = Buffer::new();
        let read = near.tcp.read(sealed.room(4096)).await.unwrap();
        sealed.advance(read);
        // Head and length of a record (RFC 8446 §5.1).
        let record = u16::from_be_bytes([sealed.filled()[3], sealed.filled()[4]]);
        assert_eq!(read, 5 + usize::from(record), "one record");
        let (mut text, mut reply) = (Buffer::new(), Buffer::new());
        let heard = near.channel.receive(&mut sealed, &mut text, &mut reply).unwrap();
        near.cut("");
        (heard, text.filled().to_vec())
    };
    let (ended, (heard, text)) = tokio::join!(far.relay(inner, Arrived::default()), reading);
    (heard, text, ended)
}

#[tokio::test]
async fn the_end_that_comes_with_the_last_bytes_travels_with_them() {
    let (heard, text, ended) = first_read(b"answer", drop).await;
    assert_eq!((heard, text.as_slice()), (Heard::Finished, b"answer".as_slice()));
    assert!(matches!(ended, Err(RelayError::Reset { .. })), "{ended:?}");
}

#[tokio::test]
async fn what_came_before_a_reset_goes_first_and_is_no_end() {
    let reset = |server: TcpStream| reset_on_close(&server).unwrap();
    let (heard, text, ended) = first_read(b"last words", reset).await;
    assert_eq!((heard, text.as_slice()), (Heard::Data, b"last words".as_slice()));
    assert!(
        matches!(ended, Err(RelayError::Broken { leg: Leg::Inner, .. })),
        "{ended:?}"
    );
}
