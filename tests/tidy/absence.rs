//! What some crates must not contain.

use crate::manifests::{Kind, read};
use crate::tree::{Fault, Tree};

/// Faults: a file, socket, clock, task, thread or environment variable in a crate that only decides. Tests may
/// use them.
pub(crate) fn quiet_crates(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for manifest in read(tree)
        .iter()
        .filter(|manifest| QUIET.contains(&manifest.folder.as_str()))
    {
        for dependency in manifest
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == Kind::Normal)
        {
            if LOUD_CRATES.contains(&dependency.name.as_str()) {
                faults.push(manifest.fault(format!(
                    "{} decides only: no {}",
                    manifest.folder, dependency.name
                )));
            }
        }
    }
    for file in tree.ending(".rs") {
        let room = QUIET
            .iter()
            .find(|name| file.path.starts_with(&format!("{name}/src/")));
        let Some(room) = room.filter(|_| !is_test(&file.path)) else {
            continue;
        };
        for (number, line) in file.lines() {
            if line.trim_start().starts_with("#[cfg(test)]") {
                break;
            }
            let code = !line.trim_start().starts_with("//");
            if let Some(word) = LOUD_WORDS.iter().find(|word| code && line.contains(*word)) {
                faults.push(file.fault(number, format!("{room} decides only: no {word}")));
            }
        }
    }
    faults
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

const QUIET: [&str; 3] = ["document", "identity", "policy"];

const LOUD_CRATES: [&str; 9] = [
    "hyper",
    "hyper-util",
    "mio",
    "rusqlite",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-rustls",
    "tokio-util",
];

const LOUD_WORDS: [&str; 12] = [
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "SystemTime::now",
    "Instant::now",
    "UnixTime::now",
    "now_utc",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(manifest: &str, path: &str, text: &str) -> usize {
        let manifest = format!("[package]\nname = 'ferrule-identity'\n{manifest}");
        let root = "[workspace]\nmembers = ['identity']";
        quiet_crates(&Tree::of(&[
            ("Cargo.toml", root),
            ("identity/Cargo.toml", &manifest),
            (path, text),
        ]))
        .len()
    }

    #[test]
    fn a_clock_or_a_file_in_a_crate_that_decides_is_a_fault() {
        for text in [
            "let now = SystemTime::now();",
            "use std::fs;",
            "    std::env::var(name)",
        ] {
            assert_eq!(faults("", "identity/src/verify.rs", text), 1, "{text}");
            assert_eq!(faults("", "daemon/src/clock.rs", text), 0, "{text}");
            assert_eq!(faults("", "identity/src/verify/tests.rs", text), 0, "{text}");
            assert_eq!(
                faults("", "identity/src/verify.rs", &format!("#[cfg(test)]\n{text}")),
                0,
                "{text}"
            );
            assert_eq!(
                faults("", "identity/src/verify.rs", &format!("// {text}")),
                0,
                "{text}"
            );
        }
    }

    #[test]
    fn a_runtime_below_a_crate_that_decides_is_a_fault() {
        assert_eq!(faults("[dependencies]\ntokio.workspace = true", "x.rs", ""), 1);
        assert_eq!(
            faults("[dev-dependencies]\ntokio.workspace = true", "x.rs", ""),
            0
        );
    }
}
