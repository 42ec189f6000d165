//! Asks a resolver of our own over loopback.

use std::cell::Cell;
use std::net::SocketAddr;

use ferrule_daemon::metrics::Counter;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, ResourceRecord};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::net::dial::Dialing;
use crate::net::socket::KeepAlive;

/// A resolver that knows `192.0.2.1` for every name, for `ttl` seconds; over UDP it says no more than that the
/// answer is too long when it is `terse`. Counts the questions that it was asked.
struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    ttl: u32,
    terse: bool,
    asked: Cell<usize>,
}

impl Server {
    async fn start(ttl: u32, terse: bool) -> Self {
        loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The same port may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                let asked = Cell::new(0);
                return Self {
                    udp,
                    tcp,
                    ttl,
                    terse,
                    asked,
                };
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    fn reply(&self, question: &[u8], cut: bool) -> Vec<u8> {
        self.asked.set(self.asked.get() + 1);
        let packet = Packet::parse(question).unwrap();
        let name = packet.questions[0].qname.clone();
        let mut reply = packet.into_reply();
        if cut {
            reply.set_flags(PacketFlag::TRUNCATION);
        } else {
            let data = RData::A(A { address: 0xc000_0201 });
            reply
                .answers
                .push(ResourceRecord::new(name, CLASS::IN, self.ttl, data));
        }
        reply.build_bytes_vec().unwrap()
    }

    async fn run(&self) {
        let over_udp = async {
            let mut bytes = vec![0; 1500];
            loop {
                let (length, client) = self.udp.recv_from(&mut bytes).await.unwrap();
                // Somebody else's guesses come first.
                self.udp.send_to(b"nonsense", client).await.unwrap();
                let reply = self.reply(&bytes[..length], self.terse);
                self.udp.send_to(&reply, client).await.unwrap();
            }
        };
        let over_tcp = async {
            loop {
                let (mut stream, _) = self.tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await.unwrap();
                let reply = self.reply(&question, false);
                stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        };
        tokio::join!(over_udp, over_tcp);
    }
}

fn resolver(servers: &[SocketAddr]) -> Resolver {
    let dialing = Dialing {
        mark: None,
        limit: Duration::from_secs(5),
        keepalive: KeepAlive::default(),
    };
    let servers = Servers::new(
        servers.to_vec(),
        dialing,
        Duration::from_secs(5),
        Counter::default(),
    );
    Resolver::new(servers, vec![Family::V4])
}

fn host() -> HostName {
    HostName::parse("api.example.com").unwrap()
}

async fn with(server: &Server, work: impl Future<Output = ()>) {
    tokio::select! {
        () = server.run() => unreachable!(),
        () = work => {}
    }
}

fn is_found(found: &Found) -> bool {
    found
        .as_ref()
        .is_ok_and(|found| **found == [IpAddr::from([192, 0, 2, 1])])
}

#[tokio::test]
async fn many_who_need_one_name_ask_once_until_its_time_is_over() {
    let server = Server::start(30, false).await;
    with(&server, async {
        let resolver = resolver(&[server.address()]);
        let host = host();
        let (one, two) = tokio::join!(resolver.find(&host), resolver.find(&host));
        assert!(is_found(&one) && is_found(&two));
        assert!(is_found(&resolver.find(&host).await));
        assert_eq!(server.asked.get(), 1);
        assert!(resolver.asked.borrow().is_empty());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
        assert!(is_found(&resolver.find(&host).await));
        assert_eq!(server.asked.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_asked_for_over_tcp() {
    let server = Server::start(30, true).await;
    with(&server, async {
        assert!(is_found(&resolver(&[server.address()]).find(&host()).await));
        assert_eq!(server.asked.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_resolver_that_is_away_is_passed_over() {
    let server = Server::start(30, false).await;
    let gone = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    with(&server, async {
        assert!(is_found(&resolver(&[gone, server.address()]).find(&host()).await));
        let error = resolver(&[gone]).find(&host()).await.unwrap_err();
        assert!(matches!(error, ResolveError::Unanswered { .. }), "{error:?}");
    })
    .await;
}

// What clients name is theirs to choose: it must not fill the memory.
#[tokio::test]
async fn only_so_many_names_are_remembered() {
    let resolver = resolver(&[]);
    for number in 0..MOST_NAMES + 10 {
        let host = HostName::parse(&format!("h{number}.example.com")).unwrap();
        let found = Err(ResolveError::NoAddress { host: host.clone() });
        resolver.remember(&host, found, Duration::from_secs(60));
    }
    assert_eq!(resolver.known.borrow().len(), MOST_NAMES);
    for number in 0..MOST_NAMES + 10 {
        let host = HostName::parse(&format!("h{number}.example.com")).unwrap();
        drop(resolver.question(&host));
    }
    assert!(resolver.asked.borrow().len() <= MOST_NAMES);
}
