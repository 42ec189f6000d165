//! Puts the plugin onto a node, keeps it in the network configuration, takes it away at the end.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_daemon::signals::Signals;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::call::ANNOTATIONS;
use super::plugin::ROOT;

/// The folders of a node, as the installing pod sees them.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is to be installed: `bin/ferrule-cni`, and beside it what it needs.
    pub root: PathBuf,
    /// The node's CNI folder, which holds `bin`.
    pub programs: PathBuf,
    /// The node's folder of network configurations.
    pub configuration: PathBuf,
}

/// Installs, then looks every few seconds whether somebody has changed the network configuration; at a signal takes
/// the plugin out of it again. The programs stay: a pod that is checked or deleted later may still need them.
///
/// # Errors
/// When the node's folders cannot be written to.
pub async fn keep(node: &Node, clock: &Clock, signals: &mut Signals) -> Result<(), InstallError> {
    place_programs(node)?;
    let mut said = None;
    loop {
        let done = chain(node).map_err(|error| Chain(&error).to_string());
        if said.as_ref() != Some(&done) {
            match &done {
                Ok(file) => info!(file, "the plugin is in the network configuration"),
                Err(error) => warn!(error, "the plugin is not in the network configuration"),
            }
            said = Some(done);
        }
        tokio::select! {
            () = clock.sleep(LOOK_AGAIN) => {}
            _ = signals.next() => break,
        }
    }
    unchain(node)
}

/// Copies the programs, the plugin last: it is what a runtime looks for.
fn place_programs(node: &Node) -> Result<(), InstallError> {
    let bin = node.programs.join("bin");
    let root = bin.join(ROOT);
    for folder in FOLDERS.map(|folder| node.root.join(folder)) {
        if let Some(name) = folder.file_name().filter(|_| folder.is_dir()) {
            copy_folder(&folder, &root.join(name))?;
        }
    }
    // The plugin mounts the node's devices there.
    let devices = root.join("dev");
    fs::create_dir_all(&devices).map_err(|source| InstallError::Write {
        path: devices,
        source,
    })?;
    let plugin = node.root.join("bin").join(PLUGIN);
    copy_file(&plugin, &bin.join(PLUGIN))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), InstallError> {
    fs::create_dir_all(to).map_err(|source| InstallError::Write {
        path: to.to_owned(),
        source,
    })?;
    let read = |source| InstallError::Read {
        path: from.to_owned(),
        source,
    };
    for entry in fs::read_dir(from).map_err(read)? {
        let entry = entry.map_err(read)?;
        let target = to.join(entry.file_name());
        // A link is followed: what is installed stands for itself.
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Copies beside the target and renames: a program that runs at this moment is not touched.
fn copy_file(from: &Path, to: &Path) -> Result<(), InstallError> {
    // By pieces: the limit of the pod's memory is smaller than some of the programs.
    let mut source = File::open(from).map_err(|source| InstallError::Read {
        path: from.to_owned(),
        source,
    })?;
    replace(to, 0o755, |file| io::copy(&mut source, file).map(drop))
}

fn write(to: &Path, bytes: &[u8], mode: u32) -> Result<(), InstallError> {
    replace(to, mode, |file| file.write_all(bytes))
}

fn replace(to: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), InstallError> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = to.with_file_name(name);
    let made = File::create(&new).and_then(|mut file| fill(&mut file));
    let made = made.and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)));
    made.and_then(|()| fs::rename(&new, to))
        .map_err(|source| InstallError::Write {
            path: to.to_owned(),
            source,
        })
}

/// Sees to it that the plugin stands last in the configuration that the runtime uses: the first by name. Says its name.
fn chain(node: &Node) -> Result<String, InstallError> {
    let file = first_configuration(&node.configuration)?;
    let config = read_json(&file)?;
    let wanted = chained(&config).ok_or_else(|| InstallError::Shape { path: file.clone() })?;
    let list = file.with_extension("conflist");
    if wanted != config || list != file {
        write(&list, format!("{wanted:#}\n").as_bytes(), 0o644)?;
        if list != file {
            // The runtime would go on using the file without the plugin, which sorts first.
            fs::rename(&file, file.with_extension("conf.ferrule-replaced")).map_err(|source| {
                InstallError::Write {
                    path: file.clone(),
                    source,
                }
            })?;
        }
    }
    Ok(list.display().to_string())
}

fn unchain(node: &Node) -> Result<(), InstallError> {
    let file = first_configuration(&node.configuration)?;
    let config = read_json(&file)?;
    let without = unchained(&config);
    if without != config {
        write(&file, format!("{without:#}\n").as_bytes(), 0o644)?;
        info!(file = %file.display(), "the plugin is out of the network configuration");
    }
    Ok(())
}

