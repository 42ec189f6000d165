//! A mesh: the wire, an authority, rules in a folder, hosts that have a sidecar.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::host::{Host, WIRE, wire_v4, wire_v6};
use super::process::run;
use super::sidecar::Sidecar;
use crate::pki::{Authority, Files};

/// A mesh of the trust domain `shop.local`; all its workloads live in the namespace `shop`.
pub struct Mesh {
    /// Who signs.
    pub authority: Authority,
    folder: PathBuf,
    hosts: u8,
    tool: Option<&'static str>,
}

impl Mesh {
    /// Sets up the wire and a folder for everything, in the namespaces that the process is in.
    pub(super) fn new(folder: &Path, program: &Path) -> Self {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"])
            .arg(folder));
        // A checkout may lie where only its owner can go; the sidecar runs as somebody else.
        let here = folder.join("ferrule-proxy");
        fs::write(&here, "").unwrap();
        run(Command::new("mount").arg("--bind").args([program, &here]));
        for name in ["rules", "credentials"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let ip = |arguments: &[&str]| drop(run(Command::new("ip").args(arguments)));
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "add", WIRE, "type", "bridge"]);
        ip(&["address", "add", &format!("{}/24", wire_v4()), "dev", WIRE]);
        ip(&[
            "address",
            "add",
            &format!("{}/64", wire_v6()),
            "dev",
            WIRE,
            "nodad",
        ]);
        ip(&["link", "set", WIRE, "up"]);
        Self {
            authority: Authority::new(),
            folder: folder.to_owned(),
            hosts: 0,
            tool: None,
        }
    }

    /// Has the redirects of all sidecars that are started from now on loaded by this tool, in the words of
    /// `ferrule-proxy redirect --tool`.
    pub const fn redirect_by(&mut self, tool: &'static str) {
        self.tool = Some(tool);
    }

    pub(super) const fn tool(&self) -> Option<&'static str> {
        self.tool
    }

    /// Where everything of this mesh lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new host on the wire that the mesh knows nothing of.
    ///
    /// # Panics
    /// When its name is that of another one, or longer than a link's may be (15 bytes).
    pub fn stranger(&mut self, name: &str) -> Host {
        self.hosts += 1;
        Host::new(name, self.hosts, &self.folder)
    }

    /// A new host, known to be the workload of that name, with the label `app: NAME`; it still lacks a sidecar.
    pub fn workload(&mut self, name: &str) -> Host {
        self.replica(name, name)
    }

    /// As [`Mesh::workload`], under a host name that differs from the workload's.
    pub fn replica(&mut self, workload: &str, name: &str) -> Host {
        let host = self.stranger(name);
        let [v4, v6] = host.addresses();
        self.document(
            name,
            &format!(
                "kind: Workload\nmetadata: {{ namespace: shop, name: {name}, labels: {{ app: {workload} }} }}\n\
                 spec: {{ serviceAccount: {workload}, addresses: [\"{v4}\", \"{v6}\"] }}\n"
            ),
        );
        self.authority
            .files(&self.credentials(), name, &id(workload), DAY);
        host
    }

    /// Puts the redirect of `host` in place and starts its sidecar, with `more` settings; returns once it is ready.
    pub fn sidecar_with(&self, host: &Host, more: &str) -> Sidecar {
        Sidecar::start(self, host, more)
    }

    /// As [`Mesh::sidecar_with`], with the settings that all sidecars have.
    pub fn sidecar(&self, host: &Host) -> Sidecar {
        self.sidecar_with(host, "")
    }

    /// Lets the workload `from` reach these ports of the workload `to`.
    pub fn allow(&self, from: &str, to: &str, ports: &[u16]) {
        self.document(
            &format!("{from}-to-{to}"),
            &format!(
                "kind: AccessPolicy\nmetadata: {{ namespace: shop, name: {from}-to-{to} }}\nspec:\n  \
                 workloads: {{ labels: {{ app: {to} }} }}\n  action: allow\n  rules:\n  \
                 - {{ from: [{{ identities: [{}] }}], ports: {ports:?} }}\n",
                id(from)
            ),
        );
    }

    /// Writes a document without its first line, the version, into the folder of rules. Sidecars take it within
    /// moments.
    pub fn document(&self, name: &str, text: &str) {
        let path = self.rules().join(format!("{name}.yaml"));
        let aside = path.with_extension("new");
        fs::write(&aside, format!("apiVersion: ferrule.dev/v1alpha1\n{text}")).unwrap();
        fs::rename(aside, path).unwrap();
    }

    /// The folder of rules.
    pub fn rules(&self) -> PathBuf {
        self.folder.join("rules")
    }

    /// The certificate files of the host of that name.
    pub fn files(&self, name: &str) -> Files {
        Files::at(&self.credentials(), name)
    }

    /// The sidecar's program.
    pub fn program(&self) -> PathBuf {
        self.folder.join("ferrule-proxy")
    }

    pub(super) fn credentials(&self) -> PathBuf {
        self.folder.join("credentials")
    }
}

/// The SPIFFE ID of the workload of that name.
pub fn id(workload: &str) -> String {
    format!("spiffe://shop.local/ns/shop/sa/{workload}")
}

const DAY: Duration = Duration::from_secs(80_000);
