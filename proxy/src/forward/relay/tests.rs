//! Relays between real sockets on loopback.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::framing::raw::Raw;
use crate::net::socket::reset_on_close;
use crate::tls::session::tests::settings;
use crate::tls::session::{Progress, Session};

/// Two ends of one TCP connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dial = std::net::TcpStream::connect(address).unwrap();
    dial.set_nonblocking(true).unwrap();
    (
        TcpStream::from_std(dial).unwrap(),
        listener.accept().await.unwrap().0,
    )
}

/// Brings one side of a handshake to its end.
async fn shake(tcp: &mut TcpStream, session: &mut Session) {
    let mut incoming = Buffer::new();
    loop {
        let (mut plain, mut reply) = (Buffer::new(), Buffer::new());
        let progress = session
            .receive(incoming.filled_mut(), &mut plain, &mut reply)
            .unwrap();
        tcp.write_all(reply.filled()).await.unwrap();
        if progress == Progress::Open {
            return;
        }
        incoming.clear();
        incoming.push(session.held());
        let read = tcp.read(incoming.room(4096)).await.unwrap();
        assert_ne!(read, 0);
        incoming.advance(read);
    }
}

fn raw(session: Session) -> Channel {
    Channel::new(session, Box::new(Raw))
}

/// The whole way: `client` → relay → TLS → relay → `server`. What each relay ended with comes when both have.
struct Way {
    client: TcpStream,
    server: TcpStream,
    relays: tokio::task::JoinHandle<[Result<(), RelayError>; 2]>,
}

const LONG: Duration = Duration::from_secs(3600);

async fn way(half_closed: Duration) -> Way {
    let (for_client, for_server) = settings();
    let name = "db.test".try_into().unwrap();
    let mut near = Session::client(UnbufferedClientConnection::new(for_client, name).unwrap());
    let mut far = Session::server(UnbufferedServerConnection::new(for_server).unwrap());
    let (client, mut near_inner) = pair().await;
    let (mut near_outer, mut far_outer) = pair().await;
    let (mut far_inner, server) = pair().await;
    tokio::join!(shake(&mut near_outer, &mut near), shake(&mut far_outer, &mut far));
    let (mut near, mut far) = (raw(near), raw(far));
    let relays = tokio::task::spawn_local(async move {
        let near = async {
            let moved = Moved::default();
            let ended = sealed(
                &mut near_outer,
                &mut near,
                &mut near_inner,
                Arrived::default(),
                half_closed,
                &moved,
            )
            .await;
            close(ended.is_err(), near_outer, near_inner);
            ended
        };
        let far = async {
            let moved = Moved::default();
            let ended = sealed(
                &mut far_outer,
                &mut far,
                &mut far_inner,
                Arrived::default(),
                half_closed,
                &moved,
            )
            .await;
            close(ended.is_err(), far_outer, far_inner);
            ended
        };
        let (near, far) = tokio::join!(near, far);
        [near, far]
    });
    Way {
        client,
        server,
        relays,
    }
}

/// What a caller of the relay does at its end.
fn close(cut: bool, outer: TcpStream, inner: TcpStream) {
    if cut {
        reset_on_close(&outer).unwrap();
        reset_on_close(&inner).unwrap();
    }
}

async fn local<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(test).await
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at * 31 % 251).unwrap())
        .collect()
}

