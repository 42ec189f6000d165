//! Watches files and folders of YAML documents.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrule_document::Limits;

/// Files, and folders of files, that change now and then.
#[derive(Debug)]
pub struct Folder {
    paths: Vec<PathBuf>,
    seen: Option<u64>,
    problem: Option<String>,
}

/// A file's name as people know it, and what it holds.
pub type Text = (String, Vec<u8>);

impl Folder {
    /// Each of `paths` is a file, or a folder of which the files count that end in `.yaml` or `.yml`.
    pub const fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            seen: None,
            problem: None,
        }
    }

    /// What is watched.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Reads everything, in the order of names; `None` when all is as it was at the last look.
    ///
    /// # Errors
    /// When something cannot be read; the same fault is reported once, and then is no news.
    pub fn look(&mut self) -> Option<Result<Vec<Text>, FolderError>> {
        match self.read() {
            Ok(texts) => {
                self.problem = None;
                let mut hasher = DefaultHasher::new();
                texts.hash(&mut hasher);
                let print = hasher.finish();
                let is_news = self.seen != Some(print);
                self.seen = Some(print);
                is_news.then_some(Ok(texts))
            }
            Err(error) => {
                // Forgotten, so that everything is read again when it is back.
                self.seen = None;
                let text = crate::logging::Chain(&error).to_string();
                let is_news = self.problem.as_ref() != Some(&text);
                self.problem = Some(text);
                is_news.then_some(Err(error))
            }
        }
    }

    fn read(&self) -> Result<Vec<Text>, FolderError> {
        let mut files = Vec::new();
        for path in &self.paths {
            let failed = |source| FolderError::Read {
                path: path.clone(),
                source,
            };
            if fs::metadata(path).map_err(failed)?.is_dir() {
                files.extend(files_in(path)?);
            } else {
                files.push(path.clone());
            }
        }
        if files.len() > MAX_FILES {
            return Err(FolderError::TooMany { count: files.len() });
        }
        files.into_iter().map(read).collect()
    }
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let failed = |source| FolderError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        // Hidden names are the temporary files of editors, and the links by which Kubernetes swaps a volume.
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if matches!(extension, Some("yaml" | "yml")) && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: PathBuf) -> Result<Text, FolderError> {
    // One byte more than is allowed, so that parsing sees and refuses what is too long.
    let most = u64::try_from(Limits::default().bytes)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    let done = fs::File::open(&path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    match done {
        Ok(_) => Ok((path.display().to_string(), bytes)),
        Err(source) => Err(FolderError::Read { path, source }),
    }
}

/// How often documents are looked at. Reading is the only way that sees every kind of change: a watch misses a
/// mounted volume that is swapped as a whole.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// More files than anybody writes by hand.
const MAX_FILES: usize = 10_000;

/// Why documents are not read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A folder or a file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody wrote these by hand.
    #[error("there are {count} files, more than {MAX_FILES}")]
    TooMany {
        /// How many.
        count: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_news() {
        let home = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(vec![home.path().to_owned()]);
        assert_eq!(folder.look().unwrap().unwrap(), []);
        assert!(folder.look().is_none());
        for (name, text) in [("b.yaml", "b"), ("a.yml", "a"), (".c.yaml", "c"), ("d.txt", "d")] {
            fs::write(home.path().join(name), text).unwrap();
        }
        let texts = folder.look().unwrap().unwrap();
        let held: Vec<&[u8]> = texts.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        assert_eq!(held, [b"a", b"b"]);
        assert!(folder.look().is_none());
    }

    #[test]
    fn a_folder_that_goes_away_and_comes_back_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        let (here, there) = (home.path().join("here"), home.path().join("there"));
        fs::create_dir(&here).unwrap();
        fs::write(here.join("a.yaml"), "a").unwrap();
        let mut folder = Folder::new(vec![here.clone()]);
        folder.look().unwrap().unwrap();
        fs::rename(&here, &there).unwrap();
        assert!(matches!(folder.look(), Some(Err(FolderError::Read { .. }))));
        assert!(folder.look().is_none(), "the same fault is told once");
        fs::rename(&there, &here).unwrap();
        assert_eq!(folder.look().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn files_may_be_named_beside_folders() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("mesh.yaml");
        fs::write(&file, "m").unwrap();
        let rules = home.path().join("policies");
        fs::create_dir(&rules).unwrap();
        fs::write(rules.join("a.yaml"), "a").unwrap();
        let mut folder = Folder::new(vec![file, rules]);
        assert_eq!(folder.look().unwrap().unwrap().len(), 2);
    }
}
