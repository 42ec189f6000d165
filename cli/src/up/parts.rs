//! Runs the parts of a mesh, each a process of this same program: `ferrule __part NAME …`.

mod exec;
mod init;
mod root;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::process::{Command, ExitCode};

use ferrule_daemon::logging::Chain;
use ferrule_daemon::settings::environment;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

pub(crate) use init::{HealthSpec, Mounts, Spec, exit_code};

use super::{inside, probe};

/// The word that is followed by a part's name. No command for people.
pub(crate) const WORD: &str = "__part";

/// Ends with its parent process. For parts that no process id namespace holds.
pub(crate) const TIED: &str = "--tied";

/// Runs the part that `arguments` name, which are what followed [`WORD`].
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let (tied, arguments) = match arguments.split_first() {
        Some((first, rest)) if first == TIED => (true, rest),
        _ => (false, arguments),
    };
    if tied && set_pdeathsig(Signal::SIGTERM).is_err() {
        return fail("cannot be tied to its parent");
    }
    let Some((name, rest)) = arguments.split_first() else {
        return fail("no part is named");
    };
    let named = |program: &str| [OsString::from(program)].into_iter().chain(rest.iter().cloned());
    match name.to_str() {
        Some("ca") => ferrule_ca::commands::run(named("ferrule-ca")),
        Some("directory") => ferrule_directory::commands::run(named("ferrule-directory")),
        Some("proxy") => ferrule_proxy::commands::run(named("ferrule-proxy")),
        Some("root") => ended(root::run(rest)),
        Some("inside") => ended(inside::run()),
        Some("alone") => ended(inside::run_alone(rest)),
        Some("probe") => ended(probe::run().map(|()| ExitCode::SUCCESS)),
        Some("init") => ended(init::run(rest, init::Step::Outside)),
        Some("init-inside") => ended(init::run(rest, init::Step::Inside)),
        Some("exec") => ended(exec::run(rest)),
        Some("program") => ended(exec::program(rest)),
        _ => fail("no such part"),
    }
}

/// A command that runs a part, without the variables that would change its settings.
pub(crate) fn command(
    tied: bool,
    part: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Command {
    // This very program, even if its file has been replaced since.
    let mut command = Command::new("/proc/self/exe");
    command.arg(WORD);
    if tied {
        command.arg(TIED);
    }
    command.arg(part).args(arguments);
    for (name, value) in environment() {
        if name == "PATH" {
            // An ordinary user's path on Debian lacks the folder of nft.
            let mut path = value;
            path.push(":/usr/local/sbin:/usr/sbin:/sbin");
            command.env(name, path);
        } else if name.to_string_lossy().starts_with("FERRULE_") {
            command.env_remove(name);
        }
    }
    command
}

fn ended<E: std::error::Error + 'static>(result: Result<ExitCode, E>) -> ExitCode {
    result.unwrap_or_else(|error| fail(&Chain(&error).to_string()))
}

/// Nobody types the name of a part, so nobody is told how.
fn fail(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "ferrule: {message}");
    ExitCode::from(crate::failure::EXIT_COULD_NOT)
}

/// How a part could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub(crate) struct PartError {
    doing: String,
    source: std::io::Error,
}

impl PartError {
    /// Says what was being done when the system refused.
    pub(crate) fn doing<E: Into<std::io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self {
            doing: doing.into(),
            source: source.into(),
        }
    }
}
