//! Somebody on the way, and an application, who would have the two sidecars do less than they should.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use ferrule_tests::netns::{Capture, Host, alone, run};
use ferrule_tests::wait::{LIMIT, until};
use socket2::SockRef;

const MARKER: &[u8] = b"Ferrule-marker-of-clear-text";

/// Sends the marker, and waits for what comes of it.
fn say(from: &Host, to: SocketAddr) -> io::Result<Vec<u8>> {
    from.inside(|| {
        let mut peer = TcpStream::connect_timeout(&to, LIMIT)?;
        peer.set_read_timeout(Some(LIMIT))?;
        peer.write_all(MARKER)?;
        let mut said = vec![0; MARKER.len()];
        peer.read_exact(&mut said)?;
        Ok(said)
    })
}

/// Sends back what comes, to everybody.
fn echo(host: &Host, at: SocketAddr) {
    let listener = host.inside(|| TcpListener::bind(at).unwrap());
    thread::spawn(move || {
        for peer in listener.incoming() {
            let (mut from, mut to) = (peer.as_ref().unwrap(), peer.as_ref().unwrap());
            // Whoever is gone needs no answer.
            let _ = io::copy(&mut from, &mut to);
        }
    });
}

// C7: in permissive mode, where what is not in the mesh is spoken to in clear, whoever resets every attempt at TLS
// brings nobody to try without.
#[test]
#[ignore = "needs root or user namespaces, nft and dumpcap: tests/run"]
fn resets_on_the_way_bring_nobody_to_speak_in_clear() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[7004]);
        mesh.document(
            "mode",
            "kind: MeshPolicy\nmetadata: { namespace: shop, name: migration }\nspec: { workloads: all, mode: permissive }\n",
        );
        let (out, _into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        let to: SocketAddr = (api.v4(), 7004).into();
        echo(&api, to);
        assert_eq!(say(&web, to).unwrap(), MARKER);

        let nft = |text: &str| drop(run(api.command("nft").arg(text)));
        nft("add table inet way");
        nft("add chain inet way way { type filter hook prerouting priority -400; policy accept; }");
        let capture = Capture::start(mesh, &web);
        // The connection is let begin; the first data, a hello, is answered with a reset.
        nft("add rule inet way way tcp dport 7004 tcp flags & psh == psh reject with tcp reset");
        for _ in 0..3 {
            assert!(say(&web, to).is_err());
        }
        out.line(&[
            ("event", "close"),
            ("direction", "outbound"),
            ("dst_port", "7004"),
            ("bytes_out", "0"),
        ]);
        assert!(!capture.stop().contains(MARKER), "in clear");
        assert_eq!(out.count(&["ferrule_plaintext_total", "outbound"]), 0.0);
        nft("delete table inet way");
        until("all is well again", || {
            (say(&web, to).ok()? == MARKER).then_some(())
        });
    });
}

// C8: a byte out of band is lost, as the documentation says, and everything around it arrives.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn urgent_data_does_no_harm() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[7004]);
        let _sidecars = (mesh.sidecar(&web), mesh.sidecar(&api));
        let to: SocketAddr = (api.v4(), 7004).into();
        echo(&api, to);
        let heard = web.inside(|| {
            let mut peer = TcpStream::connect_timeout(&to, LIMIT).unwrap();
            peer.set_read_timeout(Some(LIMIT)).unwrap();
            peer.write_all(b"before ").unwrap();
            SockRef::from(&peer).send_out_of_band(b"!").unwrap();
            peer.write_all(b"after").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            peer.read_to_string(&mut heard).unwrap();
            heard
        });
        assert_eq!(heard.replace('!', ""), "before after");
    });
}

// C8: both ends finish at the same moment, again and again; neither is reset.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn both_ends_may_close_at_once() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[7004]);
        let (out, _into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        let listener = api.inside(|| TcpListener::bind((api.v4(), 7004)).unwrap());
        for _ in 0..50 {
            let mut client = web.inside(|| TcpStream::connect((api.v4(), 7004)).unwrap());
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.write_all(b"x").unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.read_exact(&mut [0]).unwrap();
            thread::scope(|scope| {
                for end in [&client, &server] {
                    scope.spawn(|| end.shutdown(Shutdown::Write).unwrap());
                }
            });
            for end in [&mut client, &mut server] {
                match end.read(&mut [0]) {
                    Ok(count) => assert_eq!(count, 0),
                    Err(error) => assert_ne!(error.kind(), ErrorKind::ConnectionReset),
                }
            }
        }
        out.counts(
            &["ferrule_connections_total", "outbound", "reason=\"finished\""],
            50.0,
        );
    });
}
