//! `nc`, whose streams end one side at a time.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use ferrule_tests::netns::alone;

// C8: half-close. `nc -N` ends its sending side when it has sent all, and goes on reading; the server answers only
// once it has seen that end.
#[test]
#[ignore = "needs root or user namespaces, nft and nc: tests/run"]
fn a_half_closed_connection_goes_on_the_other_way() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[7000]);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        let question = web.folder().join("question");
        fs::write(&question, "who is there").unwrap();
        for address in api.addresses() {
            let listener = api.inside(|| TcpListener::bind((address, 7000)).unwrap());
            let server = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                let mut asked = String::new();
                peer.read_to_string(&mut asked).unwrap();
                write!(peer, "you said: {asked}").unwrap();
            });
            let mut client = web.app("nc.openbsd");
            client.args(["-N", &address.to_string(), "7000"]);
            let said = client.stdin(File::open(&question).unwrap()).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), "you said: who is there");
            server.join().unwrap();
        }
        for sidecar in [&out, &into] {
            sidecar.counts(&["connections_total", "reason=\"finished\""], 2.0);
        }
    });
}
