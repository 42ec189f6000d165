//! Finds the programs that are measured: ours, built as they are shipped, and those of others on this machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Builds our program `name` as it is shipped; gives where it lies.
///
/// # Errors
/// When cargo fails, or its program does not lie beside the one that asks.
pub fn build(name: &str) -> anyhow::Result<PathBuf> {
    let program = beside(name)?;
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "-p", name, "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
    let built = command
        .status()
        .context("cannot run cargo; name the program with --program")?;
    ensure!(
        built.success(),
        "{name} cannot be built; name another program with --program"
    );
    ensure!(
        program.exists(),
        "{} is not there: run this program from a release build, or name another with --program",
        program.display()
    );
    Ok(program)
}

/// A file beside this program.
///
/// # Errors
/// When the system does not tell where this program lies.
pub fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    Ok(own.parent().context("this program lies nowhere")?.join(name))
}

/// The program `name` that a shell would run, or that lies where Debian has it for root alone.
pub fn installed(name: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "no setting: where programs lie")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The first line that `program` says of its version, on either output.
pub fn version(program: &std::path::Path, argument: &str) -> Option<String> {
    let said = Command::new(program).arg(argument).output().ok()?;
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().map(str::trim).find(|line| line.contains('.'))?;
    Some(line.chars().take(100).collect())
}
