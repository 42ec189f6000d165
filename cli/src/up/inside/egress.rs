//! Takes what leaves the mesh, and hands it to the supervisor, which has the machine's network.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::drain::Drain;
use ferrule_proxy::net::original::original_dst;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Mesh;
use crate::up::plan::Plan;
use crate::up::relay::{ANSWERED, HEAD, NAMES, splice};
use crate::up::render;

/// Redirects what passes through the hub, and carries it and the questions for names until `drain` closes.
///
/// # Errors
/// When the rules are refused or a port cannot be opened.
pub(super) fn serve(mesh: &Arc<Mesh>, drain: &Drain) -> io::Result<()> {
    load(&rules(&mesh.plan))?;
    let everywhere: IpAddr = if mesh.plan.ipv6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let listener = std::net::TcpListener::bind((everywhere, PORT))?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    drain.spawn(accept(listener, None, Arc::clone(mesh), drain.clone()));
    if let Some(join) = &mesh.plan.join {
        // The CA and the directory of the first host, where the sidecars of every host look for them.
        let (authority, directory) = (
            render::authority_address(&mesh.plan),
            render::directory_address(&mesh.plan),
        );
        for (at, target) in [(authority, join.authority), (directory, join.directory)] {
            let listener = std::net::TcpListener::bind(at)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            drain.spawn(accept(listener, Some(target), Arc::clone(mesh), drain.clone()));
        }
    }
    for address in &mesh.plan.hub {
        let socket = std::net::UdpSocket::bind((*address, DNS))?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        drain.spawn(answer_names(socket, Arc::clone(mesh), drain.clone()));
    }
    Ok(())
}

/// What the bridge's machine would have to forward goes to [`PORT`]. What stays within the mesh is left alone: where
/// the kernel shows bridged packets to these rules, they must not be taken for packets that leave.
fn rules(plan: &Plan) -> String {
    let mut lines = vec![
        "table inet ferrule {".to_owned(),
        "  chain prerouting {".to_owned(),
    ];
    lines.push("    type nat hook prerouting priority -100; policy accept;".to_owned());
    for range in plan.ranges() {
        let family = if range.contains(':') { "ip6" } else { "ip" };
        lines.push(format!("    {family} daddr {range} return"));
    }
    lines.push("    iifname \"lo\" return".to_owned());
    lines.push(format!("    meta l4proto tcp redirect to :{PORT}"));
    lines.extend(["  }".to_owned(), "}".to_owned()]);
    lines.join("\n") + "\n"
}

fn load(rules: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(rules.as_bytes())?;
    }
    let done = child.wait_with_output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!("nft refused: {}", said.trim())))
}

/// Carries what comes to `target`, or to where the kernel says that it was going.
async fn accept(listener: TcpListener, target: Option<SocketAddr>, mesh: Arc<Mesh>, connections: Drain) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closing() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (mesh, cut) = (Arc::clone(&mesh), connections.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = carry(stream, target, &mesh) => {}
                        () = cut.cut() => {}
                    }
                });
            }
            // Out of descriptors, as a rule: others must end first.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn carry(stream: TcpStream, target: Option<SocketAddr>, mesh: &Mesh) {
    let target = match target {
        Some(target) => target,
        None => match original_dst(&stream) {
            Ok(original) => original.socket(),
            Err(_) => return,
        },
    };
    let opened = timeout(LIMIT, open(target, mesh)).await;
    if let Ok(Ok(outer)) = opened {
        splice(stream, outer).await;
    } else {
        // A reset, so that the sidecar can tell it from an answer that was empty.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}

async fn open(target: SocketAddr, mesh: &Mesh) -> io::Result<UnixStream> {
    let mut outer = UnixStream::connect(mesh.places.relay_out()).await?;
    outer
        .write_all(format!("{:<HEAD$}", target.to_string()).as_bytes())
        .await?;
    match outer.read_u8().await? {
        ANSWERED => Ok(outer),
        _ => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Answers questions for names with what the machine's own resolver says.
async fn answer_names(socket: Arc<UdpSocket>, mesh: Arc<Mesh>, connections: Drain) {
    let places = Arc::new(Semaphore::new(QUESTIONS));
    let mut question = vec![0; LONGEST];
    loop {
        let asked = tokio::select! {
            asked = socket.recv_from(&mut question) => asked,
            () = connections.closing() => return,
        };
        // A question that finds no place is asked again by whoever asked it, as every lost packet is.
        if let (Ok((length, from)), Ok(place)) = (asked, Arc::clone(&places).try_acquire_owned()) {
            let question = question.get(..length).unwrap_or_default().to_vec();
            let (socket, mesh) = (Arc::clone(&socket), Arc::clone(&mesh));
            connections.spawn(async move {
                let _place = place;
                if let Ok(Ok(answer)) = timeout(LIMIT, ask(&question, &mesh)).await {
                    let _ = socket.send_to(&answer, from).await;
                }
            });
        }
    }
}

async fn ask(question: &[u8], mesh: &Mesh) -> io::Result<Vec<u8>> {
    let mut outer = UnixStream::connect(mesh.places.relay_out()).await?;
    outer.write_all(format!("{NAMES:<HEAD$}").as_bytes()).await?;
    outer.write_all(question).await?;
    outer.shutdown().await?;
    let mut answer = Vec::new();
    outer.take(LONGEST as u64).read_to_end(&mut answer).await?;
    if answer.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(answer)
    }
}

/// Where what leaves the mesh is redirected to, in the hub.
const PORT: u16 = 15101;

const DNS: u16 = 53;

/// The longest question and answer without a connection of their own.
const LONGEST: usize = 4096;

/// Questions for names at one time.
const QUESTIONS: usize = 256;

const LIMIT: Duration = Duration::from_secs(8);

const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_the_mesh_is_left_alone() {
        let plan: Plan = serde_json::from_value(serde_json::json!({
            "trust_domain": "shop.local", "capture": "transparent", "ipv6": true, "hub": [], "loopback": 0,
            "workloads": [], "publishers": [],
        }))
        .unwrap();
        let text = rules(&plan);
        let place = |words: &str| text.find(words).unwrap();
        assert!(place("ip daddr 10.213.0.0/16 return") < place("redirect to :15101"));
        assert!(place("ip6 daddr fd5f:6665:7272::/64 return") < place("redirect to :15101"));
    }
}
