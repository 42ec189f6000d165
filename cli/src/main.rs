//! The program `ferrule`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrule_cli::run(std::env::args_os())
}
