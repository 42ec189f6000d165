//! A rule about what lies beyond the mesh goes: so do the connections that it allowed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ferrule_tests::netns::{Host, alone};
use ferrule_tests::wait::LIMIT;

use super::{EVIL, GOOD, World};

/// A connection that stays after one answer.
fn stay(host: &Host, address: &str, port: u16, name: &str, word: &str) -> TcpStream {
    let mut stream = host.inside(|| TcpStream::connect((address, port)).unwrap());
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").unwrap();
    let (mut heard, mut block) = (Vec::new(), [0; 512]);
    while !heard.ends_with(format!("{word}  {name}").as_bytes()) {
        let read = stream.read(&mut block).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&block[..read]);
    }
    stream
}

// D4, on the way out: by its name and by its address.
#[test]
#[ignore = "needs root or user namespaces, nft, nginx and openssl: tests/run"]
fn removing_a_rule_ends_open_connections_beyond_the_mesh() {
    alone(|mesh| {
        let web = mesh.workload("web");
        let _world = World::new(mesh);
        let sidecar = mesh.sidecar(&web);
        let open = [
            stay(&web, GOOD, 80, "api.example.com", "good"),
            stay(&web, EVIL, 8080, "whoever", "evil"),
        ];
        mesh.document(
            "egress",
            "kind: EgressPolicy\nmetadata: { namespace: shop, name: out }\nspec:\n  workloads: all\n  allow:\n  \
             - { hosts: [nobody.example.com], ports: [8443] }\n",
        );
        let began = Instant::now();
        for mut stream in open {
            let ended = stream.read(&mut [0]).unwrap_err();
            assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
        }
        let took = began.elapsed();
        println!("figure: both ended {took:?} after the rule");
        // 2 s, and what a loaded machine adds.
        assert!(took < Duration::from_secs(4), "{took:?}");
        for address in [GOOD, EVIL] {
            sidecar.line(&[
                ("event", "close"),
                ("direction", "outbound"),
                ("reason", "denied"),
                ("verdict", "allow"),
                ("dst_addr", address),
            ]);
        }
    });
}
