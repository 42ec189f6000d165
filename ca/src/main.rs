//! The program `ferrule-ca`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrule_ca::commands::run(std::env::args_os())
}
