//! A mesh of the shop's programs with sidecars beside them, for the other tests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ferrule_tests::pki::{Authority, Files};
use serde_json::{Value, json};

use crate::ferrule::{Ended, Running, ferrule, run};

/// Workloads `web` and `intruder`, who call, and `api`, who is called: each sidecar listens at an address of its own
/// within loopback. The application of `api` is the shop's store.
pub(crate) struct Mesh {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    workloads: Vec<Value>,
    sidecars: Vec<Running>,
    authority: Authority,
    _app: Running,
}

impl Mesh {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state/shop.local");
        fs::create_dir_all(&state).unwrap();
        fs::create_dir(folder.path().join("rules")).unwrap();
        let mut app = ferrule(&["example", "store"]);
        let mut app = Running::start(app.env("PORT", "0").env("HOST", "127.0.0.1"));
        let port = app.line("listening on 127.0.0.1:").parse().unwrap();
        let mut mesh = Self {
            folder,
            port,
            workloads: Vec::new(),
            sidecars: Vec::new(),
            authority: Authority::new(),
            _app: app,
        };
        mesh.allow(&["web"]);
        let serves = format!("serves: [{{ listen: \"127.0.0.2:{port}\", to: \"127.0.0.1:{port}\" }}]");
        mesh.add("api", "127.0.0.2", &serves);
        let calls = |from: &str| {
            format!(
                "upstreams: [{{ listen: \"{from}:{port}\", address: \"127.0.0.2:{port}\", \
                 identity: \"spiffe://shop.local/ns/shop/sa/api\" }}]"
            )
        };
        mesh.add("web", "127.0.0.3", &calls("127.0.0.3"));
        mesh.add("intruder", "127.0.0.4", &calls("127.0.0.4"));
        mesh
    }

    fn add(&mut self, name: &str, address: &str, ways: &str) {
        let id = format!("spiffe://shop.local/ns/shop/sa/{name}");
        let files = self
            .authority
            .files(self.folder.path(), name, &id, Duration::from_secs(80_000));
        let socket = self.folder.path().join(format!("{name}.sock"));
        let log = self.folder.path().join(format!("{name}.proxy.log"));
        let settings = self.folder.path().join(format!("{name}.yaml"));
        let path = |path: &Path| path.display().to_string();
        let text = format!(
            "trust_domain: shop.local\n\
             workload: {{ namespace: shop, name: {name}, labels: {{ app: {name} }}, service_account: {name} }}\n\
             credentials: {{ files: {{ chain: {}, key: {}, bundle: {} }} }}\n\
             rules: {{ folder: {} }}\nadmin: {{ enabled: false, socket: {} }}\n\
             drain: {{ leave: 0s, deadline: 1s }}\nworkers: 1\n{ways}\n",
            path(&files.chain),
            path(&files.key),
            path(&files.bundle),
            path(&self.rules()),
            path(&socket),
        );
        fs::write(&settings, text).unwrap();
        let mut command = ferrule(&["proxy", "run", "--config", &path(&settings)]);
        self.sidecars.push(Running::logging(&mut command, &log));
        let ports = if name == "api" { vec![self.port] } else { vec![] };
        self.workloads.push(json!({
            "namespace": "shop", "name": name, "replica": 0, "labels": { "app": name }, "service_account": name,
            "identity": id, "addresses": [address], "ports": ports, "publish": [], "pid": null, "control": socket,
            "metrics": null, "log": self.folder.path().join(format!("{name}.log")), "proxy_log": log,
        }));
        self.write_state();
        until("a sidecar is ready", || {
            run(&mut self.command(&["edges", "--control", &path(&socket)])).code == 0
        });
        until("a sidecar has its certificate and its rules", || {
            ask(&socket, "/ready").starts_with("ready")
        });
    }

    /// Adds a workload that has no sidecar before its port.
    pub(crate) fn add_bare(&mut self, name: &str) {
        let (mut bare, control) = (self.workloads[0].clone(), self.workloads[0]["control"].clone());
        bare["name"] = name.into();
        bare["identity"] = format!("spiffe://shop.local/ns/shop/sa/{name}").into();
        bare["labels"] = json!({ "app": name });
        bare["addresses"] = json!(["127.0.0.1"]);
        bare["control"] = control;
        self.workloads.push(bare);
        self.write_state();
    }

    fn write_state(&self) {
        let state = json!({
            "trust_domain": "shop.local", "pid": std::process::id(), "started": 1, "mesh_file": null,
            "capture": "explicit",
            "ca": { "url": "https://127.0.0.1:1", "root": "", "folder": self.path("ca"),
                    "bundle": self.path("api.bundle.pem") },
            "directory": { "address": "127.0.0.1:1", "control": self.path("directory.sock") },
            "rules": [self.rules()], "workloads": self.workloads,
        });
        fs::write(self.path("state/shop.local/running.json"), state.to_string()).unwrap();
    }

    /// Puts a certificate in the place of a workload's that was made `age` ago, to live for `life`.
    pub(crate) fn age(&self, name: &str, age: Duration, life: Duration) {
        let id = format!("spiffe://shop.local/ns/shop/sa/{name}");
        let files = Files::at(self.folder.path(), name);
        self.authority.renew_aged(&files, &id, age, life);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self, name: &str) -> String {
        self.path(&format!("{name}.sock")).display().to_string()
    }

    fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    /// Writes the rules anew: these may reach the port of `api`, and nobody else.
    pub(crate) fn allow(&self, accounts: &[&str]) {
        let ids: Vec<String> = accounts
            .iter()
            .map(|account| format!("spiffe://shop.local/ns/shop/sa/{account}"))
            .collect();
        self.rule(
            "api",
            &format!(
                "kind: AccessPolicy\nmetadata: {{ namespace: shop, name: api }}\nspec:\n  \
                 workloads: {{ labels: {{ app: api }} }}\n  action: allow\n  rules:\n  \
                 - {{ from: [{{ identities: [{}] }}], ports: [{}] }}\n",
                ids.join(", "),
                self.port
            ),
        );
    }

    /// Writes a file of rules.
    pub(crate) fn rule(&self, name: &str, text: &str) {
        let text = format!("apiVersion: ferrule.dev/v1alpha1\n{text}");
        let written = self.path("rule.new");
        fs::write(&written, text).unwrap();
        fs::rename(written, self.rules().join(format!("{name}.yaml"))).unwrap();
    }

    /// A command of `ferrule` about this mesh.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ferrule(arguments);
        command.env("FERRULE_STATE", self.path("state"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    /// What a command prints with `--output json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let ended = self.run(&[arguments, &["--output", "json"]].concat());
        let told = serde_json::from_str(&ended.out);
        (ended.code, told.unwrap_or_else(|_| panic!("no JSON: {ended:?}")))
    }

    /// Lets the application of `web` or `intruder` ask `api` for its goods; whether it got them.
    pub(crate) fn call(&self, from: &str) -> bool {
        let mut stream = TcpStream::connect((from, self.port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let asked = stream.write_all(b"GET /items HTTP/1.1\r\nhost: x\r\n\r\n");
        let mut answer = String::new();
        let read = asked.and_then(|()| stream.read_to_string(&mut answer));
        read.is_ok() && answer.contains("umbrella")
    }
}

/// Where the application of `web` calls `api`.
pub(crate) const WEB: &str = "127.0.0.3";

/// Where the application of `intruder` calls `api`.
pub(crate) const INTRUDER: &str = "127.0.0.4";

fn ask(socket: &Path, what: &str) -> String {
    let Ok(mut socket) = std::os::unix::net::UnixStream::connect(socket) else {
        return String::new();
    };
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    write!(
        socket,
        "GET {what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default()
}

/// Waits until `state` is so.
pub(crate) fn until(what: &str, mut state: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !state() {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How long anything here may take, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(60);
