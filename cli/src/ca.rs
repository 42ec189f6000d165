//! `ferrule ca`: hands the rest of the line to the CA's own commands, for the CA of a running mesh.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use ferrule_ca::commands::Called;

use crate::arguments::Ca;
use crate::context::Context;
use crate::failure::Failure;
use crate::up::control::AUTHORITY_SETTINGS;

pub(crate) fn run(ca: &Ca, context: &Context) -> Result<ExitCode, Failure> {
    let mut line: Vec<OsString> = vec!["ferrule-ca".into()];
    if context.is_json() && !names(&ca.arguments, "--output") {
        line.extend(["--output".into(), "json".into()]);
    }
    let wants_help = ca.arguments.is_empty() || ca.arguments.iter().any(|word| is_help(word));
    let mut called = Called {
        program: "ferrule ca",
        finds_its_ca: false,
    };
    let names_another = names(&ca.arguments, "--data") || names(&ca.arguments, "--config");
    if !wants_help && !names_another {
        let running = context.running()?;
        let settings = running.folder.join(AUTHORITY_SETTINGS);
        if !settings.is_file() {
            return Err(Failure::Usage {
                message: format!(
                    "the CA of {} is on the mesh's first host; ask there",
                    running.mesh.trust_domain
                ),
            });
        }
        line.extend(["--config".into(), settings.into_os_string()]);
        called.finds_its_ca = true;
    }
    if ca.arguments.is_empty() {
        line.push("--help".into());
    }
    line.extend(ca.arguments.iter().cloned());
    Ok(ferrule_ca::commands::run_as(called, line))
}

/// Whether `flag` is given, alone or with `=`.
fn names(arguments: &[OsString], flag: &str) -> bool {
    let with_value = format!("{flag}=");
    arguments
        .iter()
        .any(|word| word == flag || word.as_encoded_bytes().starts_with(with_value.as_bytes()))
}

fn is_help(word: &OsStr) -> bool {
    ["--help", "-h", "help", "--version", "-V"]
        .iter()
        .any(|help| word == *help)
}
