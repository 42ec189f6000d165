//! Reads rules from files and folders.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ferrule_document::{Document, Limits, Problems};
use ferrule_identity::TrustDomain;
use ferrule_policy::PlaceDocument;
use ferrule_policy::{PolicyDocument, Preset};

use crate::failure::Failure;
use crate::picture::{Member, Names};

/// What files say, as far as it is about rules.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The rules of all files.
    pub(crate) documents: Vec<PolicyDocument>,
    /// The faults of all files.
    pub(crate) problems: Problems,
    /// The files that were read.
    pub(crate) files: Vec<PathBuf>,
    /// The workloads that documents of kind Workload describe.
    pub(crate) members: Vec<Member>,
    /// What the `access` of mesh files stands for.
    pub(crate) presets: Vec<Preset>,
    /// How many documents are no rules.
    pub(crate) others: usize,
}

/// Reads the rules of `paths`: files, and folders of files that end in `.yaml` or `.yml`. Beside rules they may have
/// the other documents of a mesh of `trust_domain`.
///
/// # Errors
/// When a file cannot be read. Faults in what they say are no error: see [`Rules::problems`].
pub(crate) fn read(paths: &[PathBuf], trust_domain: &TrustDomain) -> Result<Rules, Failure> {
    let mut rules = Rules::default();
    for path in paths {
        for file in files(path).map_err(Failure::could_not(format!("read {}", path.display())))? {
            let text = fs::read(&file).map_err(Failure::could_not(format!("read {}", file.display())))?;
            rules.add(&file.display().to_string(), &text, trust_domain);
            rules.files.push(file);
        }
    }
    Ok(rules)
}

impl Rules {
    fn add(&mut self, source: &str, text: &[u8], trust_domain: &TrustDomain) {
        let documents = match Document::parse(source, text, Limits::default()) {
            Ok(documents) => documents,
            Err(problems) => return self.problems.append(problems),
        };
        for document in documents {
            let faults = if PlaceDocument::is_place(&document) {
                self.others += 1;
                PlaceDocument::read(&document, trust_domain).map(|place| self.add_place(place))
            } else if document.peek("kind") == Some("Mesh") {
                self.others += 1;
                // What else the document says is read, with its faults, by whoever runs the mesh.
                let preset = document
                    .peek("access")
                    .and_then(|name| name.parse::<Preset>().ok());
                self.presets.extend(preset);
                Ok(())
            } else {
                // Any other kind is more likely a rule's, misspelt.
                PolicyDocument::read(&document).map(|policy| self.documents.push(policy))
            };
            if let Err(faults) = faults {
                self.problems.append(faults);
            }
        }
    }

    fn add_place(&mut self, place: PlaceDocument) {
        if let PlaceDocument::Workload(workload) = place {
            self.members.push(Member {
                names: Names::of_one(&workload.namespace, &workload.name, workload.addresses),
                namespace: workload.namespace,
                name: workload.name,
                labels: workload.labels,
                id: workload.id,
            });
        }
    }

    /// Adds the rules that a mesh file's `access` stands for, in these namespaces.
    pub(crate) fn add_presets(&mut self, namespaces: &BTreeSet<&str>) {
        for preset in std::mem::take(&mut self.presets) {
            let text = preset.documents(namespaces.iter().copied());
            match PolicyDocument::read_all("access", text.as_bytes(), Limits::default()) {
                Ok(mut documents) => self.documents.append(&mut documents),
                Err(problems) => self.problems.append(problems),
            }
        }
    }
}

/// The files that `path` means: itself, or those of a folder that end in `.yaml` or `.yml`, by their names.
pub(crate) fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let is_yaml = file
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && fs::metadata(&file)?.is_file() {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}
