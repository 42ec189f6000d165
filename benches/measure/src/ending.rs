//! Says by an exit code what came of a bench.

use std::io::Write as _;
use std::process::ExitCode;

/// The exit code of `program` for what it `measured`: 0 when every target is met, 1 when one is missed, 2 when something
/// could not be measured, which it tells on standard error.
pub fn ending(program: &str, measured: anyhow::Result<bool>) -> ExitCode {
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_MISSED),
        Err(error) => {
            // Nobody may read it; the code says as much.
            let _ = writeln!(std::io::stderr(), "{program}: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

const EXIT_MISSED: u8 = 1;
const EXIT_FAILED: u8 = 2;
