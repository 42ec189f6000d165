//! Whether the commands that the pages promise exist.

use crate::manifests::read;
use crate::tree::{Fault, File, Tree};

/// Faults: a command of the README or of CONTRIBUTING that nobody could type: a script that is not there, a
/// package, program or recipe that does not exist.
pub(crate) fn commands(tree: &Tree) -> Vec<Fault> {
    let manifests = read(tree);
    let packages: Vec<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    let mut programs: Vec<String> = Vec::new();
    for manifest in &manifests {
        if tree.has(&format!("{}/src/main.rs", manifest.folder)) {
            programs.push(manifest.name.clone());
        }
        programs.extend(manifest.programs());
    }
    let recipes = recipe_names(tree);
    let mut faults = Vec::new();
    for page in ["README.md", "CONTRIBUTING.md"]
        .iter()
        .filter_map(|path| tree.file(path))
    {
        for (number, line) in typed(page) {
            let words: Vec<&str> = words(line).collect();
            let Some(first) = words.first().copied() else {
                continue;
            };
            let program = first.rsplit('/').next().unwrap_or(first);
            let built = first == program || first.starts_with("target/");
            let exists = WELL_KNOWN.contains(&first)
                || tree.file(first.trim_start_matches("./")).is_some()
                || (built && programs.iter().any(|name| name == program));
            if !exists {
                faults.push(page.fault(number, format!("no such command: {first}")));
            }
            let after = |flag: &str| {
                let at = words.iter().position(|word| *word == flag)?;
                words.get(at + 1).copied()
            };
            if let Some(package) = after("-p").filter(|name| first == "cargo" && !packages.contains(name)) {
                faults.push(page.fault(number, format!("no such package: {package}")));
            }
            if let Some(recipe) = after("just").filter(|name| !recipes.contains(name)) {
                faults.push(page.fault(number, format!("no such recipe: {recipe}")));
            }
        }
    }
    faults
}

/// Faults: a step of the pipeline without a recipe of its name.
pub(crate) fn recipes(tree: &Tree) -> Vec<Fault> {
    let recipes = recipe_names(tree);
    let Some(pipeline) = tree.file(".ci/run") else {
        return Vec::new();
    };
    pipeline
        .lines()
        .filter_map(|(number, line)| {
            let step = line.strip_prefix("step_")?.split_once('(')?.0;
            (!recipes.contains(&step))
                .then(|| pipeline.fault(number, format!("justfile has no recipe {step}")))
        })
        .collect()
}

fn recipe_names(tree: &Tree) -> Vec<&str> {
    let lines = tree.file("justfile").into_iter().flat_map(File::lines);
    lines
        .filter(|(_, line)| !line.starts_with([' ', '\t', '#']))
        .filter_map(|(_, line)| line.split_once(':')?.0.split_whitespace().next())
        .collect()
}

/// The lines of a page that one would type: those of its shell blocks, without comments and continuations.
fn typed(page: &File) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut continues = false;
    for (number, line) in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside && ["sh", "bash", "console"].contains(&language.trim());
            continue;
        }
        let text = line.trim_start().trim_start_matches("$ ");
        if inside && !continues && !text.starts_with('#') {
            found.push((number, text));
        }
        continues = inside && line.ends_with('\\');
    }
    found
}

/// The words of a command, without what may stand before it.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().skip_while(|word| {
        *word == "sudo" || *word == "env" || (word.contains('=') && !word.starts_with('-'))
    })
}

const WELL_KNOWN: [&str; 14] = [
    "cargo", "just", "git", "cd", "export", "cat", "ls", "mkdir", "curl", "openssl", "certtool", "head",
    "grep", "cp",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn told(page: &str) -> Vec<String> {
        let readme = format!("Prose: `nothing`\n```sh\n{page}\n```\n```yaml\nkind: Mesh\n```\n");
        let tree = Tree::of(&[
            ("README.md", readme.as_str()),
            ("tests/run", ""),
            ("justfile", "test *ARGS:\n    tests/run\n"),
            ("Cargo.toml", "[workspace]\nmembers = ['ca', 'cli']"),
            ("ca/Cargo.toml", "[package]\nname = 'ferrule-ca'"),
            ("ca/src/main.rs", ""),
            (
                "cli/Cargo.toml",
                "[package]\nname = 'ferrule-cli'\n[[bin]]\nname = 'ferrule'",
            ),
        ]);
        commands(&tree).into_iter().map(|fault| fault.what).collect()
    }

    #[test]
    fn a_command_that_nobody_can_type_is_a_fault() {
        assert_eq!(told("tests/walk"), ["no such command: tests/walk"]);
        assert_eq!(told("ferrule-proxy --check"), ["no such command: ferrule-proxy"]);
        assert_eq!(
            told("target/release/ferrule-cat serve"),
            ["no such command: target/release/ferrule-cat"]
        );
        assert_eq!(
            told("cargo run -p ferrule-proxy"),
            ["no such package: ferrule-proxy"]
        );
        assert_eq!(told("just bake"), ["no such recipe: bake"]);
    }

    #[test]
    fn what_exists_is_none() {
        let page = "# a comment\n$ tests/run -p x\nFERRULE_X=1 cargo run -p ferrule-ca -- serve \\\n  --flag\n\
                    target/release/ferrule-ca serve\nferrule up\njust test\nsudo ferrule-ca serve";
        assert!(told(page).is_empty(), "{:?}", told(page));
    }

    #[test]
    fn a_step_without_a_recipe_is_a_fault() {
        let tree = Tree::of(&[
            (
                ".ci/run",
                "step_test() { tests/run; }\nstep_paint() {\n  true\n}\n",
            ),
            ("justfile", "# x\ntest *ARGS:\n    tests/run {{ARGS}}\n"),
        ]);
        let told: Vec<String> = recipes(&tree)
            .into_iter()
            .map(|fault| fault.to_string())
            .collect();
        assert_eq!(told, [".ci/run:2: justfile has no recipe paint"]);
    }
}
