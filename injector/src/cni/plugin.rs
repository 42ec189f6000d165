//! Puts the redirect into a pod's network namespace, from the node, so that the pod itself needs no capability.
//!
//! The plugin is a single static program. It enters the pod's network namespace, then the folder that was installed
//! beside it as its root, and runs `ferrule-proxy redirect` there with the tools of that folder: nothing of the node
//! is needed but the kernel.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ferrule_daemon::logging::Chain;
use ferrule_daemon::settings::environment;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::chroot;
use serde_json::Value;

use super::call::{Call, CallError, refusal, versions};

/// Does what the environment and standard input ask for, and answers on standard output.
pub fn run() -> ExitCode {
    let (answer, code) = match act() {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(error) => (
            Some(refusal(&format!("ferrule-cni: {}", Chain(&error)))),
            ExitCode::FAILURE,
        ),
    };
    if let Some(answer) = answer
        && writeln!(io::stdout(), "{answer}").is_err()
    {
        return ExitCode::FAILURE;
    }
    code
}

fn act() -> Result<Option<Value>, PluginError> {
    let variable = |name: &str| {
        let mut all = environment();
        all.find(|(found, _)| found == name)
            .and_then(|(_, value)| value.into_string().ok())
    };
    let mut input = Vec::new();
    io::stdin()
        .take(MAX_INPUT_BYTES)
        .read_to_end(&mut input)
        .map_err(|source| PluginError::Input { source })?;
    let command = variable("CNI_COMMAND").unwrap_or_default();
    let call =
        Call::read(&command, variable("CNI_NETNS"), &input).map_err(|source| PluginError::Call { source })?;
    match call {
        Call::Version => Ok(Some(versions())),
        Call::Delete => Ok(None),
        Call::Pod {
            check,
            netns,
            meshed,
            previous,
        } => {
            if meshed {
                let root = root(variable("CNI_PATH").as_deref());
                redirect(Path::new(&netns), &root, if check { "check" } else { "install" })?;
            }
            Ok((!check).then_some(previous))
        }
    }
}

/// The folder that is installed beside the plugin.
fn root(path: Option<&str>) -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|bin| bin.join(ROOT));
    let found = path
        .unwrap_or_default()
        .split(':')
        .map(|bin| Path::new(bin).join(ROOT))
        .find(|root| root.is_dir());
    found.or(beside).unwrap_or_else(|| PathBuf::from(ROOT))
}

fn redirect(netns: &Path, root: &Path, action: &str) -> Result<(), PluginError> {
    let open = |source| PluginError::Enter {
        path: netns.to_owned(),
        source,
    };
    let namespace = File::open(netns).map_err(open)?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| open(errno.into()))?;
    let enter = |source| PluginError::Enter {
        path: root.to_owned(),
        source,
    };
    make_root(root).map_err(|errno| enter(errno.into()))?;
    std::env::set_current_dir("/").map_err(enter)?;
    let done = Command::new("/bin/ferrule-proxy")
        .args(["redirect", action])
        .env_clear()
        .env("PATH", "/bin")
        .output()
        .map_err(|source| PluginError::Run { source })?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stderr, done.stdout].concat();
    Err(PluginError::Refused {
        action: action.to_owned(),
        said: String::from_utf8_lossy(&said).trim().chars().take(512).collect(),
    })
}

/// Makes `root` this process's root, in a mount namespace of its own that has the node's devices there: a program
/// without its standard streams would be given `/dev/null` for them.
fn make_root(root: &Path) -> nix::Result<()> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )?;
    let devices = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/dev"), &root.join("dev"), nothing, devices, nothing)?;
    chroot(root)
}

/// What is installed beside the plugin.
pub const ROOT: &str = "ferrule-cni.root";

/// A network configuration has a few KiB.
const MAX_INPUT_BYTES: u64 = 4 * 1024 * 1024;

/// Why the redirect is not in place.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("cannot read the configuration")]
    Input { source: io::Error },
    #[error("cannot follow the call")]
    Call { source: CallError },
    #[error("cannot enter {path}", path = path.display())]
    Enter { path: PathBuf, source: io::Error },
    #[error("cannot run ferrule-proxy")]
    Run { source: io::Error },
    #[error("redirect {action} failed: {said}")]
    Refused { action: String, said: String },
}
