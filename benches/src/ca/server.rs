//! Runs `ferrule-ca` as an operator would, in a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use ferrule_wire::JoinToken;
use serde_json::Value;

use crate::process::{Running, free_address};

/// A CA with its data in a folder; served, or stopped for a while.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    folder: PathBuf,
    /// Where it serves, also after it was stopped and started again.
    pub(crate) address: SocketAddr,
    running: Option<Running>,
}

/// Whether the server limits what one caller gets as it does by default, or nearly not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    Default,
    Raised,
}

impl Server {
    /// Makes a CA in `folder` with the program `program`; nobody serves it yet.
    pub(crate) fn make(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let server = Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            address: free_address()?,
            running: None,
        };
        server.command(&["init", "--trust-domain", TRUST_DOMAIN])?;
        Ok(server)
    }

    /// Starts to serve; gives the moment at which the process was there.
    pub(crate) fn start(&mut self, limits: Limits) -> anyhow::Result<()> {
        let mut serve = self.prepared(&["serve"]);
        serve.arg("--listen").arg(self.address.to_string());
        serve.env("FERRULE_CA__ADMIN__ENABLED", "false");
        if limits == Limits::Raised {
            for name in [
                "ISSUES_PER_CALLER",
                "ISSUE_BURST",
                "REQUESTS_PER_ADDRESS",
                "REQUEST_BURST",
            ] {
                serve.env(format!("FERRULE_CA__LIMITS__{name}"), "1000000");
            }
        }
        self.running = Some(Running::start("ferrule-ca", serve, &self.folder)?);
        Ok(())
    }

    /// Waits until it takes connections.
    pub(crate) fn listens(&mut self) -> anyhow::Result<()> {
        let address = self.address;
        self.running
            .as_mut()
            .context("the CA is not served")?
            .listens(address)
    }

    /// Stops serving, in order.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.running.take().context("the CA is not served")?.stop()
    }

    /// Ends serving without a warning.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.running.take().context("the CA is not served")?.kill()
    }

    /// The process that serves.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        Ok(self.running.as_ref().context("the CA is not served")?.id())
    }

    /// A token for a host that may have every identity here.
    pub(crate) fn token(&self) -> anyhow::Result<JoinToken> {
        let everything = format!("spiffe://{TRUST_DOMAIN}/*");
        let address = self.address.to_string();
        let made = self.command(&[
            "token",
            "create",
            "--id",
            &everything,
            "--address",
            &address,
            "--output",
            "json",
        ])?;
        let made: Value = serde_json::from_slice(&made).context("the new token is no JSON")?;
        let text = made["token"].as_str().context("the answer has no token")?;
        text.parse().context("the token cannot be read")
    }

    /// Runs a command that must succeed; gives what it printed.
    pub(crate) fn command(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self
            .prepared(arguments)
            .output()
            .context("cannot run ferrule-ca")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ferrule-ca {arguments:?}: {said}");
        Ok(output.stdout)
    }

    /// A command on this CA that does not inherit anybody's settings.
    pub(crate) fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .args(arguments)
            .arg("--data")
            .arg(self.folder.join("data"));
        command
    }
}

/// Whose identities the CAs under measurement issue.
pub(crate) const TRUST_DOMAIN: &str = "bench.test";
