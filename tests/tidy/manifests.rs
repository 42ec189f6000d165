//! What each crate's manifest may say for itself.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::tree::{Fault, Tree};

/// A member of the workspace.
pub(crate) struct Manifest {
    pub(crate) folder: String,
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
    table: Table,
}

/// One line of a dependency table.
pub(crate) struct Dependency {
    /// The package, also where the line gives it another name.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    inherited: bool,
}

/// Which table a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

impl Manifest {
    pub(crate) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault {
            path: format!("{}/Cargo.toml", self.folder),
            line: 0,
            what: what.into(),
        }
    }

    /// The names that its `[[bin]]` tables give.
    pub(crate) fn programs(&self) -> impl Iterator<Item = String> {
        let tables = self
            .table
            .get("bin")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        tables.filter_map(|bin| Some(bin.get("name")?.as_str()?.to_owned()))
    }

    fn inherits(&self, table: &str, key: &str) -> bool {
        let value = self.table.get(table).and_then(|table| table.get(key));
        value.and_then(|value| value.get("workspace")) == Some(&Value::Boolean(true))
    }
}

/// The members of the workspace that the root names.
pub(crate) fn read(tree: &Tree) -> Vec<Manifest> {
    let root = table(tree, "Cargo.toml");
    let members = root
        .get("workspace")
        .and_then(|workspace| workspace.get("members"));
    let members = members
        .and_then(Value::as_array)
        .expect("the root names its members");
    members
        .iter()
        .map(|member| {
            let folder = member.as_str().expect("a member is a folder").to_owned();
            let table = table(tree, &format!("{folder}/Cargo.toml"));
            let name = table.get("package").and_then(|package| package.get("name"));
            Manifest {
                name: name
                    .and_then(Value::as_str)
                    .expect("a package has a name")
                    .to_owned(),
                dependencies: dependencies(&table),
                folder,
                table,
            }
        })
        .collect()
}

/// Faults: a dependency that a crate gives a version, a path or a source of its own; one at the workspace that no
/// crate uses.
pub(crate) fn inherit_dependencies(tree: &Tree) -> Vec<Fault> {
    let manifests = read(tree);
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for manifest in &manifests {
        for dependency in &manifest.dependencies {
            used.insert(dependency.name.as_str());
            if !dependency.inherited {
                faults.push(manifest.fault(format!("{} is to be `workspace = true`", dependency.name)));
            }
        }
    }
    for (name, dependency) in shared(tree) {
        let is_ours = dependency.get("path").is_some();
        if !is_ours && !used.contains(package(&name, &dependency)) {
            faults.push(Fault {
                path: "Cargo.toml".to_owned(),
                line: 0,
                what: format!("no crate uses {name}"),
            });
        }
    }
    faults
}

/// Faults: a crate that sets its own lints, version, edition, toolchain or licence, or does not say what it is.
pub(crate) fn inherit_lints_and_package(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for manifest in read(tree) {
        if manifest
            .table
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            != Some(&Value::Boolean(true))
        {
            faults.push(manifest.fault("`[lints] workspace = true` is missing"));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !manifest.inherits("package", key) {
                faults.push(manifest.fault(format!("`{key}.workspace = true` is missing")));
            }
        }
        let package = manifest.table.get("package");
        let description = package
            .and_then(|package| package.get("description"))
            .and_then(Value::as_str);
        if description.is_none_or(str::is_empty) {
            faults.push(manifest.fault("`description` is missing"));
        }
    }
    faults
}

/// Older versions that a dependency keeps to itself, with whose they are.
const INSIDE_OTHERS: [(&str, &str, &str); 2] = [
    (
        "base64",
        "0.22.",
        "k8s-openapi's; none of its types is in what it offers",
    ),
    (
        "foldhash",
        "0.1.",
        "petgraph's, which only orders what prost-build generates",
    ),
];

/// Faults: a dependency of ours that the lock file holds in several versions, as then two of its types have one
/// name.
pub(crate) fn one_version(tree: &Tree) -> Vec<Fault> {
    let lock = table(tree, "Cargo.lock");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for locked in lock
        .get("package")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |key| locked.get(key).and_then(Value::as_str).unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        let inside = |(of, old, _): &&(&str, &str, &str)| *of == name && version.starts_with(old);
        if INSIDE_OTHERS.iter().find(inside).is_none() {
            versions.entry(name).or_default().push(version);
        }
    }
    let mut faults = Vec::new();
    for (name, dependency) in shared(tree) {
        let name = package(&name, &dependency);
        if let Some(several) = versions.get(name).filter(|found| found.len() > 1) {
            faults.push(Fault {
                path: "Cargo.lock".to_owned(),
                line: 0,
                what: format!("{name} is there as {}", several.join(" and ")),
            });
        }
    }
    faults
}

