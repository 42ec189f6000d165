//! Reads rules from files and folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ferrule_document::{Document, Limits, Problems};
use ferrule_policy::PolicyDocument;

use crate::failure::Failure;

/// What files say, as far as it is about rules.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The rules of all files.
    pub(crate) documents: Vec<PolicyDocument>,
    /// The faults of all files.
    pub(crate) problems: Problems,
    /// The files that were read.
    pub(crate) files: Vec<PathBuf>,
    /// How many documents are about something else.
    pub(crate) others: usize,
}

/// Reads the rules of `paths`: files, and folders of files that end in `.yaml` or `.yml`. Documents of other kinds are
/// counted and passed over.
///
/// # Errors
/// When a file cannot be read. Faults in what they say are no error: see [`Rules::problems`].
pub(crate) fn read(paths: &[PathBuf]) -> Result<Rules, Failure> {
    let mut rules = Rules::default();
    for path in paths {
        for file in files(path).map_err(Failure::could_not(format!("read {}", path.display())))? {
            let text = fs::read(&file).map_err(Failure::could_not(format!("read {}", file.display())))?;
            rules.add(&file, &text);
        }
    }
    Ok(rules)
}

impl Rules {
    fn add(&mut self, file: &Path, text: &[u8]) {
        match Document::parse(&file.display().to_string(), text, Limits::default()) {
            Ok(documents) => {
                for document in documents {
                    if !PolicyDocument::is_policy(&document) && document.peek("kind").is_some_and(is_other) {
                        self.others += 1;
                        continue;
                    }
                    match PolicyDocument::read(&document) {
                        Ok(policy) => self.documents.push(policy),
                        Err(problems) => self.problems.append(problems),
                    }
                }
            }
            Err(problems) => self.problems.append(problems),
        }
        self.files.push(file.to_owned());
    }
}

/// Kinds that may stand beside rules. Any other word is more likely a rule's, misspelt.
fn is_other(kind: &str) -> bool {
    ["Mesh", "Workload", "Service"].contains(&kind)
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
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
