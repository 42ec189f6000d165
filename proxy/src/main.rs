//! The program `ferrule-proxy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrule_proxy::commands::run(std::env::args_os())
}