#[tokio::test]
async fn both_directions_arrive_whole_and_end_clean() {
    local(async {
        let Way {
            client,
            server,
            relays,
        } = way(LONG).await;
        let (mut client_read, mut client_write) = client.into_split();
        let (mut server_read, mut server_write) = server.into_split();
        let sent = Arc::new(pattern(5_000_000));
        let (up, down) = (Arc::clone(&sent), Arc::clone(&sent));
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        let up = async {
            client_write.write_all(&up).await.unwrap();
            client_write.shutdown().await.unwrap();
        };
        let down = async {
            server_write.write_all(&down).await.unwrap();
            server_write.shutdown().await.unwrap();
        };
        tokio::join!(
            up,
            down,
            async { server_read.read_to_end(&mut at_server).await.unwrap() },
            async { client_read.read_to_end(&mut at_client).await.unwrap() },
        );
        assert!(at_server == *sent && at_client == *sent);
        for ended in relays.await.unwrap() {
            ended.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_half_close_lets_the_answer_through() {
    local(async {
        let Way {
            mut client,
            mut server,
            relays,
        } = way(LONG).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        let answer = pattern(300_000);
        let mut heard = Vec::new();
        tokio::join!(
            async {
                server.write_all(&answer).await.unwrap();
                drop(server);
            },
            async { client.read_to_end(&mut heard).await.unwrap() },
        );
        assert!(heard == answer);
        assert!(relays.await.unwrap().iter().all(Result::is_ok));
    })
    .await;
}

#[tokio::test]
async fn a_reset_arrives_as_a_reset() {
    local(async {
        let Way {
            mut client,
            mut server,
            relays,
        } = way(LONG).await;
        client.write_all(b"half a sen").await.unwrap();
        server.read_exact(&mut [0; 10]).await.unwrap();
        reset_on_close(&client).unwrap();
        drop(client);
        let error = server.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let [near, far] = relays.await.unwrap();
        assert!(
            matches!(near, Err(RelayError::Broken { leg: Leg::Inner, .. })),
            "{near:?}"
        );
        assert!(
            matches!(far, Err(RelayError::Broken { leg: Leg::Outer, .. })),
            "{far:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_truncated_stream_is_no_end_of_stream() {
    local(async {
        let (for_client, for_server) = settings();
        let name = "db.test".try_into().unwrap();
        let mut near = Session::client(UnbufferedClientConnection::new(for_client, name).unwrap());
        let mut far = Session::server(UnbufferedServerConnection::new(for_server).unwrap());
        let (mut cutter, mut outer) = pair().await;
        let (mut inner, mut application) = pair().await;
        tokio::join!(shake(&mut cutter, &mut near), shake(&mut outer, &mut far));
        let mut sealed_bytes = Buffer::new();
        near.seal(b"pay 100", &mut sealed_bytes).unwrap();
        cutter.write_all(sealed_bytes.filled()).await.unwrap();
        // FIN without close_notify.
        cutter.shutdown().await.unwrap();
        let moved = Moved::default();
        let mut far = raw(far);
        let ended = sealed(&mut outer, &mut far, &mut inner, Arrived::default(), LONG, &moved).await;
        assert!(matches!(ended, Err(RelayError::Truncated)), "{ended:?}");
        assert_eq!(moved.inward(), 7);
        close(true, outer, inner);
        let mut heard = Vec::new();
        let error = application.read_to_end(&mut heard).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn a_leftover_half_is_ended_and_a_busy_one_is_not() {
    local(async {
        let Way {
            mut client,
            mut server,
            relays,
        } = way(Duration::from_millis(200)).await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        for _ in 0..10 {
            server.write_all(b"still busy").await.unwrap();
            client.read_exact(&mut [0; 10]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let [near, far] = relays.await.unwrap();
        assert!(matches!(far, Err(RelayError::HalfClosed { .. })), "{far:?}");
        assert!(near.is_err());
        assert!(client.read(&mut [0; 1]).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn bytes_in_clear_pass_as_they_are() {
    local(async {
        let (mut client, mut outer) = pair().await;
        let (mut inner, mut server) = pair().await;
        let relay = tokio::task::spawn_local(async move {
            let moved = Moved::default();
            plain(
                &mut outer,
                &mut inner,
                (Box::default(), Box::default()),
                LONG,
                &moved,
            )
            .await
            .map(|()| (moved.inward(), moved.outward()))
        });
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        server.write_all(b"longer").await.unwrap();
        drop(server);
        heard.clear();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"longer");
        assert_eq!(relay.await.unwrap().unwrap(), (4, 6));
    })
    .await;
}

fn much() -> Vec<u8> {
    pattern(4 << 20)
}

// So much that it goes through pipes, with a receiver that is slower than its sender.
#[tokio::test]
async fn much_in_clear_arrives_whole_both_ways_after_what_was_read_before() {
    local(async {
        let (mut client, mut outer) = pair().await;
        let (mut inner, mut server) = pair().await;
        let moved = Moved::default();
        let read: (Box<[u8]>, Box<[u8]>) = ((*b"asked").into(), (*b"said").into());
        let relay = plain(&mut outer, &mut inner, read, LONG, &moved);
        let ask = async {
            let (mut from, mut to) = client.split();
            let sending = async {
                to.write_all(&much()).await.unwrap();
                to.shutdown().await.unwrap();
            };
            let mut heard = Vec::new();
            tokio::join!(sending, async { from.read_to_end(&mut heard).await.unwrap() });
            heard
        };
        let answer = async {
            let (mut from, mut to) = server.split();
            let mut heard = Vec::new();
            let mut piece = vec![0; 100_000];
            loop {
                match from.read(&mut piece).await.unwrap() {
                    0 => break,
                    read => heard.extend_from_slice(&piece[..read]),
                }
                tokio::task::yield_now().await;
            }
            // The other half is still open.
            to.write_all(&much()).await.unwrap();
            to.shutdown().await.unwrap();
            heard
        };
        let (ended, asked, answered) = tokio::join!(relay, ask, answer);
        ended.unwrap();
        assert!(answered == [b"asked".as_slice(), &much()].concat());
        assert!(asked == [b"said".as_slice(), &much()].concat());
        assert_eq!(moved.inward(), 5 + (4 << 20));
        assert_eq!(moved.outward(), 4 + (4 << 20));
    })
    .await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_much_is_one() {
    local(async {
        let (mut client, mut outer) = pair().await;
        let (mut inner, mut server) = pair().await;
        let moved = Moved::default();
        let relay = plain(&mut outer, &mut inner, Default::default(), LONG, &moved);
        let breaking = async {
            let all = much();
            // Nobody reads: the pipe holds something when the reset comes.
            let sending = client.write_all(&all);
            let reset = async {
                server.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
                reset_on_close(&server).unwrap();
                drop(server);
            };
            let (sent, ()) = tokio::join!(sending, reset);
            // Everything may be on its way already.
            drop(sent);
        };
        let (ended, ()) = tokio::join!(relay, breaking);
        let Err(RelayError::Broken { leg: Leg::Inner, .. }) = ended else {
            panic!("{ended:?}");
        };
    })
    .await;
}

// A stream that is always faster than its relay must not keep the worker from everything else.
#[test]
fn a_relay_whose_turn_is_used_up_lets_others_go_on() {
    let (done, is_done) = std::sync::mpsc::sync_channel(1);
    // On a thread of its own: where it fails, it never ends.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut client, mut outer) = pair().await;
            let (mut inner, mut server) = pair().await;
            client.write_all(b"hello").await.unwrap();
            client.shutdown().await.unwrap();
            outer.readable().await.unwrap();
            let (outer, _) = outer.split();
            let (_, inner) = inner.split();
            let moved = AtomicU64::new(0);
            let mut flow = pin!(plain_flow(outer, Leg::Outer, inner, Box::default(), &moved));
            let used_up = poll_fn(|context| {
                while tokio::task::coop::has_budget_remaining() {
                    if let Poll::Ready(turn) = tokio::task::coop::poll_proceed(context) {
                        turn.made_progress();
                    }
                }
                Poll::Ready(flow.as_mut().poll(context).is_pending())
            });
            assert!(used_up.await, "it waits for its next turn");
            flow.await.unwrap();
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"hello");
        });
        done.send(()).unwrap();
    });
    is_done
        .recv_timeout(Duration::from_secs(20))
        .expect("the relay gives its turn back");
}
