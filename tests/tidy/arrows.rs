//! Which crate may depend on which: arrows point down only.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifests::{Kind, Manifest, read};
use crate::tree::{Fault, Tree};

/// The floors, lowest first: each crate beside what it may name. Programs never name each other; `cli` alone
/// may use their libraries, to run them in one process.
const FLOORS: [(&str, &[&str]); 18] = [
    ("document", &[]),
    ("identity", &[]),
    ("policy", &["document", "identity"]),
    ("manifests", &["document", "identity"]),
    ("wire", &["document", "identity", "policy"]),
    ("daemon", &["document"]),
    ("credentials", &["document", "identity", "wire", "daemon"]),
    ("proxy", LIBRARIES),
    ("ca", LIBRARIES),
    ("directory", LIBRARIES),
    ("injector", LIBRARIES_AND_MANIFESTS),
    ("shop", &[]),
    ("load", &["daemon"]),
    ("cli", ALL_BUT_PROOF),
    ("tests", ALL_BUT_PROOF),
    ("measure", LIBRARIES_AND_LOAD),
    ("benches", ALL_AND_TOOLS),
    ("cluster-benches", ALL_AND_TOOLS),
];

const LIBRARIES: &[&str] = &["document", "identity", "policy", "wire", "daemon", "credentials"];

const LIBRARIES_AND_MANIFESTS: &[&str] = &[
    "document",
    "identity",
    "policy",
    "wire",
    "daemon",
    "credentials",
    "manifests",
];

const LIBRARIES_AND_LOAD: &[&str] = &[
    "document",
    "identity",
    "policy",
    "wire",
    "daemon",
    "credentials",
    "load",
];

const ALL_BUT_PROOF: &[&str] = &[
    "document",
    "identity",
    "policy",
    "wire",
    "daemon",
    "credentials",
    "proxy",
    "ca",
    "directory",
    "manifests",
    "injector",
    "shop",
    "load",
    "cli",
];

const ALL_AND_TOOLS: &[&str] = &[
    "document",
    "identity",
    "policy",
    "wire",
    "daemon",
    "credentials",
    "proxy",
    "ca",
    "directory",
    "manifests",
    "injector",
    "shop",
    "load",
    "cli",
    "tests",
    "measure",
];

/// Faults: a crate without a floor, and an arrow that does not point down. What only tests link may point down
/// too, or at the shared test tools where these do not link the crate themselves.
pub(crate) fn point_down(tree: &Tree) -> Vec<Fault> {
    let manifests = read(tree);
    let linked_by_tools = linked_by(&manifests, TOOLS);
    let mut faults = Vec::new();
    for manifest in &manifests {
        let Some(crate_name) = manifest.name.strip_prefix(OURS) else {
            faults.push(manifest.fault(format!("the package is to be named {OURS}{}", manifest.folder)));
            continue;
        };
        let Some((_, below)) = FLOORS.iter().find(|(name, _)| *name == crate_name) else {
            faults.push(manifest.fault("this crate has no floor: give it one in tests/tidy/arrows.rs"));
            continue;
        };
        for dependency in &manifest.dependencies {
            let Some(target) = dependency.name.strip_prefix(OURS) else {
                continue;
            };
            let down = below.contains(&target);
            let tools =
                target == TOOLS && dependency.kind == Kind::Dev && !linked_by_tools.contains(crate_name);
            if !down && !tools {
                faults.push(manifest.fault(format!("{crate_name} may not depend on {target}")));
            }
        }
    }
    faults
}

/// Everything of ours that ends up in a program that links `start`.
fn linked_by(manifests: &[Manifest], start: &str) -> BTreeSet<String> {
    let arrows: BTreeMap<&str, Vec<&str>> = manifests
        .iter()
        .filter_map(|manifest| {
            let targets = manifest
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != Kind::Dev)
                .filter_map(|dependency| dependency.name.strip_prefix(OURS))
                .collect();
            Some((manifest.name.strip_prefix(OURS)?, targets))
        })
        .collect();
    let mut linked = BTreeSet::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        for target in arrows.get(name).into_iter().flatten() {
            if linked.insert((*target).to_owned()) {
                open.push(target);
            }
        }
    }
    linked
}

const OURS: &str = "ferrule-";
const TOOLS: &str = "tests";

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace]\nmembers = ['identity', 'daemon', 'tests']";

    fn faults(identity: &str, daemon: &str, tests: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("Cargo.toml", ROOT),
            (
                "identity/Cargo.toml",
                &format!("[package]\nname = 'ferrule-identity'\n{identity}"),
            ),
            (
                "daemon/Cargo.toml",
                &format!("[package]\nname = 'ferrule-daemon'\n{daemon}"),
            ),
            (
                "tests/Cargo.toml",
                &format!("[package]\nname = 'ferrule-tests'\n{tests}"),
            ),
        ]);
        point_down(&tree).into_iter().map(|fault| fault.what).collect()
    }

    #[test]
    fn an_arrow_up_or_sideways_is_a_fault_of_every_kind_of_dependency() {
        for kind in [
            "dependencies",
            "build-dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let upward = format!("[{kind}]\nferrule-daemon.workspace = true");
            assert_eq!(
                faults(&upward, "", ""),
                ["identity may not depend on daemon"],
                "{kind}"
            );
        }
    }

    #[test]
    fn a_renamed_dependency_does_not_hide_an_arrow() {
        let renamed = "[dependencies]\nother = { package = 'ferrule-daemon', path = '../daemon' }";
        assert_eq!(faults(renamed, "", ""), ["identity may not depend on daemon"]);
    }

    #[test]
    fn test_tools_are_for_tests_that_they_do_not_link() {
        let tool = "[dev-dependencies]\nferrule-tests.workspace = true";
        assert!(faults(tool, "", "").is_empty());
        let links = "[dependencies]\nferrule-identity.workspace = true";
        assert_eq!(faults(tool, "", links), ["identity may not depend on tests"]);
        let linked = "[dependencies]\nferrule-tests.workspace = true";
        assert_eq!(faults("", linked, ""), ["daemon may not depend on tests"]);
    }

    #[test]
    fn a_crate_that_nobody_placed_is_a_fault() {
        let tree = Tree::of(&[
            ("Cargo.toml", "[workspace]\nmembers = ['attic', 'cellar']"),
            ("attic/Cargo.toml", "[package]\nname = 'ferrule-attic'"),
            ("cellar/Cargo.toml", "[package]\nname = 'cellar'"),
        ]);
        assert_eq!(point_down(&tree).len(), 2);
    }
}
