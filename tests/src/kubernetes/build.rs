//! Finds Ferrule's own programs and images for the cluster, built once for a test program.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::cluster::variable;
use crate::programs;

/// The path of a program of ours, built as the tests are.
pub fn program(name: &str) -> PathBuf {
    folder().join(name)
}

/// What the names of Ferrule's images begin with: `FERRULE_TEST_IMAGES`, or what the nodes of the tests' own have.
pub fn prefix() -> String {
    variable("FERRULE_TEST_IMAGES").unwrap_or_else(|| "localhost".to_owned())
}

/// Where the programs lie: in the folder that `FERRULE_TEST_PROGRAMS` names, or where they are built now.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = variable("FERRULE_TEST_PROGRAMS") {
            return folder.into();
        }
        let mut arguments = vec!["--bins"];
        arguments.extend(PACKAGES.iter().flat_map(|package| ["--package", package]));
        programs::build(&arguments)
    })
}

const PACKAGES: [&str; 6] = [
    "ferrule-proxy",
    "ferrule-ca",
    "ferrule-directory",
    "ferrule-injector",
    "ferrule-cli",
    "ferrule-tests",
];
