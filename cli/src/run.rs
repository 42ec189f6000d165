//! `ferrule run`: runs one program with a sidecar beside it, both below this process.

mod isolated;
mod settings;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use ferrule_daemon::signals::{Signal, Signals};
use nix::sys::signal::{self, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::arguments::{Run, RunWay};
use crate::context::Context;
use crate::failure::{EXIT_WRONG, Failure};
use crate::sidecar::Socket;
use crate::up::parts;

pub(crate) fn run(arguments: &Run, context: &Context) -> Result<ExitCode, Failure> {
    let folder = Folder::new()?;
    let socket = folder.0.join("proxy.sock");
    let settings = settings::write(arguments, &socket, context)?;
    let file = folder.0.join("proxy.yaml");
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut file| file.write_all(settings.to_string().as_bytes()))
        .map_err(Failure::could_not(format!("write {}", file.display())))?;
    if arguments.capture == RunWay::Transparent {
        return isolated::run(arguments, &folder.0, &settings, context);
    }
    context.in_runtime(both(arguments, &file, Socket::new(socket), context))
}

/// The sidecar first, the program once that is ready, and the sidecar until the program is gone.
async fn both(
    arguments: &Run,
    settings: &Path,
    socket: Socket,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::system().map_err(Failure::could_not("listen for signals"))?;
    let mut sidecar = start_sidecar(arguments, settings)?;
    tokio::select! {
        ready = timeout(READY, until_ready(&socket)) => if ready.is_err() {
            let missing = match socket.text("/ready").await {
                Ok(text) => text,
                Err(error) => error.to_string(),
            };
            end(&mut sidecar, PATIENCE).await;
            return Err(Failure::Missing {
                message: format!("the sidecar is not ready after {READY:?}: {missing}"),
            });
        },
        status = sidecar.wait() => return Err(sidecar_ended(status)),
        _ = signals.next() => {
            end(&mut sidecar, PATIENCE).await;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let mut program = start_program(arguments)?;
    let status = loop {
        tokio::select! {
            status = program.wait() => break status.map_err(Failure::could_not("wait for the program"))?,
            status = sidecar.wait() => {
                // Without its sidecar the program would be on its own, and nobody would know.
                end(&mut program, PATIENCE).await;
                return Err(sidecar_ended(status));
            }
            // From a terminal the program has had it already.
            asked = signals.next() => if asked == Signal::Terminate {
                tell(&program, signal::Signal::SIGTERM);
            },
        }
    };
    // The program may have left connections that are still to be finished.
    end(&mut sidecar, PATIENCE).await;
    if let Some(signal) = status.signal() {
        context
            .printer
            .tell(&format!("ferrule: the program was ended by signal {signal}"));
    }
    Ok(code(status))
}

fn start_sidecar(arguments: &Run, settings: &Path) -> Result<Child, Failure> {
    let mut command = parts::command(true, "proxy", ["run", "--config"]);
    command.arg(settings);
    let mut command = Command::from(command);
    let out = match &arguments.log {
        None => Stdio::from(io::stderr()),
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(Failure::could_not(format!("open the log {}", path.display())))?
                .into()
        }
    };
    // In a group of its own: Ctrl-C is for the program, which may need its connections to end well.
    command
        .stdin(Stdio::null())
        .stdout(out)
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().map_err(Failure::could_not("start the sidecar"))
}

/// Starts the program, tied to this process: killed, it takes the program with it.
fn start_program(arguments: &Run) -> Result<Child, Failure> {
    let name = arguments.program.first().map(|name| name.to_string_lossy());
    Command::new("/proc/self/exe")
        .args([parts::WORD, parts::TIED, "program"])
        .args(&arguments.program)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::could_not(format!("start {}", name.unwrap_or_default())))
}

async fn until_ready(socket: &Socket) {
    while socket.text("/ready").await.is_err() {
        sleep(LOOK_AGAIN).await;
    }
}

/// Asks a process to end, waits `patience`, and ends it.
async fn end(child: &mut Child, patience: Duration) {
    tell(child, signal::Signal::SIGTERM);
    if timeout(patience, child.wait()).await.is_err() {
        // Gone meanwhile, or beyond our power; dropping it tries once more.
        let _ = child.kill().await;
    }
}

fn tell(child: &Child, signal: signal::Signal) {
    if let Some(id) = child.id() {
        // Nobody else can have its number before it is waited for; it may have ended.
        let _ = kill(Pid::from_raw(id.cast_signed()), signal);
    }
}

fn sidecar_ended(status: io::Result<ExitStatus>) -> Failure {
    let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    Failure::Missing {
        message: format!("the sidecar ended ({how}); what it says is above, or in --log"),
    }
}

/// The program's own code; 128 and the number of the signal that ended it, as a shell has it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(EXIT_WRONG))
}

/// A folder for nobody else; dropping it takes it away.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("ferrule-run-{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(Failure::could_not(format!("make the folder {}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It only has what this process put there.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How long the sidecar may take to get its certificate and its rules.
const READY: Duration = Duration::from_secs(60);

/// Between two looks at whether it is ready.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(35);
