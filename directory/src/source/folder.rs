//! Reads the mesh from files and folders of YAML documents.

use std::convert::Infallible;
use std::path::PathBuf;

use ferrule_daemon::folder::{self, FolderError, LOOK_AGAIN, Text};
use ferrule_daemon::logging::Chain;
use ferrule_document::Problems;
use ferrule_policy::{Mesh, Stack, compile};
use tracing::{error, info};

use super::{News, Source, Teller};

/// Files and folders, and what has been seen in them. Documents of the kind `Mesh` are passed over.
#[derive(Debug)]
pub struct Folder {
    texts: folder::Folder,
    mesh: Mesh,
}

impl Folder {
    /// Each of `paths` is a file or a folder, of the mesh that is otherwise as `mesh` says.
    pub const fn new(paths: Vec<PathBuf>, mesh: Mesh) -> Self {
        Self {
            texts: folder::Folder::new(paths),
            mesh,
        }
    }

    /// Looks once: `None` when everything is as it was.
    ///
    /// # Errors
    /// All faults of all files; then nothing of them counts. The same faults are reported once.
    pub fn look(&mut self) -> Option<Result<Stack, ReadError>> {
        let texts = self.texts.look()?;
        Some(match texts {
            Ok(texts) => self
                .read(&texts)
                .map_err(|problems| ReadError::Faults { problems }),
            Err(source) => Err(ReadError::Folder { source }),
        })
    }

    fn read(&self, texts: &[Text]) -> Result<Stack, Problems> {
        let texts = texts
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let stack = Stack::read(texts, &self.mesh.trust_domain)?;
        // What no proxy could compile is not told to any.
        compile(&stack.policies(), self.mesh.clone())?;
        Ok(stack)
    }
}

impl Source for Folder {
    async fn run(mut self, teller: Teller) -> Infallible {
        loop {
            match self.look() {
                None => {}
                Some(Ok(stack)) => {
                    info!(
                        rules = stack.policies.len(),
                        places = stack.places.len(),
                        "documents taken"
                    );
                    teller.tell(News::Everything(stack)).await;
                    teller.faults(Vec::new());
                }
                Some(Err(ReadError::Faults { problems })) => {
                    for problem in problems.iter() {
                        error!(%problem, "document refused");
                    }
                    error!(
                        faults = problems.count(),
                        "documents not taken, the last good ones stay in force"
                    );
                    teller.faults(problems.iter().map(ToString::to_string).collect());
                }
                Some(Err(fault)) => {
                    let fault = Chain(&fault).to_string();
                    error!(fault, "documents not taken, the last good ones stay in force");
                    teller.faults(vec![fault]);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Why documents are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Something cannot be read.
    #[error("cannot read the documents")]
    Folder {
        /// What, and why.
        source: FolderError,
    },
    /// Documents with faults.
    #[error("the documents have faults:\n{problems}")]
    Faults {
        /// Which.
        problems: Problems,
    },
}
