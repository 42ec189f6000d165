//! Reads the mesh from files and folders of YAML documents.

use std::convert::Infallible;
use std::path::PathBuf;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::folder::{self, FolderError, Text};
use ferrule_daemon::logging::Chain;
use ferrule_document::Problems;
use ferrule_identity::Timestamp;
use ferrule_policy::{Mesh, Stack, compile};
use tracing::{error, info};

use super::{News, Source, Teller};
use crate::announced::Announced;

/// Files and folders, and what has been seen in them. Documents of the kind `Mesh` are passed over.
#[derive(Debug)]
pub struct Folder {
    texts: folder::Folder,
    mesh: Mesh,
    /// What the documents said when they had no fault.
    own: Option<Stack>,
    own_faults: Vec<String>,
    others: Option<Others>,
}

/// What other hosts say, and what was seen of it.
#[derive(Debug)]
struct Others {
    announced: Announced,
    clock: Clock,
    live: Vec<Text>,
    faults: Vec<String>,
}

impl Folder {
    /// Each of `paths` is a file or a folder, of the mesh that is otherwise as `mesh` says.
    pub const fn new(paths: Vec<PathBuf>, mesh: Mesh) -> Self {
        Self {
            texts: folder::Folder::new(paths),
            mesh,
            own: None,
            own_faults: Vec::new(),
            others: None,
        }
    }

    /// The same with what other hosts announce, by the time of `clock`.
    #[must_use]
    pub fn with(mut self, announced: Announced, clock: Clock) -> Self {
        self.others = Some(Others {
            announced,
            clock,
            live: Vec::new(),
            faults: Vec::new(),
        });
        self
    }

    /// Looks once: `None` when everything is as it was.
    ///
    /// # Errors
    /// All faults of all files; then nothing of them counts. The same faults are reported once.
    pub fn look(&mut self) -> Option<Result<Stack, ReadError>> {
        let own = self.texts.look();
        let is_news = own.is_some();
        match own.map(|texts| self.take(texts)) {
            Some(Err(error)) => return Some(Err(error)),
            Some(Ok(stack)) => self.own = Some(stack),
            None => {}
        }
        let others_changed = self.others.as_mut().is_some_and(Others::look);
        let mut stack = self.own.clone().filter(|_| is_news || others_changed)?;
        if let Some(others) = &mut self.others {
            others.faults = others.announced.add(&mut stack, &others.live);
        }
        Some(Ok(stack))
    }

    fn take(&mut self, texts: Result<Vec<Text>, FolderError>) -> Result<Stack, ReadError> {
        self.own_faults.clear();
        let texts = texts.map_err(|source| ReadError::Folder { source });
        let read = texts.and_then(|texts| {
            self.read(&texts)
                .map_err(|problems| ReadError::Faults { problems })
        });
        if let Err(error) = &read {
            self.own_faults = match error {
                ReadError::Faults { problems } => problems.iter().map(ToString::to_string).collect(),
                ReadError::Folder { .. } => vec![Chain(error).to_string()],
            };
        }
        read
    }

    /// What cannot be used at present.
    fn faults(&self) -> Vec<String> {
        let others = self.others.iter().flat_map(|others| &others.faults);
        self.own_faults.iter().chain(others).cloned().collect()
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
                    for fault in self.others.iter().flat_map(|others| &others.faults) {
                        error!(fault, "a part of an announcement is not taken");
                    }
                }
                Some(Err(ReadError::Faults { problems })) => {
                    for problem in problems.iter() {
                        error!(%problem, "document refused");
                    }
                    error!(
                        faults = problems.count(),
                        "documents not taken, the last good ones stay in force"
                    );
                }
                Some(Err(fault)) => {
                    let fault = Chain(&fault).to_string();
                    error!(fault, "documents not taken, the last good ones stay in force");
                }
            }
            teller.faults(self.faults());
            tokio::time::sleep(self.texts.next_look()).await;
        }
    }
}

impl Others {
    /// Whether something else is announced than at the last look.
    fn look(&mut self) -> bool {
        let live = self.announced.live(Timestamp::from_unix(self.clock.unix()));
        let differs = live != self.live;
        self.live = live;
        differs
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

#[cfg(test)]
mod tests;
