//! What can be seen on the wire between two hosts.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};

use ferrule_tests::netns::{Capture, Host, alone};
use ferrule_tests::wait::until;

use crate::pair::{Pair, dial, end_of, pair};

/// What the application says, again and again.
const MARKER: &[u8] = b"Ferrule-marker-of-clear-text";

/// Sends the marker a hundred times from one host to another, which takes it with `nc`.
fn send(from: &Host, to: &Host, address: IpAddr) {
    let (address, text) = (address.to_string(), from.folder().join("text"));
    fs::write(&text, MARKER.repeat(100)).unwrap();
    let mut listener = to.start("nc", to.app("nc.openbsd").args(["-l", &address, "7000"]));
    until("nc listens", || {
        let found = to
            .command("ss")
            .args(["-Hltn", "sport = :7000"])
            .output()
            .unwrap();
        (!found.stdout.is_empty()).then_some(())
    });
    let sent = from
        .app("nc.openbsd")
        .args(["-N", &address, "7000"])
        .stdin(fs::File::open(&text).unwrap())
        .status()
        .unwrap();
    assert!(sent.success());
    assert!(listener.ended().success());
    let heard = listener.said();
    assert_eq!(heard.len(), MARKER.len() * 100);
}

// C5: both families. The same capture without the sidecars shows that it would find the bytes.
#[test]
#[ignore = "needs root or user namespaces, nft, nc, dumpcap and tshark: tests/run"]
fn the_wire_shows_tls_1_3_with_a_hybrid_group_and_nothing_of_the_application() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[7000]);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        for (address, family) in api.addresses().into_iter().zip(["ip", "ipv6"]) {
            out.step_in();
            into.step_in();
            let capture = Capture::start(mesh, &web);
            send(&web, &api, address);
            let sealed = capture.stop();
            let hello = format!("{family} and tls.handshake.type == 2");
            let tls = |field| sealed.field(&hello, field, &["tcp.port==7000,tls"]);
            assert_eq!(tls("tls.handshake.extensions.supported_version"), ["0x0304"]);
            // X25519MLKEM768
            assert_eq!(tls("tls.handshake.extensions_key_share_group"), ["4588"]);
            assert!(!sealed.contains(MARKER));

            out.step_aside();
            into.step_aside();
            let capture = Capture::start(mesh, &web);
            send(&web, &api, address);
            assert!(
                capture.stop().contains(MARKER),
                "the same capture finds it without the sidecars"
            );
        }
    });
}

// C5: an address of IPv4 in the form of IPv6, as programs use that know one family only.
#[test]
#[ignore = "needs root or user namespaces, nft and dumpcap: tests/run"]
fn a_mapped_address_is_carried_like_the_address_that_it_is() {
    alone(|mesh| {
        let pair = pair(mesh, |api| api.v4().into(), "");
        let Pair { web, at, out, .. } = &pair;
        let IpAddr::V4(v4) = at.ip() else {
            unreachable!("it was asked for");
        };
        let capture = Capture::start(mesh, web);
        let mut peer = dial(web, (v4.to_ipv6_mapped(), at.port()).into());
        peer.write_all(MARKER).unwrap();
        let mut heard = [0; MARKER.len()];
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(heard, MARKER);
        drop(peer);
        out.line(&[
            ("event", "close"),
            ("tls", "mutual"),
            ("dst_addr", &v4.to_string()),
            ("reason", "finished"),
        ]);
        let recorded = capture.stop();
        assert!(!recorded.contains(MARKER));
        assert!(recorded.contains(&[0x16, 3, 3]), "the record has TLS in it");
        // And one beyond the mesh is judged, not passed by.
        let beyond = Ipv4Addr::new(203, 0, 113, 7);
        let beyond = end_of(web, (beyond.to_ipv6_mapped(), 443).into());
        assert_eq!(beyond, ErrorKind::ConnectionReset);
        out.line(&[
            ("event", "close"),
            ("reason", "denied"),
            ("dst_addr", "203.0.113.7"),
        ]);
    });
}
