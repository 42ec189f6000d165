//! An API server alone, with its etcd and no nodes: what speaks with one can be shown against a real one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::cluster::{finish, said};
use super::pki;
use crate::wait::until;

/// A running API server on this machine's loopback; dropping it ends it.
pub struct Api {
    /// `kubernetes`, the program that is all others.
    program: PathBuf,
    address: SocketAddr,
    // In this order: the programs end before their folder goes.
    running: [Started; 2],
    folder: tempfile::TempDir,
}

impl Api {
    /// Starts one with the programs in `programs`, as `tests/run --prepare` builds them, and waits until it answers.
    ///
    /// # Panics
    /// When that does not work; its logs are told.
    pub fn start(programs: &Path) -> Self {
        let program = programs.join("kubernetes");
        let folder = tempfile::Builder::new().prefix("ferrule-api-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for part in ["pki", "made", "etcd"] {
            fs::create_dir(at(part)).unwrap();
        }
        let [address, clients, peers] = free();
        let nodes = [("api".to_owned(), address.ip())];
        pki::write(&at("pki"), &format!("https://{address}"), &nodes);
        let mut etcd = Command::new(&program);
        etcd.arg("etcd").arg("--data").arg(at("etcd"));
        etcd.arg("--clients").arg(format!("http://{clients}"));
        etcd.arg("--peers").arg(format!("http://{peers}"));
        let etcd = Started::new(etcd, &at("etcd.log"));
        let mut server = Command::new(&program);
        server.arg("kube-apiserver");
        let pki = |name: &str| at("pki").join(name);
        let flags: Vec<(&str, OsString)> = vec![
            ("etcd-servers", format!("http://{clients}").into()),
            ("bind-address", address.ip().to_string().into()),
            ("secure-port", address.port().to_string().into()),
            // Nobody is told of it, but it must not be one of loopback.
            ("advertise-address", "192.0.2.1".into()),
            ("endpoint-reconciler-type", "none".into()),
            ("tls-cert-file", pki("apiserver.crt").into_os_string()),
            ("tls-private-key-file", pki("apiserver.key").into_os_string()),
            ("client-ca-file", pki("ca.crt").into_os_string()),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", pki("accounts.pub").into_os_string()),
            (
                "service-account-signing-key-file",
                pki("accounts.key").into_os_string(),
            ),
            ("service-cluster-ip-range", "10.96.0.0/16".into()),
            ("authorization-mode", "RBAC".into()),
            ("cert-dir", at("made").into_os_string()),
        ];
        for (flag, value) in flags {
            let mut argument = OsString::from(format!("--{flag}="));
            argument.push(value);
            server.arg(argument);
        }
        let mut api = Self {
            program,
            address,
            running: [Started::new(server, &at("api.log")), etcd],
            folder,
        };
        until("the API server answers", || {
            api.goes_on();
            let asked = finish(&mut api.command(&["get", "--raw", "/readyz"]), "");
            asked.status.success().then_some(())
        });
        api
    }

    fn goes_on(&mut self) {
        for started in &mut self.running {
            if let Some(status) = started.0.try_wait().unwrap() {
                let log = fs::read_to_string(self.folder.path().join("api.log")).unwrap_or_default();
                panic!("a program of the API server ended: {status}\n{log}");
            }
        }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder of its files, which goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The kubeconfig of somebody who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("pki/admin.json")
    }

    /// Whom to trust to be it (PEM).
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("pki/ca.crt")
    }

    /// The process that is the API server.
    pub fn id(&self) -> u32 {
        self.running[0].0.id()
    }

    /// Applies manifests.
    ///
    /// # Panics
    /// When the API server refuses one.
    pub fn apply(&self, manifests: &str) {
        let mut command = self.command(&["apply", "--server-side", "-f", "-"]);
        said(&["apply"], &finish(&mut command, manifests));
    }

    /// Runs `kubectl`, and returns what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        said(arguments, &finish(&mut self.command(arguments), ""))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("kubectl")
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig());
        command
    }
}

/// A program, its output in a file; it ends with this or with the thread that started it.
struct Started(Child);

impl Started {
    fn new(command: Command, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL"])
            .arg(command.get_program())
            .args(command.get_args());
        let child = tied
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Addresses that nobody listens on at the moment.
fn free<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let listeners: [TcpListener; COUNT] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}
