//! Whether the pages hang together.

use crate::tree::{Fault, File, Tree};

/// Faults: a decision that is not numbered in turn, not listed, or lacks one of its parts.
pub(crate) fn decisions(tree: &Tree) -> Vec<Fault> {
    let list = tree.file(LIST).map_or("", |file| file.text.as_str());
    let mut faults = Vec::new();
    let pages = tree
        .ending(".md")
        .filter(|file| file.path.starts_with(DECISIONS) && file.path != LIST);
    for (count, page) in pages.enumerate() {
        let name = page.path.trim_start_matches(DECISIONS);
        let number = format!("{:04}-", count + 1);
        if !name.starts_with(&number) {
            faults.push(page.fault(0, format!("the next number is {number}")));
        }
        if !list.contains(&format!("({name})")) {
            faults.push(page.fault(0, format!("not listed in {LIST}")));
        }
        for part in [
            "# ",
            "## Context",
            "## Decision",
            "## Rejected",
            "## Consequences",
        ] {
            if !page
                .text
                .lines()
                .any(|line| line == part || (part == "# " && line.starts_with(part)))
            {
                faults.push(page.fault(0, format!("no line `{part}`")));
            }
        }
    }
    faults
}

/// Faults: a link to a file that is not there.
pub(crate) fn links(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for page in tree.ending(".md") {
        for (number, line) in page.lines() {
            for (at, _) in line.match_indices("](") {
                let Some((target, _)) = line[at + 2..].split_once(')') else {
                    continue;
                };
                let file = target.split('#').next().unwrap_or_default();
                let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
                if !elsewhere && !tree.has(&resolved(page, file)) {
                    faults.push(page.fault(number, format!("nothing is at {target}")));
                }
            }
        }
    }
    faults
}

/// The path from the root of what `page` calls `target`.
fn resolved(page: &File, target: &str) -> String {
    let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

const DECISIONS: &str = "docs/decisions/";
const LIST: &str = "docs/decisions/README.md";

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "# One\n## Context\n## Decision\n## Rejected\n## Consequences\n";

    fn told(faults: &[Fault]) -> Vec<&str> {
        faults.iter().map(|fault| fault.what.as_str()).collect()
    }

    #[test]
    fn a_decision_out_of_turn_unlisted_or_in_part_is_a_fault() {
        let page = |path, text| Tree::of(&[(LIST, "[One](0001-one.md)"), (path, text)]);
        assert!(decisions(&page("docs/decisions/0001-one.md", WHOLE)).is_empty());
        let late = decisions(&page("docs/decisions/0002-one.md", WHOLE));
        assert_eq!(
            told(&late),
            [
                "the next number is 0001-",
                "not listed in docs/decisions/README.md"
            ]
        );
        let part = decisions(&page(
            "docs/decisions/0001-one.md",
            "# One\n## Context\n## Decision\n## Rejected\n",
        ));
        assert_eq!(told(&part), ["no line `## Consequences`"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_fault() {
        let text = "[a](../README.md) [b](gone.md#part) [c](https://example.org/x) [d](#here) [e](decisions)";
        let tree = Tree::of(&[("docs/page.md", text), ("README.md", ""), (LIST, "")]);
        assert_eq!(told(&links(&tree)), ["nothing is at gone.md#part"]);
    }
}
