//! What a peer's settings are made from: addresses, certificates, a folder.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::pki::Certificates;

/// Where one subject is set up.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) certificates: Certificates,
    /// A folder of its own.
    pub(crate) folder: PathBuf,
    /// Where the near program listens.
    pub(crate) near: SocketAddr,
    /// Where the far program listens.
    pub(crate) far: SocketAddr,
    /// Where the far end of the load is.
    pub(crate) server: SocketAddr,
}

impl Place {
    /// The place of subject number `number`.
    pub(crate) fn new(
        number: u16,
        server: SocketAddr,
        certificates: &Certificates,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(format!("subject-{number}"));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            certificates: certificates.clone(),
            folder,
            near: at(FIRST_PORT + 10 * number),
            far: at(FIRST_PORT + 10 * number + 1),
            server,
        })
    }

    /// Writes `text` to the file `name` of the place's folder; gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Below the ports that the kernel gives to whoever asks for any.
const FIRST_PORT: u16 = 21_000;
