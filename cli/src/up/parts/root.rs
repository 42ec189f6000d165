//! Becomes the root of namespaces of its own, and runs another part in them.

use std::ffi::OsString;
use std::fs;
use std::process::{ExitCode, Stdio};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, getegid, geteuid};

use super::{PartError, command};

/// Runs the part that `arguments` name as process 1 of new namespaces: network, mounts, process ids, and without
/// root a user namespace around them, in which it has every capability. When this process ends, so does all of it.
pub(super) fn run(arguments: &[OsString]) -> Result<ExitCode, PartError> {
    let Some(part) = arguments.first().and_then(|part| part.to_str()) else {
        return Err(PartError::doing("find the part's name")(std::io::Error::from(
            std::io::ErrorKind::InvalidInput,
        )));
    };
    let (user, group) = (geteuid(), getegid());
    let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    // A root that may not make namespaces, as in a container, is an ordinary user here.
    let needs_user = !user.is_root() || matches!(unshare(spaces), Err(Errno::EPERM));
    if needs_user {
        let spaces = spaces | CloneFlags::CLONE_NEWUSER;
        unshare(spaces).map_err(PartError::doing("make a user namespace"))?;
        map(user, group, 0, 0)?;
    }
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .map_err(PartError::doing("keep mounts from spreading"))?;
    // After the change of capabilities, which forgets it.
    set_pdeathsig(Signal::SIGKILL).map_err(PartError::doing("be tied to the supervisor"))?;
    let mut child = command(false, part, &arguments[1..]);
    let status = child
        .stdin(Stdio::inherit())
        .status()
        .map_err(PartError::doing(format!("run the part {part}")))?;
    Ok(super::init::exit_code(status.code(), None))
}

/// Maps one user and one group, the caller's own, into the user namespace that this process has just made.
pub(super) fn map(user: Uid, group: Gid, to_user: u32, to_group: u32) -> Result<(), PartError> {
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).map_err(PartError::doing(format!("write {file}")))
    };
    // Required before a group may be mapped without privileges (user_namespaces(7)).
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{to_user} {user} 1"))?;
    write("gid_map", format!("{to_group} {group} 1"))
}
