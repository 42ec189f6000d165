//! Watches a folder of YAML documents, and keeps the last good state of all of them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrule_document::{Document, Limits, Place, Problem, Problems};
use ferrule_identity::Fingerprint;
use ferrule_policy::{Mesh, Policy, PolicyDocument, compile};
use tracing::{error, info};

use super::document::PlaceDocument;
use super::map::Map;
use super::{Source, Teller};

/// A folder, and what has been seen in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    mesh: Mesh,
    seen: Option<Fingerprint>,
    /// The names of the rules in force, to say what changed.
    names: BTreeSet<String>,
    problem: Option<String>,
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
    pub const fn new(path: PathBuf, mesh: Mesh) -> Self {
        Self {
            path,
            mesh,
            seen: None,
            names: BTreeSet::new(),
            problem: None,
        }
    }

    /// Looks once: `None` when everything is as it was.
    ///
    /// # Errors
    /// All faults of all files; then nothing of the folder counts. The same faults are reported once.
    pub fn look(&mut self) -> Option<Result<State, FolderError>> {
        let result = self.files().map(|files| {
            let print = fingerprint(&files);
            if self.seen == Some(print) {
                return None;
            }
            self.seen = Some(print);
            Some(
                self.read(&files)
                    .map_err(|problems| FolderError::Faults { problems }),
            )
        });
        match result {
            Ok(news) => news,
            Err(error) => {
                // Forgotten, so that the folder is read again when it is back.
                self.seen = None;
                let text = error.to_string();
                let is_new = self.problem.as_ref() != Some(&text);
                self.problem = Some(text);
                is_new.then_some(Err(error))
            }
        }
    }

    fn read(&mut self, files: &[(String, Vec<u8>)]) -> Result<State, Problems> {
        let mut problems = Problems::new();
        let (mut policies, mut places) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let documents = match Document::parse(name, bytes, Limits::default()) {
                Ok(documents) => documents,
                Err(faults) => {
                    problems.append(faults);
                    continue;
                }
            };
            for document in documents {
                let faults = if PlaceDocument::is_place(&document) {
                    PlaceDocument::read(&document, &self.mesh.trust_domain).map(|place| places.push(place))
                } else {
                    PolicyDocument::read(&document).map(|policy| policies.push(policy))
                };
                if let Err(faults) = faults {
                    problems.append(faults);
                }
            }
        }
        let policy = match compile(&policies, self.mesh.clone()) {
            Ok(policy) => Some(policy),
            Err(faults) => {
                problems.append(faults);
                None
            }
        };
        let map = Map::new(&places);
        match policy {
            Some(policy) => {
                let names = names(&policy, &policies);
                problems.into_result(State { policy, map, names })
            }
            None => Err(problems),
        }
    }

    /// The YAML files, in the order of their names.
    fn files(&self) -> Result<Vec<(String, Vec<u8>)>, FolderError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Read { path, source }
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed(&self.path))? {
            let path = entry.map_err(failed(&self.path))?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            // Hidden names are the temporary files of editors, and the links by which Kubernetes swaps a volume.
            let hidden = path
                .file_name()
                .is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if matches!(extension, Some("yaml" | "yml")) && !hidden {
                paths.push(path);
            }
        }
        paths.sort();
        if paths.len() > MAX_FILES {
            let problem = format!("the folder has {} files, more than {MAX_FILES}", paths.len());
            let place = Place::whole(self.path.display().to_string());
            let problems = Problem::new(place, "", problem).into();
            return Err(FolderError::Faults { problems });
        }
        let read = |path: PathBuf| {
            let mut bytes = Vec::new();
            // One byte more than is allowed, so that parsing sees and refuses what is too long.
            let most = u64::try_from(Limits::default().bytes)
                .unwrap_or(u64::MAX)
                .saturating_add(1);
            std::fs::File::open(&path)
                .and_then(|file| file.take(most).read_to_end(&mut bytes))
                .map_err(failed(&path))?;
            Ok((path.display().to_string(), bytes))
        };
        paths.into_iter().map(read).collect()
    }

    fn tell(&mut self, state: State, teller: &Teller) {
        let names = state.names;
        for added in names.difference(&self.names) {
            info!(rule = added, change = "added", source = %self.path.display(), "rule changed");
        }
        for removed in self.names.difference(&names) {
            info!(rule = removed, change = "removed", source = %self.path.display(), "rule changed");
        }
        let (workloads, services) = state.map.counts();
        info!(
            rules = state.policy.rule_count(), workloads, services,
            source = %self.path.display(), "documents taken"
        );
        self.names = names;
        self.problem = None;
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
                Some(Err(FolderError::Faults { problems })) => {
                    for problem in problems.iter() {
                        error!(%problem, "document refused");
                    }
                    error!(
                        faults = problems.count(), source = %self.path.display(),
                        "documents not taken, the last good ones stay in force"
                    );
                }
                Some(Err(error)) => {
                    let error = ferrule_daemon::logging::Chain(&error);
                    error!(%error, "documents not taken, the last good ones stay in force");
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// A line for each rule and each mode.
fn names(policy: &Policy, documents: &[PolicyDocument]) -> BTreeSet<String> {
    let rules = policy.rules().map(|rule| {
        let (action, enforcement) = (rule.action, rule.enforcement);
        format!(
            "{rule} ({action:?}, {enforcement:?}): {} {}",
            rule.peers, rule.ports
        )
    });
    let modes = documents.iter().filter_map(|document| match document {
        PolicyDocument::Mesh(mode) => Some(format!(
            "{}/{} (MeshPolicy): {:?}, ports {:?}",
            mode.meta.namespace, mode.meta.name, mode.mode, mode.ports
        )),
        PolicyDocument::Access(_) | PolicyDocument::Egress(_) => None,
    });
    rules.chain(modes).collect()
}

fn fingerprint(files: &[(String, Vec<u8>)]) -> Fingerprint {
    let each: Vec<u8> = files
        .iter()
        .flat_map(|(name, bytes)| [Fingerprint::of(name.as_bytes()), Fingerprint::of(bytes)])
        .flat_map(|print| *print.as_bytes())
        .collect();
    Fingerprint::of(&each)
}

/// How often the folder is looked at. Reading is the only way that sees every kind of change: a watch misses a
/// mounted volume that is swapped as a whole.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// More files than anybody writes by hand.
const MAX_FILES: usize = 10_000;

/// Why a folder is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder or a file of it cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
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
