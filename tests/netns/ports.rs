//! A port that is used again soon after a reset: the kernel's memory of who used it before leads nobody past the redirect.

use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ferrule_tests::netns::{Host, Mesh, alone, run};
use ferrule_tests::wait::LIMIT;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// What marks the sidecar's own connections here.
const MARK: u32 = 0x866;

/// Dials `to` from a port of choice; `own` as the sidecar would.
fn dial(from: SocketAddr, to: SocketAddr, own: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if own {
        socket.set_mark(MARK)?;
    }
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), LIMIT)?;
    Ok(socket.into())
}

/// Has one exempt connection ended by a reset, then dials again from its port as an application.
fn reset_and_dial_again(web: &Host, listener: &TcpListener, own_port: u16) -> io::Result<TcpStream> {
    let to = listener.local_addr().unwrap();
    let from = match to {
        SocketAddr::V4(_) => (web.v4(), own_port).into(),
        SocketAddr::V6(_) => (web.v6(), own_port).into(),
    };
    web.inside(|| {
        let mut first = dial(from, to, true).unwrap();
        let (far, _) = listener.accept().unwrap();
        SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        let ended = first.read(&mut [0]).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
        drop(first);
        dial(from, to, false)
    })
}

/// `unguard` are the commands that take the guard alone away, without the redirect.
fn is_guarded(mesh: &mut Mesh, tool: &'static str, unguard: &[&[&str]]) {
    let (web, api) = (mesh.stranger("web"), mesh.stranger("api"));
    let redirect = |action: &[&str]| {
        let mut command = web.command(mesh.program());
        command.env("XTABLES_LOCKFILE", web.folder().with_extension("lock"));
        run(command.arg("redirect").args(action).args(["--tool", tool]));
    };
    redirect(&["install", "--mark", &MARK.to_string()]);
    redirect(&["check", "--mark", &MARK.to_string()]);
    let both: [SocketAddr; 2] = [(api.v4(), 7004).into(), (api.v6(), 7006).into()];
    let listeners = both.map(|at| api.inside(|| TcpListener::bind(at).unwrap()));
    for listener in &listeners {
        let error = reset_and_dial_again(&web, listener, 4001).expect_err("it passes the redirect by");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    }
    for words in unguard {
        let mut command = web.command(words[0]);
        command.env("XTABLES_LOCKFILE", web.folder().with_extension("lock"));
        run(command.args(&words[1..]));
    }
    for listener in &listeners {
        // Beside the guard, the same way leads out: without this, the test would show nothing.
        assert!(reset_and_dial_again(&web, listener, 4002).is_ok());
    }
    redirect(&["remove"]);
}

#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn a_port_used_again_after_a_reset_leads_nobody_out() {
    let unguard: &[&[&str]] = &[
        &["nft", "flush", "chain", "inet", "ferrule", "guard_output"],
        &["nft", "flush", "chain", "inet", "ferrule", "guard_input"],
    ];
    alone(|mesh| is_guarded(mesh, "nft", unguard));
}

#[test]
#[ignore = "needs root or user namespaces, and iptables-nft: tests/run"]
fn a_port_used_again_after_a_reset_leads_nobody_out_with_iptables() {
    let unguard: &[&[&str]] = &[
        &["iptables-nft", "-F", "FERRULE_GUARD_OUTPUT"],
        &["ip6tables-nft", "-F", "FERRULE_GUARD_OUTPUT"],
    ];
    alone(|mesh| is_guarded(mesh, "iptables", unguard));
}

#[test]
#[ignore = "needs root or user namespaces, and iptables-legacy: tests/run"]
fn a_port_used_again_after_a_reset_leads_nobody_out_with_legacy_iptables() {
    let unguard: &[&[&str]] = &[
        &["iptables-legacy", "-F", "FERRULE_GUARD_OUTPUT"],
        &["ip6tables-legacy", "-F", "FERRULE_GUARD_OUTPUT"],
    ];
    alone(|mesh| is_guarded(mesh, "iptables-legacy", unguard));
}
