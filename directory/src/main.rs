//! The program `ferrule-directory`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrule_directory::commands::run(std::env::args_os())
}
