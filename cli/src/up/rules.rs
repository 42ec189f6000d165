//! Reads a mesh's files, and hands the rules that are good on to the sidecars.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ferrule_document::{Document, Limits, Place, Problem, Problems};
use ferrule_identity::TrustDomain;
use ferrule_policy::{Mesh, PolicyDocument, Preset, compile};

use super::document::MeshDocument;

/// The files that describe a mesh: the mesh file, and `policies/` beside it.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    mesh_file: PathBuf,
    policies: PathBuf,
}

/// What the files said at one time, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts {
    /// Name and bytes; the mesh file first.
    files: Vec<(String, Vec<u8>)>,
}

/// Everything that the files say.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) mesh: MeshDocument,
    /// How many rules there are.
    pub(super) rules: usize,
}

impl Sources {
    /// The mesh of `mesh_file`.
    pub(super) fn new(mesh_file: PathBuf) -> Self {
        let folder = mesh_file.parent().map(Path::to_owned).unwrap_or_default();
        Self {
            mesh_file,
            policies: folder.join("policies"),
        }
    }

    /// The mesh file and, where it is there, the folder of rules.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let policies = self.policies.is_dir().then(|| self.policies.clone());
        [self.mesh_file.clone()].into_iter().chain(policies).collect()
    }

    /// Reads all files.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub(super) fn texts(&self) -> Result<Texts, RulesError> {
        let mut paths = vec![self.mesh_file.clone()];
        if self.policies.is_dir() {
            let failed = RulesError::reading(&self.policies);
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.policies).map_err(&failed)? {
                let path = entry.map_err(&failed)?.path();
                let is_yaml = matches!(
                    path.extension().and_then(|end| end.to_str()),
                    Some("yaml" | "yml")
                );
                let is_hidden = path
                    .file_name()
                    .is_none_or(|name| name.to_string_lossy().starts_with('.'));
                if is_yaml && !is_hidden {
                    found.push(path);
                }
            }
            found.sort();
            paths.extend(found);
        }
        let read = |path: &PathBuf| {
            let bytes = fs::read(path).map_err(RulesError::reading(path))?;
            Ok((path.display().to_string(), bytes))
        };
        Ok(Texts {
            files: paths.iter().map(read).collect::<Result<_, _>>()?,
        })
    }
}

impl Texts {
    /// Reads what the files say.
    ///
    /// # Errors
    /// All faults of all files, with line and column.
    pub(super) fn read(&self) -> Result<Described, Problems> {
        let mut problems = Problems::new();
        let mut meshes = Vec::new();
        let mut policies = Vec::new();
        for (at, (name, bytes)) in self.files.iter().enumerate() {
            let documents = match Document::parse(name, bytes, Limits::default()) {
                Ok(documents) => documents,
                Err(faults) => {
                    problems.append(faults);
                    continue;
                }
            };
            for document in documents {
                let read = if at == 0 && MeshDocument::is_mesh(&document) {
                    MeshDocument::read(&document).map(|mesh| meshes.push((mesh, document.place().clone())))
                } else {
                    PolicyDocument::read(&document).map(|policy| policies.push(policy))
                };
                if let Err(faults) = read {
                    problems.append(faults);
                }
            }
        }
        let name = self.files.first().map_or("", |(name, _)| name);
        let mut meshes = meshes.into_iter();
        let first = meshes.next();
        for (_, place) in meshes {
            problems.add(Problem::new(place, "kind", "there is a Mesh already above"));
        }
        if first.is_none() && problems.is_empty() {
            let message = "there is no document of kind Mesh";
            problems.add(Problem::new(Place::whole(name), "", message));
        }
        let Some((mesh, place)) = first else {
            return Err(problems);
        };
        if mesh.join.is_some() && (!policies.is_empty() || mesh.access != Preset::None) {
            let message = "the rules of a mesh lie with its first host: take `access` and the rules out of this file and \
                           its policies/";
            problems.add(Problem::new(place, "join", message));
        }
        match compile(&policies, self.mesh(mesh.trust_domain.clone())) {
            Ok(policy) => problems.into_result(Described {
                mesh,
                rules: policy.rule_count(),
            }),
            Err(faults) => {
                problems.append(faults);
                Err(problems)
            }
        }
    }

