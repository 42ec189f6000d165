//! Holds the tests that the threat model names to the tests that there are.

use std::collections::HashSet;

use crate::tree::{Fault, Tree};

const PAGE: &str = "docs/threat-model.md";

/// Every test that the page names is a function of that name somewhere in the tree.
pub(crate) fn named_tests_exist(tree: &Tree) -> Vec<Fault> {
    let Some(page) = tree.file(PAGE) else {
        return Vec::new();
    };
    let sources = tree.files.iter().filter(|file| file.path.ends_with(".rs"));
    let functions: HashSet<&str> = sources.flat_map(|file| functions(&file.text)).collect();
    let mut faults = Vec::new();
    for (number, line) in page.text.lines().enumerate() {
        let Some(names) = tests_of(line) else { continue };
        for name in names.filter(|name| !functions.contains(name)) {
            faults.push(Fault {
                path: PAGE.to_owned(),
                line: number + 1,
                what: format!("names a test {name} that there is not"),
            });
        }
    }
    faults
}

/// The names in the last column of a row that begins with the number of a case, such as `| B1 | … | `a`, `b` |`.
fn tests_of(line: &str) -> Option<impl Iterator<Item = &str>> {
    let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
    let number = cells.next()?;
    let (letter, digits) = number.split_at_checked(1)?;
    let is_case = letter.chars().all(|c| c.is_ascii_uppercase())
        && !digits.is_empty()
        && digits.chars().all(|c| c.is_ascii_digit());
    let last = cells.last().filter(|_| is_case)?;
    Some(last.split('`').skip(1).step_by(2))
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ")
        .skip(1)
        .filter_map(|rest| rest.split_once('(').map(|(name, _)| name))
}

#[test]
fn a_test_that_is_gone_is_missed() {
    let page = "| | what | tests |\n| B1 | x | `there`, `gone` |\n| Someone | can | `not a test` |\n";
    let tree = Tree::of(&[(PAGE, page), ("a.rs", "#[test]\nfn there() {}\n")]);
    let faults = named_tests_exist(&tree);
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].line, faults[0].what.contains("gone")), (2, true));
}