fn first_configuration(folder: &Path) -> Result<PathBuf, InstallError> {
    let failed = |source| InstallError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let known = path
            .extension()
            .is_some_and(|extension| extension == "conflist" || extension == "conf");
        if known {
            files.push(path);
        }
    }
    files.sort();
    files.into_iter().next().ok_or_else(|| InstallError::None {
        path: folder.to_owned(),
    })
}

fn read_json(path: &Path) -> Result<Value, InstallError> {
    let text = fs::read(path).map_err(|source| InstallError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| InstallError::Json {
        path: path.to_owned(),
        source,
    })
}

/// A list of plugins with ours at its end, and nothing else changed; a single plugin becomes a list.
fn chained(config: &Value) -> Option<Value> {
    let mut list = if config["plugins"].is_array() {
        unchained(config)
    } else if config["type"].is_string() {
        let version = config
            .get("cniVersion")
            .cloned()
            .unwrap_or_else(|| json!("0.3.1"));
        json!({ "cniVersion": version, "name": config["name"], "plugins": [config] })
    } else {
        return None;
    };
    let ours = json!({ "type": PLUGIN, "capabilities": { ANNOTATIONS: true } });
    list["plugins"].as_array_mut()?.push(ours);
    Some(list)
}

fn unchained(config: &Value) -> Value {
    let mut without = config.clone();
    if let Some(plugins) = without["plugins"].as_array_mut() {
        plugins.retain(|plugin| plugin["type"] != PLUGIN);
    }
    without
}

/// What is taken of the image's root.
const FOLDERS: [&str; 3] = ["bin", "lib", "lib64"];

/// The plugin's name, as network configurations have it.
pub const PLUGIN: &str = "ferrule-cni";

const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Why the plugin is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Something cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something cannot be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No network is configured yet.
    #[error("there is no network configuration in {path} yet", path = path.display())]
    None {
        /// The folder.
        path: PathBuf,
    },
    /// A configuration that is no JSON.
    #[error("{path} is no JSON", path = path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A configuration that names no plugin.
    #[error("{path} names no plugin", path = path.display())]
    Shape {
        /// Which.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_stands_last_whatever_was_there() {
        let single = json!({ "name": "lab", "type": "bridge" });
        let list = json!({ "cniVersion": "1.0.0", "name": "lab", "plugins": [{ "type": "bridge" }] });
        for config in [&single, &list] {
            let once = chained(config).unwrap();
            assert_eq!(once["plugins"][1]["type"], PLUGIN);
            assert_eq!(once["plugins"][1]["capabilities"][ANNOTATIONS], true);
            assert_eq!(chained(&once).unwrap(), once, "twice is once");
        }
        assert_eq!(unchained(&chained(&list).unwrap()), list);
        let mut behind = chained(&list).unwrap();
        let plugins = behind["plugins"].as_array_mut().unwrap();
        plugins.push(json!({ "type": "portmap" }));
        assert_eq!(chained(&behind).unwrap()["plugins"][2]["type"], PLUGIN);
        assert_eq!(chained(&json!({ "name": "x" })), None);
    }

    #[test]
    fn a_node_gets_the_programs_and_the_configuration_and_gives_the_latter_back() {
        let home = tempfile::tempdir().unwrap();
        let node = Node {
            root: home.path().join("root"),
            programs: home.path().join("cni"),
            configuration: home.path().join("net.d"),
        };
        for folder in [
            &node.root.join("bin"),
            &node.programs.join("bin"),
            &node.configuration,
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        assert!(matches!(chain(&node), Err(InstallError::None { .. })));
        fs::write(node.root.join("bin").join(PLUGIN), "program").unwrap();
        let before = json!({ "name": "lab", "cniVersion": "1.0.0", "plugins": [{ "type": "bridge" }] });
        let file = node.configuration.join("10-lab.conflist");
        fs::write(&file, before.to_string()).unwrap();
        place_programs(&node).unwrap();
        chain(&node).unwrap();
        assert!(node.programs.join("bin").join(PLUGIN).is_file());
        assert!(
            node.programs
                .join("bin")
                .join(ROOT)
                .join("bin")
                .join(PLUGIN)
                .is_file()
        );
        assert_eq!(read_json(&file).unwrap()["plugins"][1]["type"], PLUGIN);
        unchain(&node).unwrap();
        assert_eq!(read_json(&file).unwrap(), before);
    }
}
