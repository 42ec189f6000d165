//! The program `ferrule-proxy`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// The C library's keeps what a burst of connections took; see docs/decisions.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ferrule_proxy::commands::run(std::env::args_os())
}