    fn mesh(&self, trust_domain: TrustDomain) -> Mesh {
        Mesh {
            trust_domain,
            ranges: Vec::new(),
            built_in: Vec::new(),
        }
    }

    /// Puts the rules into the folder that the sidecars look at, each file under a number of its own, and takes away
    /// what is not a rule any more.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(super) fn publish(&self, known: &Path) -> Result<(), RulesError> {
        let mut wanted = Vec::new();
        for (at, (_, bytes)) in self.files.iter().enumerate() {
            let path = known.join(format!("{PREFIX}{at}.yaml"));
            let rules = if at == 0 {
                without_mesh(&String::from_utf8_lossy(bytes)).into_bytes()
            } else {
                bytes.clone()
            };
            if fs::read(&path).ok().as_ref() != Some(&rules) {
                replace(&path, &rules).map_err(RulesError::writing(&path))?;
            }
            wanted.push(path);
        }
        for entry in fs::read_dir(known).map_err(RulesError::reading(known))? {
            let path = entry.map_err(RulesError::reading(known))?.path();
            let is_rule = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
            if is_rule && !wanted.contains(&path) {
                fs::remove_file(&path).map_err(RulesError::writing(&path))?;
            }
        }
        Ok(())
    }
}

/// Writes a file as a whole, so that nobody reads half of it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let beside = path.with_file_name(format!(".{name}.new"));
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path)
}

/// The text with empty lines in place of its document of kind Mesh: what is left stays on its lines.
fn without_mesh(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut document: Vec<&str> = Vec::new();
    let mut flush = |document: &mut Vec<&str>| {
        let is_mesh = document.iter().any(|line| line.trim_end() == "kind: Mesh");
        for line in document.drain(..) {
            kept.push_str(if is_mesh { "" } else { line });
            kept.push('\n');
        }
    };
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            flush(&mut document);
        }
        document.push(line);
    }
    flush(&mut document);
    kept
}

/// What the names of rule files in the sidecars' folder begin with.
const PREFIX: &str = "rules-";

/// Why a mesh's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RulesError {
    /// A file or folder that cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RulesError {
    fn reading(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    fn writing(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: { namespace: shop, name: api }\n\
                        spec: { workloads: all, action: allow, rules: [{ from: [{ namespaces: [shop] }] }] }\n";
    const MESH: &str = "apiVersion: ferrule.dev/v1alpha1\nkind: Mesh\ntrustDomain: shop.local\nworkloads:\n\
                        - { name: api, namespace: shop, run: [./api] }\n";

    fn texts(mesh: String) -> Texts {
        Texts {
            files: vec![("mesh.yaml".to_owned(), mesh.into_bytes())],
        }
    }

    #[test]
    fn rules_keep_their_lines_when_the_mesh_is_taken_out() {
        let text = format!("{MESH}---\n{RULE}");
        let left = without_mesh(&text);
        assert_eq!(left.lines().count(), text.lines().count());
        assert_eq!(left.trim_start(), format!("---\n{RULE}"));
        assert_eq!(without_mesh(RULE), RULE);
    }

    #[test]
    fn every_fault_of_every_document_is_told_with_its_place() {
        let text = format!(
            "{}---\n{}",
            MESH.replace("name: api", "name: Api"),
            RULE.replace("allow", "alow")
        );
        let problems = texts(text).read().unwrap_err().to_string();
        assert!(
            problems.contains("mesh.yaml:5:11: workloads[0].name"),
            "{problems}"
        );
        assert!(problems.contains("mesh.yaml:10:33: spec.action"), "{problems}");
        let none = texts(RULE.to_owned()).read().unwrap_err().to_string();
        assert!(none.contains("no document of kind Mesh"), "{none}");
    }

    #[test]
    fn what_is_published_is_what_the_files_say() {
        let folder = tempfile::tempdir().unwrap();
        texts(format!("{MESH}---\n{RULE}"))
            .publish(folder.path())
            .unwrap();
        fs::write(folder.path().join("rules-7.yaml"), "old").unwrap();
        fs::write(folder.path().join("places.yaml"), "").unwrap();
        texts(MESH.to_owned()).publish(folder.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["places.yaml", "rules-0.yaml"]);
        assert_eq!(
            fs::read_to_string(folder.path().join("rules-0.yaml"))
                .unwrap()
                .trim(),
            ""
        );
    }
}
