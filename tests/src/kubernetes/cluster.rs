//! The cluster of a test program: two nodes of its own, or the one that `FERRULE_TEST_KUBECONFIG` names.

use std::any::Any;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Output, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

use super::{images, pki};
use crate::wait::until;

/// A running Kubernetes.
pub struct Cluster {
    /// `kubernetes`, the program that is all others.
    program: PathBuf,
    config: PathBuf,
    own: Option<Own>,
}

/// Nodes that were started for this test program.
struct Own {
    folder: PathBuf,
    nodes: Vec<Node>,
    /// The nodes are ended when this is closed, which the end of this process does, whichever it is.
    _alive: ChildStdin,
}

/// One node of the tests' own.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the cluster.
    pub name: String,
    /// Its first process.
    pid: u32,
}

/// The cluster, beside other tests.
pub type Shared = RwLockReadGuard<'static, Cluster>;

/// The cluster, with no other test at work.
pub type Alone = RwLockWriteGuard<'static, Cluster>;

/// The cluster for a test that minds only its own namespaces.
pub fn shared() -> Shared {
    cluster().read().unwrap_or_else(PoisonError::into_inner)
}

/// The cluster for a test that changes what all see.
pub fn alone() -> Alone {
    cluster().write().unwrap_or_else(PoisonError::into_inner)
}

fn cluster() -> &'static RwLock<Cluster> {
    static CLUSTER: OnceLock<Result<RwLock<Cluster>, String>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| {
        let started = catch_unwind(|| {
            let cluster = Cluster::start();
            cluster.install(&[]);
            RwLock::new(cluster)
        });
        started.map_err(|panic| first_line(&*panic))
    });
    match cluster {
        Ok(cluster) => cluster,
        Err(why) => {
            // The first test has told all there is to tell; the others name the cause, and need no trace to it.
            eprintln!("no cluster with a mesh: {why}");
            resume_unwind(Box::new(why.clone()))
        }
    }
}

/// What a panic said, in its first line.
fn first_line(panic: &(dyn Any + Send)) -> String {
    let said = match panic.downcast_ref::<String>() {
        Some(said) => said.as_str(),
        None => panic
            .downcast_ref::<&str>()
            .copied()
            .unwrap_or("a panic without words"),
    };
    said.lines().next().unwrap_or_default().to_owned()
}

impl Cluster {
    fn start() -> Self {
        let programs = variable("FERRULE_KUBERNETES").map(PathBuf::from);
        let programs =
            programs.expect("FERRULE_KUBERNETES names the folder of the cluster's programs: use tests/run");
        let program = programs.join("kubernetes");
        if let Some(config) = variable("FERRULE_TEST_KUBECONFIG") {
            return Self {
                program,
                config: config.into(),
                own: None,
            };
        }
        assert!(
            rustix::process::geteuid().is_root(),
            "nodes of the tests' own need root; without: FERRULE_TEST_KUBECONFIG, or tests/run --without kubernetes"
        );
        let own = Own::start(&programs);
        let cluster = Self {
            program,
            config: own.folder.join("pki/admin.json"),
            own: Some(own),
        };
        cluster.prepare();
        cluster
    }

    /// Waits for the nodes, and gives the cluster what every ordinary one has.
    fn prepare(&self) {
        let own = self.own();
        until("all nodes are ready", || {
            let nodes = self.get("nodes", &[])?;
            let ready = nodes["items"]
                .as_array()?
                .iter()
                .filter(|node| is_ready(node))
                .count();
            (ready == own.nodes.len()).then_some(())
        });
        let mut volumes = String::from(STORAGE);
        for number in 1..=VOLUMES {
            let path = own.folder.join(format!("node1/volumes/{number}"));
            fs::create_dir_all(&path).unwrap();
            volumes += &format!(
                "---\n\
                 apiVersion: v1\nkind: PersistentVolume\nmetadata: {{ name: volume-{number} }}\n\
                 spec:\n  capacity: {{ storage: 1Gi }}\n  accessModes: [ReadWriteOnce]\n  storageClassName: local\n  \
                 local: {{ path: {path} }}\n  nodeAffinity: {{ required: {{ nodeSelectorTerms: [{{ matchExpressions: \
                 [{{ key: kubernetes.io/hostname, operator: In, values: [node1] }}] }}] }} }}\n",
                path = path.display()
            );
        }
        self.apply(&volumes);
    }

