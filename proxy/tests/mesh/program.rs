//! The program itself, as a child process.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::Value;

use crate::sidecar::{API, LIMIT, Mesh, dial, rest, say};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ferrule-proxy");

/// A running program with the lines that it writes.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<Value>,
}

impl Running {
    /// Runs the program with `settings`, with at most `files` open files.
    pub(crate) fn start(mesh: &Mesh, settings: &str, files: u32) -> Self {
        let path = mesh.folder.path().join("proxy.yaml");
        fs::write(&path, settings).unwrap();
        let mut child = Command::new("sh")
            .args([
                "-c",
                &format!("ulimit -n {files}; exec \"$0\" run --config \"$1\""),
            ])
            .arg(PROGRAM)
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = sync_channel(10_000);
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines() {
                let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line in which the field has that value.
    pub(crate) fn line(&self, field: &str, value: &str) -> Value {
        loop {
            let line = self
                .lines
                .recv_timeout(LIMIT)
                .unwrap_or_else(|_| panic!("no {field} {value}"));
            if line[field] == value {
                return line;
            }
        }
    }

    pub(crate) fn door(&self) -> SocketAddr {
        self.line("message", "listening")["address"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    fn terminate(&mut self) -> Option<i32> {
        Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the debug socket.
pub(crate) fn ask(path: &std::path::Path, what: &str) -> String {
    let mut socket = std::os::unix::net::UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    write!(
        socket,
        "GET {what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn every_connection_has_a_line_with_all_its_fields() {
    let mesh = Mesh::new();
    mesh.allow();
    let socket = mesh.folder.path().join("debug.sock");
    let settings = mesh.api_settings("drain: { leave: 0s, deadline: 5s }");
    let settings = settings.replace(
        "enabled: false",
        &format!("enabled: false, socket: {}", socket.display()),
    );
    let mut api = Running::start(&mesh, &settings, 1024);
    let door = api.door();
    api.line("message", "documents taken");
    let web = mesh.web_sidecar(door, API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    let open: Value = serde_json::from_str(&ask(&socket, "/connections")).unwrap();
    assert_eq!(
        (open[0]["bytes_in"].as_u64(), open[0]["tls"].as_str()),
        (Some(5), Some("mutual"))
    );
    assert!(ask(&socket, "/certificates").contains(API));
    assert!(ask(&socket, "/config").contains("handshake_time: 5s"));
    drop((client, server));
    let line = api.line("event", "close");
    let fields = "event connection_id time direction namespace pod node src_id dst_id src_addr dst_addr dst_port \
                  service tls tls_version tls_group tls_cipher peer_serial verdict rule reason bytes_in bytes_out \
                  duration_ms reused";
    for field in fields.split_whitespace() {
        assert!(!line[field].is_null(), "no {field} in {line}");
    }
    assert_eq!(line["src_id"], crate::sidecar::WEB);
    assert_eq!(
        (&line["tls_version"], &line["tls_group"]),
        (&"TLSv1.3".into(), &"X25519MLKEM768".into())
    );
    assert_eq!(
        (&line["rule"], &line["reason"]),
        (&"shop/api rule 1".into(), &"finished".into())
    );
    assert_eq!(line["bytes_in"], 5);
    assert_eq!(api.terminate(), Some(0));
}

// E7: the program runs out of descriptors, says so at most once a second, and recovers by itself.
#[test]
fn running_out_of_descriptors_is_survived() {
    let mesh = Mesh::new();
    mesh.allow();
    let settings = mesh.api_settings("limits: { handshake_time: 60s }");
    let mut api = Running::start(&mesh, &settings, 64);
    let door = api.door();
    api.line("message", "documents taken");
    let crowd: Vec<TcpStream> = (0..200).map(|_| dial(door)).collect();
    api.line("message", "cannot accept a connection, pausing");
    drop(crowd);
    let web = mesh.web_sidecar(door, API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    assert!(api.child.try_wait().unwrap().is_none());
}

#[test]
fn bad_settings_end_with_64_and_all_faults() {
    let mesh = Mesh::new();
    let path = mesh.folder.path().join("proxy.yaml");
    fs::write(&path, "trust_domain: Shop\nworkers: none\n").unwrap();
    let done = Command::new(PROGRAM)
        .args(["run", "--check", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(64));
    let said = String::from_utf8(done.stderr).unwrap();
    for fault in [
        "proxy.yaml:1:15: trust_domain",
        "proxy.yaml:2:10: workers",
        "`credentials` is missing",
    ] {
        assert!(said.contains(fault), "no {fault:?} in {said}");
    }
}

#[test]
fn check_prints_what_is_in_force() {
    let mesh = Mesh::new();
    let path = mesh.folder.path().join("proxy.yaml");
    fs::write(&path, mesh.api_settings("")).unwrap();
    let done = Command::new(PROGRAM)
        .args(["run", "--check", "--config"])
        .arg(&path)
        .env("FERRULE_PROXY__DRAIN__DEADLINE", "90s")
        .output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success());
    assert!(
        said.contains("deadline: 90s") && said.contains("half_closed: 55s"),
        "{said}"
    );
}

#[test]
fn a_stop_under_the_deadline_ends_with_0_and_says_cut() {
    let mesh = Mesh::new();
    mesh.allow();
    let mut api = Running::start(
        &mesh,
        &mesh.api_settings("drain: { leave: 0s, deadline: 300ms }"),
        1024,
    );
    let door = api.door();
    api.line("message", "documents taken");
    let web = mesh.web_sidecar(door, API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    assert_eq!(api.terminate(), Some(0));
    assert_eq!(api.line("event", "close")["reason"], "cut");
    assert!(!rest(&mut client).1);
}
