//! What a running mesh tells about itself, in `running.json` of its state folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A mesh that runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningMesh {
    /// Whose identities are issued.
    pub trust_domain: String,
    /// The process that runs it.
    pub pid: u32,
    /// When it was up, in seconds since 1970.
    pub started: i64,
    /// The file that describes it; none for the example that comes with the program.
    pub mesh_file: Option<PathBuf>,
    /// How connections come to the sidecars.
    pub capture: Capture,
    /// The certificate authority.
    pub ca: RunningCa,
    /// The directory.
    pub directory: RunningDirectory,
    /// The files and folders that the rules were read from.
    pub rules: Vec<PathBuf>,
    /// The workloads, each copy for itself.
    pub workloads: Vec<RunningWorkload>,
}

/// How connections come to the sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// The kernel redirects them.
    Transparent,
    /// The applications call listeners of the sidecars.
    Explicit,
}

/// The certificate authority of a running mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningCa {
    /// Where its API is, such as `https://127.0.0.1:15010`.
    pub url: String,
    /// The SHA-256 of its root certificate, in hexadecimal.
    pub root: String,
    /// Its data folder.
    pub folder: PathBuf,
    /// The trust bundle (PEM).
    pub bundle: PathBuf,
}

/// The directory of a running mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningDirectory {
    /// Where the sidecars ask it.
    pub address: SocketAddr,
    /// Its debug socket.
    pub control: PathBuf,
}

/// One copy of a workload with its sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningWorkload {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of its copies, counted from 0.
    pub replica: u32,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its service account.
    pub service_account: String,
    /// Its SPIFFE ID.
    pub identity: String,
    /// Where it lives.
    pub addresses: Vec<IpAddr>,
    /// The ports that it serves.
    pub ports: Vec<u16>,
    /// Where its sidecar takes what comes for a port, if not at that port itself: where nothing is captured.
    #[serde(default)]
    pub doors: BTreeMap<u16, u16>,
    /// Those of them that this machine's loopback shows.
    pub publish: Vec<Published>,
    /// Its process; none while it is not running.
    pub pid: Option<u32>,
    /// The sidecar's debug socket.
    pub control: PathBuf,
    /// Where the sidecar's metrics are.
    pub metrics: Option<SocketAddr>,
    /// What the application prints.
    pub log: PathBuf,
    /// What the sidecar prints, as lines of JSON.
    pub proxy_log: PathBuf,
}

/// A port that this machine's loopback shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The workload's own.
    pub port: u16,
    /// Where to call it.
    pub at: SocketAddr,
}

impl RunningWorkload {
    /// Where its sidecar takes what comes for `port`.
    pub fn door(&self, port: u16) -> u16 {
        self.doors.get(&port).copied().unwrap_or(port)
    }

    /// `web.shop`, with `#1` behind it for copies after the first.
    pub fn title(&self) -> String {
        match self.replica {
            0 => format!("{}.{}", self.name, self.namespace),
            replica => format!("{}.{}#{replica}", self.name, self.namespace),
        }
    }
}

/// A running mesh with its state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The state folder of this mesh.
    pub folder: PathBuf,
    /// What it tells.
    pub mesh: RunningMesh,
}

impl Running {
    /// Whether the process that runs the mesh is there.
    pub fn is_alive(&self) -> bool {
        Path::new("/proc").join(self.mesh.pid.to_string()).exists()
    }
}

/// The state folders of one user's meshes.
#[derive(Debug, Clone)]
pub struct States {
    root: Option<PathBuf>,
}

impl States {
    /// The folders below `root`.
    pub fn below(root: PathBuf) -> Self {
        Self { root: Some(root) }
    }

    /// The folders of whoever has these `variables`: below `FERRULE_STATE`, else `XDG_STATE_HOME/ferrule`, else
    /// `HOME/.local/state/ferrule`.
    pub fn of_user(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let set: BTreeMap<OsString, OsString> = variables
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let folder = |name: &str| set.get(&OsString::from(name)).map(PathBuf::from);
        let root = folder("FERRULE_STATE")
            .or_else(|| Some(folder("XDG_STATE_HOME")?.join("ferrule")))
            .or_else(|| Some(folder("HOME")?.join(".local/state/ferrule")));
        Self { root }
    }

    /// The folder of the mesh of that trust domain, which need not exist; `None` when there is no place for it.
    pub fn folder(&self, trust_domain: &str) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join(trust_domain))
    }

    /// The meshes that run now, by their names. What its process left behind when it died is not among them.
    ///
    /// # Errors
    /// When a folder or a state cannot be read.
    pub fn running(&self) -> Result<Vec<Running>, StateError> {
        let Some(root) = &self.root else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StateError::reading(root)(source)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let folder = entry.map_err(StateError::reading(root))?.path();
            match read(&folder) {
                Ok(running) if running.is_alive() => found.push(running),
                Ok(_) | Err(StateError::NotRunning { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.mesh.trust_domain.cmp(&b.mesh.trust_domain));
        Ok(found)
    }

    /// The mesh that `named` means, a trust domain or a state folder; without a name the only one that runs.
    ///
    /// # Errors
    /// When it does not run, cannot be read, or there are several to choose from.
    pub fn find(&self, named: Option<&Path>) -> Result<Running, StateError> {
        let Some(named) = named else {
            let mut running = self.running()?;
            return match (running.pop(), running.is_empty()) {
                (None, _) => Err(StateError::None),
                (Some(only), true) => Ok(only),
                (Some(last), false) => Err(StateError::Several {
                    names: running
                        .into_iter()
                        .chain([last])
                        .map(|running| running.mesh.trust_domain)
                        .collect(),
                }),
            };
        };
        let by_name = self
            .root
            .as_ref()
            .filter(|_| named.components().count() == 1)
            .map(|root| root.join(named));
        let folder = by_name
            .filter(|folder| folder.is_dir())
            .unwrap_or_else(|| named.to_owned());
        let running = read(&folder)?;
        if running.is_alive() {
            Ok(running)
        } else {
            Err(StateError::NotRunning { folder })
        }
    }
}

fn read(folder: &Path) -> Result<Running, StateError> {
    let file = folder.join(FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Err(StateError::NotRunning {
                folder: folder.to_owned(),
            });
        }
        Err(source) => return Err(StateError::reading(&file)(source)),
    };
    let mesh = serde_json::from_slice(&text).map_err(|source| StateError::Json { path: file, source })?;
    Ok(Running {
        folder: folder.to_owned(),
        mesh,
    })
}

/// Why the mesh that is meant cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// None runs.
    #[error("no mesh runs here; start one with: ferrule up, or name one with: --mesh FOLDER")]
    None,
    /// More than one runs.
    #[error("several meshes run here, name one with --mesh: {}", names.join(", "))]
    Several {
        /// Their trust domains.
        names: Vec<String>,
    },
    /// The one that was named does not run.
    #[error("no mesh runs in {folder}; start it with: ferrule up", folder = folder.display())]
    NotRunning {
        /// Its state folder.
        folder: PathBuf,
    },
    /// Its state cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Its state is no state.
    #[error("{path} is not the state of a mesh of this version", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl StateError {
    fn reading(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}

/// The name of the file in a mesh's state folder.
pub const FILE: &str = "running.json";

#[cfg(test)]
mod tests;
