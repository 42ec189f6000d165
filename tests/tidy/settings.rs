//! Whether every setting is in the operator's page, with its default.

use crate::tree::{Fault, File, Tree};

/// Faults: a field that a program's configuration reads, or a default that it has, without a line in the
/// operator's page, in the chapter of the program. A line documents a field when it names it in backticks, alone or
/// within a path.
pub(crate) fn documented(tree: &Tree) -> Vec<Fault> {
    let page = tree.file(PAGE).map_or("", |file| file.text.as_str());
    let mut faults = Vec::new();
    for file in tree.ending(".rs").filter(|file| reads_settings(file)) {
        let chapter = chapter(page, file);
        for setting in settings(file) {
            let mut lines = chapter
                .lines()
                .filter(|line| names(line, &setting.name))
                .peekable();
            if lines.peek().is_none() {
                faults.push(file.fault(setting.line, format!("`{}` is not in {PAGE}", setting.name)));
            } else if let Some(default) = &setting.default
                && default != SECTION
                && !lines.any(|line| quoted(line).any(|word| word == default))
            {
                let what = format!(
                    "{PAGE} does not tell that `{}` is `{default}` by default",
                    setting.name
                );
                faults.push(file.fault(setting.line, what));
            }
        }
    }
    faults
}

/// A field that is read somewhere.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    line: usize,
    name: String,
    default: Option<String>,
}

/// The rooms where settings enter: a program's `config`, and the parts of it that the libraries share.
fn reads_settings(file: &File) -> bool {
    let test = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
    let config = file.path.contains("/src/config.rs") || file.path.contains("/src/config/");
    let shared = file.path.starts_with("daemon/src/") || file.path.starts_with("credentials/src/");
    !test && (config || shared)
}

/// What the page says of the program that `file` belongs to; all of it for what the programs share.
fn chapter<'p>(page: &'p str, file: &File) -> &'p str {
    let folder = file.path.split('/').next().unwrap_or_default();
    if ["daemon", "credentials"].contains(&folder) {
        return page;
    }
    let heading = format!("\n## `ferrule-{folder}`\n");
    let chapter = page.split_once(&heading).map_or("", |(_, rest)| rest);
    chapter.split("\n## ").next().unwrap_or_default()
}

/// The calls `.required("name"`, `.optional("name"` and `.default("name", "text"` before the tests begin.
fn settings(file: &File) -> Vec<Setting> {
    let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for call in [".required(", ".optional(", ".default("] {
        for (at, _) in code.match_indices(call) {
            if code[..at]
                .lines()
                .next_back()
                .is_some_and(|line| line.trim_start().starts_with("//"))
            {
                continue;
            }
            let Some((name, rest)) = literal(&code[at + call.len()..]) else {
                continue;
            };
            let default = rest
                .trim_start()
                .strip_prefix(',')
                .filter(|_| call == ".default(");
            found.push(Setting {
                line: code[..at].matches('\n').count() + 1,
                name,
                default: default.and_then(literal).map(|(text, _)| text),
            });
        }
    }
    found.sort_by_key(|setting| setting.line);
    found
}

/// A string at the start of `text`, as it is written but for its escaped quotes, with what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let inside = text.trim_start().strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((inside[..end].replace("\\\"", "\""), &inside[end + 1..]))
}

fn names(line: &str, name: &str) -> bool {
    let is_name = |part: &str| part.trim_end_matches("[]") == name;
    quoted(line).any(|word| word.split('.').any(is_name))
}

/// The words of a line that stand in backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The default of a field that only holds others.
const SECTION: &str = "{}";

const PAGE: &str = "docs/operating.md";

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "let port = fields.required(\"port\", |item| item.port());\n\
                          let idle = fields.default(\n    \"idle\",\n    \"5m\",\n    |item| item.duration(),\n);\n\
                          // fields.required(\"prose\", …)\n\
                          #[cfg(test)]\nfields.required(\"tested\", f)\n";

    fn told(path: &str, page: &str) -> Vec<String> {
        let page = format!("# Operating\n\n## `ferrule-ca`\n{page}");
        let tree = Tree::of(&[(path, CONFIG), (PAGE, &page)]);
        documented(&tree).into_iter().map(|fault| fault.what).collect()
    }

    #[test]
    fn a_setting_without_a_line_is_a_fault() {
        let told = told("ca/src/config.rs", "Nothing about idle or port.");
        assert_eq!(
            told,
            [
                "`port` is not in docs/operating.md",
                "`idle` is not in docs/operating.md"
            ]
        );
    }

    #[test]
    fn a_default_that_the_page_does_not_tell_is_a_fault() {
        let told = told(
            "ca/src/config/listen.rs",
            "| `listen.port` | |\n| `listen.idle` | `6m` |",
        );
        assert_eq!(
            told,
            ["docs/operating.md does not tell that `idle` is `5m` by default"]
        );
    }

    #[test]
    fn a_line_in_the_chapter_of_another_program_does_not_count() {
        let other = "\n## `ferrule-proxy`\n| `listen.port` | |\n| `idle` | `5m` |";
        assert_eq!(told("ca/src/config.rs", other).len(), 2);
    }

    #[test]
    fn a_default_with_quotes_is_told_as_it_is_written_in_yaml() {
        let config = r#"fields.default("names", "[a, \"::1\"]", |item| item.list(read))"#;
        let faults = |line| {
            let page = format!("\n## `ferrule-ca`\n{line}");
            documented(&Tree::of(&[("ca/src/config.rs", config), (PAGE, &page)])).len()
        };
        assert_eq!(faults("| `names` | `[a, \"::1\"]` |"), 0);
        assert_eq!(faults("| `names` | `[a, ::1]` |"), 1);
    }

    #[test]
    fn a_documented_setting_is_none() {
        let section = "fields.default(\"listen\", \"{}\", |item| item.fields(listen))";
        let tree = Tree::of(&[
            ("ca/src/config.rs", section),
            (PAGE, "\n## `ferrule-ca`\n| `listen.port` | |"),
        ]);
        assert_eq!(documented(&tree), []);
        assert!(told("ca/src/config.rs", "| `listen.port` | |\n| `idle` | `5m` |").is_empty());
        assert!(
            told("policy/src/rules.rs", "").is_empty(),
            "rules are no settings"
        );
    }
}
