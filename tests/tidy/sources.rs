//! What a source file may look like.

use crate::tree::{Fault, File, Tree};

/// Faults: a source file that is too long to be one room.
pub(crate) fn short(tree: &Tree) -> Vec<Fault> {
    tree.ending(".rs")
        .filter_map(|file| {
            let count = file.text.lines().count();
            (count > MOST_LINES)
                .then(|| file.fault(count, format!("{count} lines; {MOST_LINES} is the most")))
        })
        .collect()
}

/// Faults: a source file whose first line does not say what lives there.
pub(crate) fn introduced(tree: &Tree) -> Vec<Fault> {
    tree.ending(".rs")
        .filter(|file| {
            let first = file.text.lines().next().unwrap_or_default();
            first
                .strip_prefix("//! ")
                .is_none_or(|what| what.trim().is_empty())
        })
        .map(|file| file.fault(1, "the first line is to be `//!` with what lives here"))
        .collect()
}

/// Faults: a mark of unfinished work without a link to where the rest of the work is planned.
pub(crate) fn finished(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.files.iter().filter(|file| is_code(file)) {
        for (number, line) in file.lines() {
            let marked = MARKS.iter().find(|mark| contains_word(line, mark));
            if let Some(mark) = marked
                && !line.contains("/issues/")
            {
                faults.push(file.fault(number, format!("{mark} without a link to its issue")));
            }
        }
    }
    faults
}

/// Faults: a test that is ignored without a reason that ends in the command that runs it.
pub(crate) fn ignored_for_a_reason(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.ending(".rs") {
        for (number, line) in file.lines() {
            let line = line.trim();
            let conditional = line.starts_with("#[cfg_attr") && line.contains(", ignore");
            let told = line.contains("ignore = \"") && line.contains(": tests/run\"");
            if (line.starts_with("#[ignore") || conditional) && !told {
                faults.push(file.fault(number, "write it as #[ignore = \"needs …: tests/run\"]"));
            }
        }
    }
    faults
}

/// Faults: an absolute path of somebody's machine.
pub(crate) fn no_machine_paths(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in &tree.files {
        for (number, line) in file.lines() {
            for folder in MACHINE_FOLDERS {
                let path = format!("/{folder}/");
                if line.match_indices(&path).any(|(at, _)| begins_a_path(line, at)) {
                    faults.push(file.fault(number, format!("a path of a machine: {path}…")));
                }
            }
        }
    }
    faults
}

fn is_code(file: &File) -> bool {
    let prose = [".md", ".lock", "LICENSE"];
    !prose.iter().any(|end| file.path.ends_with(end))
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part_of_a_word = |near: Option<char>| near.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part_of_a_word(before) && !part_of_a_word(after)
    })
}

/// Whether the slash at `at` is the first of its path: `a/home/b` and `$DIR/home/b` go on with one.
fn begins_a_path(line: &str, at: usize) -> bool {
    let before = line[..at].chars().next_back();
    before.is_none_or(|c| !(c.is_alphanumeric() || "._-~})]*".contains(c)))
}

const MOST_LINES: usize = 500;

// Taken apart, so that this file keeps its own rules.
const MARKS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

const MACHINE_FOLDERS: [&str; 5] = ["home", "root", "Users", "work", "tmp"];

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Tree {
        Tree::of(&[("ca/src/room.rs", text)])
    }

    #[test]
    fn the_line_after_the_last_allowed_one_is_a_fault() {
        assert!(short(&source(&"x\n".repeat(MOST_LINES))).is_empty());
        assert_eq!(short(&source(&"x\n".repeat(MOST_LINES + 1))).len(), 1);
    }

    #[test]
    fn a_file_that_begins_with_anything_else_is_a_fault() {
        for text in [
            "",
            "use std::fmt;\n",
            "//!\n",
            "//! \n",
            "\n//! Late.\n",
            "/// An item.\n",
        ] {
            assert_eq!(introduced(&source(text)).len(), 1, "{text:?}");
        }
        assert!(introduced(&source("//! Holds rooms.\n")).is_empty());
    }

    #[test]
    fn a_mark_needs_a_link() {
        for mark in MARKS {
            let found = finished(&source(&format!("//! A room.\n// {mark}(later)\n")));
            assert_eq!(found.len(), 1, "{mark}");
            assert_eq!(found[0].line, 2);
            let linked = format!("// {mark}: https://example.org/issues/7\n");
            assert!(finished(&source(&linked)).is_empty(), "{mark}");
            let longer = format!("let s{mark}s = 1;\n");
            assert!(finished(&source(&longer)).is_empty(), "{mark}");
        }
        let script = Tree::of(&[("tests/run", concat!("# TO", "DO\n"))]);
        assert_eq!(finished(&script).len(), 1);
    }

    #[test]
    fn a_skipped_test_names_what_runs_it() {
        for text in [
            concat!("#[ig", "nore]"),
            concat!("    #[ig", "nore = \"slow\"]"),
            concat!("#[ig", "nore = \"needs nft\"]"),
            concat!("#[cfg_attr(not(unix), ig", "nore)]"),
        ] {
            assert_eq!(ignored_for_a_reason(&source(text)).len(), 1, "{text}");
        }
        let told = concat!("#[ig", "nore = \"needs nft: tests/run\"]");
        assert!(ignored_for_a_reason(&source(told)).is_empty());
    }

    #[test]
    fn a_path_of_a_machine_is_a_fault_in_any_file() {
        for folder in MACHINE_FOLDERS {
            for line in [
                format!("/{folder}/ann/x"),
                format!("see `/{folder}/x`"),
                format!("\"/{folder}/x\""),
            ] {
                let tree = Tree::of(&[("docs/page.md", line.as_str())]);
                assert_eq!(no_machine_paths(&tree).len(), 1, "{line}");
            }
            for line in [
                format!("a/{folder}/x"),
                format!("${{HOME}}/{folder}/x"),
                format!("/{folder}"),
            ] {
                let tree = Tree::of(&[("docs/page.md", line.as_str())]);
                assert!(no_machine_paths(&tree).is_empty(), "{line}");
            }
        }
    }
}
