//! The program `ferrule-injector`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrule_injector::commands::run(std::env::args_os())
}
