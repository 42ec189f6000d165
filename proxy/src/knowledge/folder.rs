//! Reads rules and who lives where from a folder, and keeps the last good state of all of it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferrule_daemon::folder::{self, FolderError, Text};
use ferrule_daemon::logging::Chain;
use ferrule_document::Problems;
use ferrule_policy::{Mesh, Policy, Stack, compile, join};
use tracing::{error, info};

use super::map::Map;
use super::names::names;
use super::{Source, Teller};

/// A folder, and what has been seen in it.
#[derive(Debug)]
pub struct Folder {
    texts: folder::Folder,
    mesh: Mesh,
    /// The machine that this is.
    node: String,
    /// The names of the rules in force, to say what changed.
    names: BTreeSet<String>,
}

/// Everything that a folder says.
#[derive(Debug)]
pub struct State {
    /// The rules.
    pub policy: Policy,
    /// Who lives where.
    pub map: Map,
    /// What is in force, a line for each rule and each mode, to say what changed.
    names: BTreeSet<String>,
}

impl Folder {
    /// The folder at `path`, for a mesh that is otherwise as `mesh` says.
    pub fn new(path: PathBuf, mesh: Mesh) -> Self {
        Self {
            texts: folder::Folder::new(vec![path]),
            mesh,
            node: String::new(),
            names: BTreeSet::new(),
        }
    }

    /// The same on the machine `node`.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        node.clone_into(&mut self.node);
        self
    }

    /// Looks once: `None` when everything is as it was.
    ///
    /// # Errors
    /// All faults of all files; then nothing of the folder counts. The same faults are reported once.
    pub fn look(&mut self) -> Option<Result<State, StateError>> {
        let texts = self.texts.look()?;
        Some(match texts {
            Ok(texts) => self
                .read(&texts)
                .map_err(|problems| StateError::Faults { problems }),
            Err(source) => Err(StateError::Folder { source }),
        })
    }

    fn read(&self, texts: &[Text]) -> Result<State, Problems> {
        let texts = texts
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let stack = Stack::read(texts, &self.mesh.trust_domain)?;
        let policies = stack.policies();
        let policy = compile(&policies, self.mesh.clone())?;
        let names = names(&policy, &policies);
        let map = Map::seen_from(&self.node, &join(&stack.places));
        Ok(State { policy, map, names })
    }

    fn source(&self) -> String {
        let shown = |path: &PathBuf| Path::display(path).to_string();
        self.texts
            .paths()
            .iter()
            .map(shown)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn tell(&mut self, state: State, teller: &Teller) {
        let (names, source) = (state.names, self.source());
        super::names::tell_changes(&self.names, &names, &source);
        let (workloads, services) = state.map.counts();
        info!(
            rules = state.policy.rule_count(),
            workloads, services, source, "documents taken"
        );
        self.names = names;
        // Who lives where first: a new rule may be about somebody who has just come.
        teller.map.send_replace(Arc::new(state.map));
        teller.rules.send_replace(Some(Arc::new(state.policy)));
    }
}

impl Source for Folder {
    async fn run(mut self, teller: Teller) -> Infallible {
        loop {
            let look = self.look();
            if matches!(look, Some(Err(_))) {
                teller.refused.send_modify(|count| *count += 1);
            }
            match look {
                None => {}
                Some(Ok(state)) => self.tell(state, &teller),
                Some(Err(StateError::Faults { problems })) => {
                    for problem in problems.iter() {
                        error!(%problem, "document refused");
                    }
                    error!(
                        faults = problems.count(),
                        source = self.source(),
                        "documents not taken, the last good ones stay in force"
                    );
                }
                Some(Err(error)) => {
                    let error = Chain(&error);
                    error!(%error, "documents not taken, the last good ones stay in force");
                }
            }
            tokio::time::sleep(self.texts.next_look()).await;
        }
    }
}

/// Why a folder is not taken.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or a file of it cannot be read.
    #[error("cannot read the rules")]
    Folder {
        /// Which, and why.
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
