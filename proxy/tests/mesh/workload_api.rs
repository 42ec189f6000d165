//! The SPIFFE Workload API that a sidecar serves: to another sidecar, and to go-spiffe and py-spiffe as they are;
//! and the one that SPIRE's agent serves.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use ferrule_daemon::grpc::client::Channel;
use ferrule_daemon::grpc::{Code, Limits, Status};
use ferrule_wire::workload_api::{FETCH_SVID, HEADER, HEADER_VALUE};
use http::{HeaderName, HeaderValue};

use ferrule_tests::pki::Files;

use crate::sidecar::{API, DAY, LIMIT, Mesh, Sidecar, WEB, dial, say};

/// A sidecar of `web` that serves the Workload API at `socket`.
fn serving(mesh: &Mesh, socket: &Path, who: &str) -> Sidecar {
    let ways = "upstreams: [{ listen: \"127.0.0.1:0\", address: \"127.0.0.1:9\", identity: \"spiffe://shop.local/x\" }]";
    let more = format!("workload_api: {{ socket: {}, {who} }}", socket.display());
    Sidecar::start(&mesh.settings("web", &mesh.web, ways, &more))
}

/// What comes of a call, as far as its first message.
fn call(socket: &Path, path: &str, header: Option<&'static str>) -> Result<usize, Status> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
        let mut channel = Channel::open(stream, "localhost".to_owned(), Limits::default()).await?;
        if let Some(value) = header {
            channel = channel.with_header(HeaderName::from_static(HEADER), HeaderValue::from_static(value));
        }
        let (_sender, mut receiver) = channel.call(path, &[], LIMIT).await?;
        let message = tokio::time::timeout(LIMIT, receiver.next())
            .await
            .expect("an answer");
        Ok(message?.expect("a message").len())
    })
}

fn own_user() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

// S-30, S-31, S-33.
#[test]
fn only_those_who_may_are_told_and_only_what_is_served() {
    let mesh = Mesh::new();
    let socket = mesh.folder.path().join("api.sock");
    let _web = serving(&mesh, &socket, &format!("users: [{}]", own_user()));
    assert!(call(&socket, FETCH_SVID, Some(HEADER_VALUE)).unwrap() > 500);
    for header in [None, Some("false")] {
        let refused = call(&socket, FETCH_SVID, header).unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    }
    for path in ["/SpiffeWorkloadAPI/FetchJWTSVID", "/grpc.health.v1.Health/Check"] {
        let refused = call(&socket, path, Some(HEADER_VALUE)).unwrap_err();
        assert_eq!(refused.code, Code::Unimplemented, "{refused}");
    }
    let other = mesh.folder.path().join("other.sock");
    let _other = serving(&mesh, &other, &format!("users: [{}]", own_user() + 1));
    let refused = call(&other, FETCH_SVID, Some(HEADER_VALUE)).unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
}

/// The settings of a sidecar of `web` that has its certificate from `socket`, with a way to `api`.
fn from_socket(mesh: &Mesh, api: &Sidecar, socket: &Path) -> String {
    let way = format!(
        "upstreams: [{{ listen: \"127.0.0.1:0\", address: \"{}\", identity: \"{API}\" }}]",
        api.door(0)
    );
    let settings = mesh.settings("web", &mesh.web, &way, "");
    let files = settings
        .lines()
        .find(|line| line.starts_with("credentials:"))
        .unwrap();
    let from_socket = format!(
        "credentials: {{ workload_api: {{ endpoint: \"unix://{}\" }} }}",
        socket.display()
    );
    settings.replace(files, &from_socket)
}

