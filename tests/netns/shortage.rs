//! No port is left to dial from: what is open goes on, and nobody has to come and help.

use std::io;
use std::net::{SocketAddr, TcpStream};

use ferrule_tests::netns::{Host, alone, run};
use ferrule_tests::wait::{LIMIT, until};
use socket2::{Domain, Protocol, Socket, Type};

use crate::pair::{Pair, ask, end, pair};

/// The kernel gives out so many ports on the host of the caller.
const PORTS: u16 = 20;

/// Dials from a port of the application's own choice.
fn dial_from(host: &Host, port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    host.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((host.v4(), port)).into())?;
        socket.connect_timeout(&to.into(), LIMIT)?;
        let peer: TcpStream = socket.into();
        peer.set_read_timeout(Some(LIMIT))?;
        Ok(peer)
    })
}

// E7: the sidecar finds no port to dial from; it says so of each connection, and blames nobody else for it.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn a_shortage_of_ports_hurts_no_open_connection() {
    alone(|mesh| {
        // Each worker has a pool of its own, whose connections hold ports for the worker alone.
        let pair = pair(mesh, |api| api.v4().into(), "workers: 1\n");
        let Pair { web, at, out, .. } = &pair;
        let range = format!(
            "echo '40000 {}' > /proc/sys/net/ipv4/ip_local_port_range",
            39_999 + PORTS
        );
        run(web.command("sh").args(["-c", &range]));
        // One after another, so that no handshake waits for the others.
        let answered = |port| {
            let mut peer = dial_from(web, port, *at).unwrap();
            ask(&mut peer);
            peer
        };
        let mut open: Vec<TcpStream> = (0..PORTS).map(|number| answered(20_000 + number)).collect();
        for number in 0..PORTS {
            // The reset may come before the connection is noticed.
            let refused = end(dial_from(web, 21_000 + number, *at));
            assert_eq!(refused, io::ErrorKind::ConnectionReset, "there is no port left");
        }
        out.counts(
            &["ferrule_connections_total", "outbound", "reason=\"busy\""],
            f64::from(PORTS),
        );
        let blamed = out
            .lines()
            .into_iter()
            .find(|line| line["message"] == "endpoint left out");
        assert!(blamed.is_none(), "{blamed:?}");
        let refused = out.line(&[("event", "close"), ("reason", "busy")]);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("nothing is left here"), "{detail}");
        open.iter_mut().for_each(ask);
        // Some end, and others take their places at once: nobody was held to be dead.
        drop(open.split_off(usize::from(PORTS / 2)));
        until("there is room", || {
            (out.count(&["ferrule_connections_open"]) <= f64::from(PORTS / 2)).then_some(())
        });
        open.extend((0..PORTS / 2).map(|number| answered(22_000 + number)));
        open.iter_mut().for_each(ask);
    });
}