fn shared(tree: &Tree) -> Table {
    let root = table(tree, "Cargo.toml");
    let shared = root
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    shared.and_then(Value::as_table).cloned().unwrap_or_default()
}

fn table(tree: &Tree, path: &str) -> Table {
    let file = tree.file(path).unwrap_or_else(|| panic!("{path} is missing"));
    file.text
        .parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn dependencies(manifest: &Table) -> Vec<Dependency> {
    let mut found = Vec::new();
    collect(manifest, &mut found);
    for target in manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flatten()
    {
        collect(target.1.as_table().expect("a target is a table"), &mut found);
    }
    found
}

fn collect(holder: &Table, found: &mut Vec<Dependency>) {
    let kinds = [
        ("dependencies", Kind::Normal),
        ("build-dependencies", Kind::Build),
        ("dev-dependencies", Kind::Dev),
    ];
    for (key, kind) in kinds {
        for (name, value) in holder.get(key).and_then(Value::as_table).into_iter().flatten() {
            found.push(Dependency {
                name: package(name, value).to_owned(),
                kind,
                inherited: value.get("workspace") == Some(&Value::Boolean(true)),
            });
        }
    }
}

fn package<'a>(name: &'a str, dependency: &'a Value) -> &'a str {
    dependency.get("package").and_then(Value::as_str).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(root: &str, member: &str, lock: &str) -> Tree {
        let root = format!("[workspace]\nmembers = ['identity']\n{root}");
        let member = format!("[package]\nname = 'ferrule-identity'\n{member}");
        Tree::of(&[
            ("Cargo.toml", &root),
            ("identity/Cargo.toml", &member),
            ("Cargo.lock", lock),
        ])
    }

    fn told(faults: &[Fault]) -> Vec<&str> {
        faults.iter().map(|fault| fault.what.as_str()).collect()
    }

    #[test]
    fn a_version_of_ones_own_is_a_fault() {
        let root = "[workspace.dependencies]\ntime = '0.3'";
        for own in [
            "time = '0.3'",
            "time = { path = '../time' }",
            "time = { workspace = false, version = '1' }",
        ] {
            let faults = inherit_dependencies(&tree(root, &format!("[dependencies]\n{own}"), ""));
            assert_eq!(told(&faults), ["time is to be `workspace = true`"], "{own}");
        }
        let shared = inherit_dependencies(&tree(root, "[build-dependencies]\ntime.workspace = true", ""));
        assert!(shared.is_empty(), "{shared:?}");
    }

    #[test]
    fn a_dependency_that_nobody_uses_is_a_fault() {
        let faults = inherit_dependencies(&tree("[workspace.dependencies]\ntime = '0.3'", "", ""));
        assert_eq!(told(&faults), ["no crate uses time"]);
    }

    #[test]
    fn a_crate_with_lints_of_its_own_is_a_fault() {
        let rest = "version.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
                    license.workspace = true\npublish.workspace = true\ndescription = 'Who is who'";
        let own = inherit_lints_and_package(&tree(
            "",
            &format!("{rest}\n[lints.rust]\nunsafe_code = 'allow'"),
            "",
        ));
        assert_eq!(told(&own), ["`[lints] workspace = true` is missing"]);
        let whole = inherit_lints_and_package(&tree("", &format!("{rest}\n[lints]\nworkspace = true"), ""));
        assert!(whole.is_empty(), "{whole:?}");
        let bare = inherit_lints_and_package(&tree("", "version = '9'\n[lints]\nworkspace = true", ""));
        assert_eq!(bare.len(), 6, "{bare:?}");
    }

    #[test]
    fn two_versions_of_a_dependency_are_a_fault() {
        let lock = "[[package]]\nname = 'time'\nversion = '0.1.0'\n[[package]]\nname = 'time'\nversion = '0.3.0'\n\
                    [[package]]\nname = 'far'\nversion = '1.0.0'\n[[package]]\nname = 'far'\nversion = '2.0.0'";
        let faults = one_version(&tree("[workspace.dependencies]\ntime = '0.3'", "", lock));
        assert_eq!(told(&faults), ["time is there as 0.1.0 and 0.3.0"]);
    }
}