// One sidecar's server against another one's client: from the first certificate to the next.
#[test]
fn a_sidecar_takes_its_certificate_from_a_workload_api_and_every_new_one() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let socket = mesh.folder.path().join("api.sock");
    let first = serving(&mesh, &socket, "every_user: true");
    let second = Sidecar::start(&from_socket(&mesh, &api, &socket));
    let mut client = dial(second.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"by a certificate from the socket");

    let before = second.counts(&["certificate_not_after", "leaf"]);
    mesh.authority
        .renew(&mesh.web, WEB, DAY + Duration::from_secs(1000));
    let end = std::time::Instant::now() + LIMIT;
    while second.counts(&["certificate_not_after", "leaf"]) <= before {
        assert!(std::time::Instant::now() < end, "the new certificate comes along");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut again = dial(second.door(0));
    let mut server = mesh.accept();
    say(&mut again, &mut server, b"by the new one");

    // A server that is gone leaves its last word in force, and is called again.
    drop(first);
    let mut third = dial(second.door(0));
    let mut server = mesh.accept();
    say(&mut third, &mut server, b"nobody at the socket");
    let _first = serving(&mesh, &socket, "every_user: true");
    mesh.authority
        .renew(&mesh.web, WEB, DAY + Duration::from_secs(2000));
    let end = std::time::Instant::now() + LIMIT;
    while second.counts(&["certificate_not_after", "leaf"]) <= before + 1500.0 {
        assert!(
            std::time::Instant::now() < end,
            "the newest certificate comes along"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A foreign client with the lines that it writes.
struct Foreign {
    child: Child,
    lines: Receiver<String>,
}

impl Foreign {
    fn start(mut command: Command, socket: &Path) -> Self {
        let mut child = command
            .env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", socket.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = sync_channel(100);
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The rest of the next line that begins with `word`.
    fn says(&self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|_| panic!("it never says {word:?}"));
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets a foreign client fetch, call a meshed service by mutual TLS, and see a rotation.
fn fetches_calls_and_sees_a_rotation(word: &[u8], client: impl FnOnce(SocketAddr) -> Command) {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let socket = mesh.folder.path().join("api.sock");
    let _web = serving(&mesh, &socket, &format!("users: [{}]", own_user()));
    let client = Foreign::start(client(api.door(0)), &socket);
    let mut server = mesh.accept();
    let mut heard = [0; 7];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word);
    server.write_all(b"from us").unwrap();
    drop(server);
    assert_eq!(client.says("answer"), "from us");
    let serial = |serial: &rcgen::SerialNumber| -> String {
        let hex: String = serial
            .to_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        hex.trim_start_matches('0').to_owned()
    };
    mesh.authority
        .renew(&mesh.web, WEB, DAY + Duration::from_secs(1000));
    assert_eq!(client.says("rotated"), serial(&mesh.web.serial()));
    let mut server = mesh.accept();
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"again..");
    server.write_all(b"welcome").unwrap();
    drop(server);
    assert_eq!(client.says("again"), "welcome");
    api.counts(&["connections_total", "mutual", "verdict=\"allow\""]);
}

#[allow(
    clippy::disallowed_methods,
    reason = "no setting: where tests/prepare.sh has put a program"
)]
fn prepared(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is set by tests/run"))
        .into()
}

#[test]
#[ignore = "needs go-spiffe, built with Go: tests/run"]
fn go_spiffe_fetches_calls_and_sees_a_rotation() {
    fetches_calls_and_sees_a_rotation(b"from go", |peer| {
        let mut command = Command::new(prepared("FERRULE_GOSPIFFE"));
        command.arg(peer.to_string()).arg(API);
        command
    });
}

// The C core of gRPC puts the path of the socket where an authority should be.
#[test]
#[ignore = "needs py-spiffe: tests/run"]
fn py_spiffe_fetches_calls_and_sees_a_rotation() {
    fetches_calls_and_sees_a_rotation(b"from py", |peer| {
        let mut command = Command::new(prepared("FERRULE_PYSPIFFE"));
        let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/foreign/pyspiffe/client.py");
        command.arg(client).arg(peer.to_string()).arg(API);
        command
    });
}

/// The Workload API of SPIRE's agent, which tells of the files of one identity.
struct Spire {
    foreign: Foreign,
    again: ChildStdin,
}

impl Spire {
    fn start(socket: &Path, files: &Files) -> Self {
        let mut command = Command::new(prepared("FERRULE_SPIRE"));
        command
            .arg(socket)
            .args([&files.chain, &files.key, &files.bundle])
            .stdin(Stdio::piped());
        let mut foreign = Foreign::start(command, socket);
        foreign.says("serving");
        let again = foreign.child.stdin.take().unwrap();
        Self { foreign, again }
    }

    /// Reads the files anew, and tells whoever listens.
    fn tell(&mut self) {
        self.again.write_all(b"again\n").unwrap();
        self.foreign.says("told");
    }
}

// The client's side against a server that is not ours: first word, rotation, the server's end and its return.
#[test]
#[ignore = "needs SPIRE's handler, built with Go: tests/run"]
fn a_sidecar_follows_the_workload_api_of_spire() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let socket = mesh.folder.path().join("spire.sock");
    let mut spire = Spire::start(&socket, &mesh.web);
    let web = Sidecar::start(&from_socket(&mesh, &api, &socket));
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"by a certificate of SPIRE's");

    let ends = || web.counts(&["certificate_not_after", "leaf"]);
    let later_than = |before: f64, what: &str| {
        let end = std::time::Instant::now() + LIMIT;
        while ends() <= before {
            assert!(std::time::Instant::now() < end, "{what} comes along");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let before = ends();
    let renew = |more| {
        mesh.authority
            .renew(&mesh.web, WEB, DAY + Duration::from_secs(more))
    };
    renew(1000);
    spire.tell();
    later_than(before, "the new certificate");
    let mut again = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut again, &mut server, b"by the new one");

    // Killed, as agents are when they are updated; its successor has the same socket, and news.
    drop(spire);
    let mut alone = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut alone, &mut server, b"nobody at the socket");
    std::fs::remove_file(&socket).unwrap();
    renew(2000);
    let _spire = Spire::start(&socket, &mesh.web);
    later_than(before + 1500.0, "the newest certificate");
    let mut last = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut last, &mut server, b"by the newest");
}
