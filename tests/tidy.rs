//! Holds the rules of the tree that a machine can hold.
//!
//! Each rule is a function from the tree to its faults, with a test beside it that gives it a small bad tree.
//! Files that git ignores are not looked at; files not yet committed are.

#[path = "tidy/absence.rs"]
mod absence;
#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/proved.rs"]
mod proved;
#[path = "tidy/readme.rs"]
mod readme;
#[path = "tidy/settings.rs"]
mod settings;
#[path = "tidy/sources.rs"]
mod sources;
#[path = "tidy/tree.rs"]
mod tree;

use tree::{Fault, Tree};

#[test]
fn arrows_between_crates_point_down() {
    hold(arrows::point_down);
}

#[test]
fn dependencies_are_declared_once_at_the_workspace() {
    hold(manifests::inherit_dependencies);
}

#[test]
fn each_crate_inherits_lints_and_package_fields() {
    hold(manifests::inherit_lints_and_package);
}

#[test]
fn what_we_depend_on_is_there_in_one_version() {
    hold(manifests::one_version);
}

#[test]
fn quiet_crates_touch_no_file_socket_clock_or_thread() {
    hold(absence::quiet_crates);
}

#[test]
fn tests_that_the_threat_model_names_are_there() {
    hold(proved::named_tests_exist);
}

#[test]
fn source_files_have_at_most_500_lines() {
    hold(sources::short);
}

#[test]
fn source_files_begin_with_what_lives_there() {
    hold(sources::introduced);
}

#[test]
fn nothing_is_marked_unfinished() {
    hold(sources::finished);
}

#[test]
fn ignored_tests_say_what_they_need() {
    hold(sources::ignored_for_a_reason);
}

#[test]
fn no_path_of_a_machine_is_in_the_tree() {
    hold(sources::no_machine_paths);
}

#[test]
fn every_setting_is_documented_with_its_default() {
    hold(settings::documented);
}

#[test]
fn decisions_are_numbered_listed_and_whole() {
    hold(pages::decisions);
}

#[test]
fn links_between_pages_lead_somewhere() {
    hold(pages::links);
}

#[test]
fn recipes_are_the_steps_of_the_pipeline() {
    hold(readme::recipes);
}

#[test]
fn commands_of_the_readme_exist() {
    hold(readme::commands);
}

fn hold(rule: fn(&Tree) -> Vec<Fault>) {
    let tree = Tree::of_checkout().expect("the checkout is readable");
    let faults = rule(&tree);
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        lines.join("\n")
    );
}