    /// Starts `kubectl` with these arguments, to be changed and run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.own {
            Some(own) => own.nodes[0].command(&self.program),
            None => Command::new(&self.program),
        };
        command
            .arg("kubectl")
            .args(arguments)
            .env("KUBECONFIG", &self.config);
        command
    }

    /// Runs `kubectl` to its end, however it ends.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        finish(&mut self.command(arguments), "")
    }

    /// Runs `kubectl`, and returns what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        said(arguments, &self.try_kubectl(arguments))
    }

    /// Applies manifests.
    ///
    /// # Panics
    /// When the API server refuses one.
    pub fn apply(&self, manifests: &str) {
        said(&["apply"], &self.try_apply(&[], manifests));
    }

    /// Applies manifests, which may be refused.
    pub fn try_apply(&self, arguments: &[&str], manifests: &str) -> Output {
        finish(self.command(&["apply", "-f", "-"]).args(arguments), manifests)
    }

    /// Objects as the API server has them; nothing when it does not say.
    pub fn get(&self, what: &str, arguments: &[&str]) -> Option<Value> {
        let done = finish(
            self.command(&["get", what, "--output", "json"]).args(arguments),
            "",
        );
        if !done.status.success() {
            return None;
        }
        serde_json::from_slice(&done.stdout).ok()
    }

    /// The nodes of the tests' own.
    ///
    /// # Panics
    /// When the cluster is another's, whose nodes nobody here can enter.
    pub fn nodes(&self) -> &[Node] {
        &self.own().nodes
    }

    /// The file of the key with which the tests' own API server signs tokens (P-256, PKCS #8, PEM).
    ///
    /// # Panics
    /// When the cluster is another's, who keeps it.
    pub fn signing_key(&self) -> PathBuf {
        self.own().folder.join("pki/accounts.key")
    }

    /// Ends one of the control plane's programs on the first node, and keeps it from being started again until what
    /// is returned is dropped.
    pub fn hold(&self, program: &str) -> Held {
        let folder = &self.own().folder;
        let file = folder.join(format!("{program}.hold"));
        File::create(&file).unwrap();
        let pid = fs::read_to_string(folder.join(format!("{program}.pid"))).unwrap();
        let mut kill = self.nodes()[0].inside("kill");
        said(&["kill"], &finish(kill.args(["-KILL", pid.trim()]), ""));
        Held(file)
    }

    /// The node of the tests' own that a pod is on.
    ///
    /// # Panics
    /// When it is on none.
    pub fn node_of(&self, pod: &Value) -> &Node {
        let name = &pod["spec"]["nodeName"];
        let mut nodes = self.nodes().iter();
        nodes
            .find(|node| name == node.name.as_str())
            .expect("the pod has a node")
    }

    fn own(&self) -> &Own {
        self.own
            .as_ref()
            .expect("this test needs nodes of the tests' own: run it without FERRULE_TEST_KUBECONFIG")
    }
}

/// A program of the control plane that is away.
pub struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

impl Own {
    fn start(programs: &Path) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ferrule-kubernetes-")
            .tempdir()
            .unwrap();
        let folder = folder.keep();
        for part in ["pki", "log", "images", "programs", "made", "etcd"] {
            fs::create_dir(folder.join(part)).unwrap();
        }
        for name in ["kubernetes", "dns"] {
            std::os::unix::fs::symlink(programs.join(name), folder.join("programs").join(name)).unwrap();
        }
        let names: Vec<(String, IpAddr)> = (1..=NODES)
            .map(|number| (format!("node{number}"), Ipv4Addr::new(10, 99, 0, number).into()))
            .collect();
        pki::write(&folder.join("pki"), "https://10.99.0.1:6443", &names);
        images::make(&folder.join("images"));
        let log = File::create(folder.join("log/keep")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/keep");
        let mut child = Command::new(script)
            .arg(&folder)
            .arg(NODES.to_string())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let alive = child.stdin.take().unwrap();
        eprintln!("the cluster's logs are in {}", folder.join("log").display());
        let nodes = names.into_iter().map(|(name, _)| {
            let file = folder.join(format!("{name}.pid"));
            let pid = until("the node has begun", || {
                assert!(child.try_wait().unwrap().is_none(), "the nodes run");
                fs::read_to_string(&file).ok()?.trim().parse().ok()
            });
            Node { name, pid }
        });
        Self {
            nodes: nodes.collect(),
            folder,
            _alive: alive,
        }
    }
}

impl Node {
    /// A command in the node's network, with this process's files.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.entered(&["--net"], program.as_ref())
    }

    /// A command in all that is the node's own.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        self.entered(
            &["--net", "--mount", "--pid", "--ipc", "--uts", "--cgroup"],
            program.as_ref(),
        )
    }

    /// Sends a signal to the first process of a running container, by what the API server says of it.
    ///
    /// # Panics
    /// When it does not run here.
    pub fn signal(&self, container: &Value, signal: &str) {
        let id = container["containerID"].as_str().unwrap();
        let id = id.strip_prefix("containerd://").unwrap();
        let mut ctr = self.inside("ctr");
        ctr.args(["--namespace", "k8s.io", "tasks", "kill", "--signal", signal, id]);
        said(&["ctr"], &finish(&mut ctr, ""));
    }

    fn entered(&self, kinds: &[&str], program: &OsStr) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid.to_string()])
            .args(kinds)
            .arg(program);
        command
    }
}

/// Runs a command with `input` to its end.
pub(super) fn finish(command: &mut Command, input: &str) -> Output {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after", "5", MOST_SECONDS])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let mut child = limited
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    // A program that ends without reading all of it says why in its own words.
    let _ = to.write_all(input.as_bytes());
    drop(to);
    child.wait_with_output().unwrap()
}

/// What a command said.
///
/// # Panics
/// When it failed, with all that it said.
pub fn said(what: &[&str], done: &Output) -> String {
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{what:?}: {}\n{said}{error}", done.status);
    said
}

/// Whether an object says of itself that it is ready.
pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[allow(
    clippy::disallowed_methods,
    reason = "no setting of a program: what tests/run tells the tests"
)]
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

const NODES: u8 = 2;

/// More installations than there are in one run of the tests.
const VOLUMES: u8 = 6;

/// Limits `kubectl`, which waits for some things by itself.
const MOST_SECONDS: &str = "300";

const STORAGE: &str = "\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: { name: local, annotations: { storageclass.kubernetes.io/is-default-class: \"true\" } }
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
";
