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
    /// What was told last; none when nothing has been told since the last fault.
    seen: Option<u64>,
    /// What was read at the last look.
    last: Option<u64>,
    /// Whether anything was ever told.
    has_told: bool,
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
            last: None,
            has_told: false,
            problem: None,
        }
    }

    /// What is watched.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Reads everything, in the order of names; `None` when all is as it was.
    ///
    /// A change counts once two looks in a row find the same: a file that is being written, or renamed beside
    /// others, is not taken for what it will be. The very first look counts at once.
    ///
    /// # Errors
    /// When something cannot be read, or a file is empty, as one is whose writing failed; the same fault is reported
    /// once, and then is no news.
    pub fn look(&mut self) -> Option<Result<Vec<Text>, FolderError>> {
        match self.read() {
            Ok(texts) => {
                self.problem = None;
                let mut hasher = DefaultHasher::new();
                texts.hash(&mut hasher);
                let print = hasher.finish();
                let is_settled = self.last.replace(print) == Some(print) || !self.has_told;
                if self.seen == Some(print) || !is_settled {
                    return None;
                }
                self.seen = Some(print);
                self.has_told = true;
                Some(Ok(texts))
            }
            Err(error) => {
                // Forgotten, so that everything is read again when it is back.
                (self.seen, self.last) = (None, None);
                let text = crate::logging::Chain(&error).to_string();
                let is_news = self.problem.as_ref() != Some(&text);
                self.problem = Some(text);
                is_news.then_some(Err(error))
            }
        }
    }

    /// How long to wait before the next look: less while a change waits to be found the same once more.
    pub fn next_look(&self) -> Duration {
        if self.last == self.seen {
            LOOK_AGAIN
        } else {
            SETTLED_AFTER
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
        Ok(0) => Err(FolderError::Empty { path }),
        Ok(_) => Ok((path.display().to_string(), bytes)),
        Err(source) => Err(FolderError::Read { path, source }),
    }
}

/// How often documents are looked at. Reading is the only way that sees every kind of change: a watch misses a
/// mounted volume that is swapped as a whole.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// For how long a change has to stay the same before it counts.
pub const SETTLED_AFTER: Duration = Duration::from_millis(250);

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
    /// A file of no bytes: nobody wrote that on purpose.
    #[error("{path} is empty; a file that is to say nothing has a comment in it", path = path.display())]
    Empty {
        /// Which.
        path: PathBuf,
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
        assert!(folder.look().is_none(), "they may be half written");
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
        assert!(folder.look().is_none(), "it may be half there");
        assert_eq!(folder.look().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn what_changes_from_look_to_look_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.yaml");
        fs::write(&path, "first").unwrap();
        let mut folder = Folder::new(vec![home.path().to_owned()]);
        folder.look().unwrap().unwrap();
        for length in 1..6 {
            fs::write(&path, &"second"[..length]).unwrap();
            assert!(folder.look().is_none());
        }
        fs::write(&path, "second").unwrap();
        assert!(folder.look().is_none());
        assert_eq!(folder.look().unwrap().unwrap()[0].1, b"second");
    }

    #[test]
    fn an_empty_file_is_a_fault() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("a.yaml"), "").unwrap();
        let mut folder = Folder::new(vec![home.path().to_owned()]);
        assert!(matches!(folder.look(), Some(Err(FolderError::Empty { .. }))));
        assert!(folder.look().is_none());
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
