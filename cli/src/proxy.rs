//! `ferrule proxy`: the sidecar's own commands, so that one program is enough.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::arguments::Ca;

pub(crate) fn run(arguments: &Ca) -> ExitCode {
    let name = OsString::from("ferrule-proxy");
    ferrule_proxy::commands::run([name].into_iter().chain(arguments.arguments.iter().cloned()))
}
