//! Gives up every privilege, and becomes the application.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{User, getegid, geteuid, initgroups, setgid, setuid};

use super::PartError;
use super::root::map;

/// `isolate|open USER FOLDER PROGRAM [ARGUMENT …]`; an empty USER stays who we are, without any capability.
pub(super) fn run(arguments: &[OsString]) -> Result<ExitCode, PartError> {
    let [isolate, user, folder, program, rest @ ..] = arguments else {
        return Err(PartError::doing("read the application's command")(
            io::Error::from(io::ErrorKind::InvalidInput),
        ));
    };
    std::env::set_current_dir(folder)
        .map_err(PartError::doing(format!("enter the folder {}", folder.display())))?;
    match user.to_str() {
        Some("") if isolate == "isolate" => drop_capabilities()?,
        Some("") => {}
        Some(name) => become_user(name)?,
        None => {
            return Err(PartError::doing("read the user's name")(io::Error::from(
                io::ErrorKind::InvalidInput,
            )));
        }
    }
    set_no_new_privs().map_err(PartError::doing("give up privileges for ever"))?;
    // A change of user forgets what was set before.
    set_pdeathsig(Signal::SIGKILL).map_err(PartError::doing("be tied to its parent"))?;
    let refused = match program.to_str() {
        // The shop's programs are this one, wherever its file lies.
        Some("ferrule") => Command::new("/proc/self/exe").arg0(program).args(rest).exec(),
        _ => Command::new(program).args(rest).exec(),
    };
    Err(PartError::doing(format!("run {}", program.display()))(refused))
}

/// `PROGRAM [ARGUMENT …]`: becomes a program as it is, which ends with its parent as this process does.
pub(super) fn program(arguments: &[OsString]) -> Result<ExitCode, PartError> {
    let Some((program, rest)) = arguments.split_first() else {
        return Err(PartError::doing("read the program's command")(io::Error::from(
            io::ErrorKind::InvalidInput,
        )));
    };
    let refused = Command::new(program).args(rest).exec();
    Err(PartError::doing(format!("run {}", program.display()))(refused))
}

/// Enters a user namespace of its own, under a user id that is not 0: the next program has no capability in it, and
/// never had one outside. Files belong to whom they belonged before.
fn drop_capabilities() -> Result<(), PartError> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(PartError::doing("make the workload's user namespace"))?;
    map(user, group, WORKLOAD, WORKLOAD)
}

fn become_user(name: &str) -> Result<(), PartError> {
    let failed = |source: io::Error| PartError::doing(format!("become the user {name}"))(source);
    let refused = |error: Errno| failed(error.into());
    let user = User::from_name(name).map_err(refused)?;
    let user =
        user.ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "there is no such user")))?;
    if user.uid == geteuid() {
        return drop_capabilities();
    }
    let text = CString::new(name).map_err(|error| failed(error.into()))?;
    initgroups(&text, user.gid).map_err(refused)?;
    setgid(user.gid).map_err(refused)?;
    setuid(user.uid).map_err(refused)
}

/// The user and group id that a workload sees for itself; what a first user has on most machines.
const WORKLOAD: u32 = 1000;
