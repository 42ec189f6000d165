//! Two workloads behind their sidecars, which exchange words.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ferrule_tests::netns::{Host, Mesh, Sidecar};
use ferrule_tests::wait::LIMIT;

/// Answers each question of four bytes with the same, until its client is done.
pub(crate) fn echo(host: &Host, at: SocketAddr) {
    let listener = host.inside(|| TcpListener::bind(at).unwrap());
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.unwrap();
            thread::spawn(move || {
                let mut word = [0; 4];
                while peer.read_exact(&mut word).is_ok() && peer.write_all(&word).is_ok() {}
            });
        }
    });
}

/// Web, an API that echoes and that it may call, each behind its sidecar, and somebody outside of the mesh.
pub(crate) struct Pair {
    pub(crate) web: Host,
    pub(crate) api: Host,
    pub(crate) outside: Host,
    pub(crate) at: SocketAddr,
    pub(crate) out: Sidecar,
    pub(crate) into: Sidecar,
}

/// `more` is for the settings of both sidecars.
pub(crate) fn pair(mesh: &mut Mesh, address: impl Fn(&Host) -> IpAddr, more: &str) -> Pair {
    let (web, api) = (mesh.workload("web"), mesh.workload("api"));
    let outside = mesh.stranger("outside");
    let at = SocketAddr::new(address(&api), 8080);
    mesh.allow("web", "api", &[8080]);
    echo(&api, at);
    Pair {
        out: mesh.sidecar_with(&web, more),
        into: mesh.sidecar_with(&api, more),
        web,
        api,
        outside,
        at,
    }
}

pub(crate) fn dial(host: &Host, to: SocketAddr) -> TcpStream {
    let peer = host.inside(|| TcpStream::connect_timeout(&to, LIMIT).unwrap());
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    peer
}

/// Asks one question, and checks the answer.
pub(crate) fn ask(peer: &mut TcpStream) {
    peer.write_all(b"what").unwrap();
    let mut answer = [0; 4];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"what");
}

/// How somebody is ended who dials, and says nothing: perhaps before the connect is over.
pub(crate) fn end_of(host: &Host, to: SocketAddr) -> std::io::ErrorKind {
    let dialled = host.inside(|| {
        let peer = TcpStream::connect_timeout(&to, LIMIT)?;
        peer.set_read_timeout(Some(LIMIT))?;
        Ok(peer)
    });
    end(dialled)
}

/// How a connection ends on which nothing was said.
pub(crate) fn end(dialled: std::io::Result<TcpStream>) -> std::io::ErrorKind {
    match dialled.and_then(|mut peer| peer.read(&mut [0])) {
        Ok(0) => std::io::ErrorKind::UnexpectedEof,
        Ok(_) => panic!("it said something"),
        Err(error) => error.kind(),
    }
}

/// The memory that a sidecar has in use for itself, in bytes: what it shares with files is not counted.
pub(crate) fn memory(sidecar: &mut Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process().id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The time that a process has spent on a processor.
pub(crate) fn processor_time(sidecar: &mut Sidecar) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", sidecar.process().id())).unwrap();
    // Behind the name, which may have spaces in it: fields 14 and 15 of proc(5), in hundredths of a second.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
