//! Runs one program with its sidecar in a network of their own, for `ferrule run`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::drain::Drain;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::timeout;

use super::sidecar::until_ready;
use super::{Stopping, egress, process, relay};
use crate::up::control::Start;
use crate::up::parts::{self, PartError};
use crate::up::plan::Plan;
use crate::up::probe;
use crate::up::space::{Space, prepare_hub};

/// What is run alone.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Alone {
    /// The network's plan; it has no workloads.
    pub(crate) plan: Plan,
    /// The folder in which everything lies.
    pub(crate) state: PathBuf,
    /// The addresses of the program.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where the sidecar finds the CA, which is reached past the redirect.
    pub(crate) authorities: Vec<IpAddr>,
    /// The sidecar's settings file, and its debug socket.
    pub(crate) settings: PathBuf,
    pub(crate) control: PathBuf,
    /// Where the sidecar's lines go; standard error where it is none.
    pub(crate) log: Option<PathBuf>,
    /// The program with its arguments, and where it works.
    pub(crate) program: Vec<OsString>,
    pub(crate) folder: PathBuf,
}

impl Alone {
    /// The socket at which the process outside says when to stop.
    pub(crate) fn orders(&self) -> PathBuf {
        self.state.join("run/orders.sock")
    }
}

/// Runs what the file that `arguments` name describes, to the end of its program.
pub(in crate::up) fn run(arguments: &[OsString]) -> Result<ExitCode, PartError> {
    let path = arguments.first().map(PathBuf::from).unwrap_or_default();
    let failed = || PartError::doing(format!("read {}", path.display()));
    let text = fs::read(&path).map_err(failed())?;
    let alone: Alone = serde_json::from_slice(&text).map_err(|error| failed()(io::Error::other(error)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(PartError::doing("start"))?;
    let code = runtime.block_on(carry(&alone));
    runtime.shutdown_background();
    code
}

async fn carry(alone: &Alone) -> Result<ExitCode, PartError> {
    let orders = UnixStream::connect(alone.orders()).await;
    let mut orders = BufReader::new(orders.map_err(PartError::doing("reach the process outside"))?).lines();
    let hub = &alone.plan.hub;
    prepare_hub(hub).map_err(refused("make a network"))?;
    let (_stop, stopping) = watch::channel(Stopping::No);
    let start = Start {
        plan: alone.plan.clone(),
        state: alone.state.clone(),
    };
    let mesh = Arc::new(super::mesh(start, stopping));
    let relays = Drain::new();
    relay::serve(&mesh, &relays).map_err(PartError::doing("open the way into the network"))?;
    egress::serve(&mesh, &relays).map_err(PartError::doing("open the way out of the network"))?;
    let space = Space::make(0, &alone.addresses, hub).map_err(refused("make the program's network"))?;
    let beyond: Vec<IpAddr> = hub.iter().chain(&alone.authorities).copied().collect();
    space
        .redirect(&probe::redirect(&beyond))
        .map_err(refused("redirect connections"))?;
    ask_the_hub(alone)?;
    let mut sidecar = sidecar(alone, &space)?;
    let ready = tokio::select! {
        ready = timeout(READY, until_ready(&alone.control)) => ready.is_ok(),
        status = sidecar.wait() => return Err(ended(&status)),
        _ = orders.next_line() => {
            let _ = process::end(&mut sidecar, PATIENCE).await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if !ready {
        let _ = process::end(&mut sidecar, PATIENCE).await;
        return Err(PartError::doing(format!(
            "get the sidecar ready within {READY:?}"
        ))(io::Error::from(io::ErrorKind::TimedOut)));
    }
    let status = program(alone, &space, &mut sidecar, &mut orders).await?;
    // The program may have left connections that are still to be finished.
    let _ = process::end(&mut sidecar, PATIENCE).await;
    relays.cut_now();
    Ok(code(status))
}

/// Names that are asked for in here go to the hub, and from there to the machine's resolver.
fn ask_the_hub(alone: &Alone) -> Result<(), PartError> {
    let failed = || PartError::doing("say who is asked for names");
    let file = alone.state.join("run/resolv.conf");
    let text: String = alone
        .plan
        .hub
        .iter()
        .map(|address| format!("nameserver {address}\n"))
        .collect();
    fs::write(&file, text).map_err(failed())?;
    let no = None::<&str>;
    match mount(Some(&file), "/etc/resolv.conf", no, MsFlags::MS_BIND, no) {
        // Where there is no such file, names are asked for nowhere.
        Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(PartError::doing("say who is asked for names")(error)),
    }
}

fn sidecar(alone: &Alone, space: &Space) -> Result<Child, PartError> {
    let mut command = parts::command(false, "proxy", ["run", "--config"]);
    command.arg(&alone.settings).stdin(Stdio::null()).process_group(0);
    match &alone.log {
        Some(path) => {
            let log =
                process::log(path).map_err(PartError::doing(format!("open the log {}", path.display())))?;
            command.stdout(log);
        }
        None => {
            command.stdout(io::stderr());
        }
    }
    process::spawn(command, Some(space)).map_err(refused("start the sidecar"))
}

/// Runs the program to its end, which comes by itself, by an order, or with its sidecar's.
async fn program(
    alone: &Alone,
    space: &Space,
    sidecar: &mut Child,
    orders: &mut Lines<BufReader<UnixStream>>,
) -> Result<ExitStatus, PartError> {
    let mut command = Command::new("/proc/self/exe");
    command
        .args([parts::WORD, "exec", "isolate", ""])
        .arg(&alone.folder)
        .args(&alone.program)
        .process_group(0);
    let name = alone.program.first().map(|name| name.display().to_string());
    let mut program = process::spawn(command, Some(space))
        .map_err(refused(&format!("start {}", name.unwrap_or_default())))?;
    let group = program.id().map(|id| Pid::from_raw(id.cast_signed()));
    let tell = |signal| {
        if let Some(group) = group {
            // It may have ended; nobody else can have its number before it is waited for.
            let _ = killpg(group, signal);
        }
    };
    loop {
        tokio::select! {
            status = program.wait() => return status.map_err(PartError::doing("wait for the program")),
            status = sidecar.wait() => {
                // Without its sidecar the program would be on its own, and nobody would know.
                let _ = process::end(&mut program, PATIENCE).await;
                return Err(ended(&status));
            }
            order = orders.next_line() => match order {
                Ok(Some(order)) if order == INTERRUPT => tell(Signal::SIGINT),
                Ok(Some(_)) => tell(Signal::SIGTERM),
                // The process outside is gone.
                Ok(None) | Err(_) => tell(Signal::SIGKILL),
            }
        }
    }
}

fn ended(status: &io::Result<ExitStatus>) -> PartError {
    PartError::doing("go on: the sidecar ended; what it says is above, or in --log")(io::Error::other(
        process::how(status),
    ))
}

fn refused<E: std::error::Error + Send + Sync + 'static>(doing: &str) -> impl FnOnce(E) -> PartError {
    let doing = doing.to_owned();
    move |error| PartError::doing(doing)(io::Error::other(error))
}

fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    parts::exit_code(status.code(), signal)
}

/// The order to interrupt the program, as Ctrl-C does; any other line asks it to end.
pub(crate) const INTERRUPT: &str = "interrupt";

/// How long the sidecar may take to get its certificate and its rules.
const READY: Duration = Duration::from_secs(60);

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(35);
