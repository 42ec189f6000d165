//! Loads the redirect rules into network namespaces of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

use ferrule_proxy::redirect::apply::{Found, Tool, check, install, remove};
use ferrule_proxy::redirect::plan::{Exemption, RedirectPlan};

/// Runs the test `name` of this program again, alone in new user and network namespaces; an ordinary user may.
/// Returns whether this already is that second run.
fn inside(name: &str) -> bool {
    if std::env::args().any(|argument| argument == "--format=terse") {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(program)
        .args(["--include-ignored", "--exact", name, "--format=terse"])
        // The usual place of iptables-legacy's lock belongs to root.
        .env("XTABLES_LOCKFILE", folder.path().join("lock"))
        .output()
        .expect("unshare is installed");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "in the namespace: {said}"
    );
    false
}

fn plan() -> RedirectPlan {
    RedirectPlan {
        // The only id that is mapped into the namespace.
        exemption: Exemption::User(0),
        excluded_inbound: ["15020", "23-25", "22"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        excluded_outbound: vec!["53".parse().unwrap()],
        excluded_ranges: ["10.9.0.0/16", "fd00::/8"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        ..RedirectPlan::default()
    }
}

fn comes_and_goes(tool: Tool) {
    let plan = plan();
    assert_eq!(check(tool, &plan).unwrap(), Found::Absent);
    install(tool, &plan).unwrap();
    assert_eq!(check(tool, &plan).unwrap(), Found::Installed);
    install(tool, &plan).unwrap();
    assert_eq!(check(tool, &plan).unwrap(), Found::Installed, "twice is once");
    let marked = RedirectPlan {
        exemption: Exemption::Mark(0x866),
        ..plan.clone()
    };
    assert!(matches!(check(tool, &marked).unwrap(), Found::Different { .. }));
    install(tool, &marked).unwrap();
    assert_eq!(
        check(tool, &marked).unwrap(),
        Found::Installed,
        "the new plan replaces the old one"
    );
    let bare = RedirectPlan::default();
    assert!(matches!(check(tool, &bare).unwrap(), Found::Different { .. }));
    remove(tool).unwrap();
    assert_eq!(check(tool, &plan).unwrap(), Found::Absent);
    remove(tool).unwrap();
}

#[test]
#[ignore = "needs nft: tests/run"]
fn nft_rules_come_and_go() {
    if inside("nft_rules_come_and_go") {
        comes_and_goes(Tool::Nft);
    }
}

#[test]
#[ignore = "needs iptables-nft: tests/run"]
fn iptables_rules_come_and_go() {
    if inside("iptables_rules_come_and_go") {
        comes_and_goes(Tool::Iptables);
    }
}

#[test]
#[ignore = "needs iptables-legacy: tests/run"]
fn legacy_iptables_rules_come_and_go() {
    if inside("legacy_iptables_rules_come_and_go") {
        comes_and_goes(Tool::IptablesLegacy);
    }
}

#[test]
#[ignore = "needs nft: tests/run"]
fn a_rule_of_somebody_else_in_our_table_is_seen() {
    if inside("a_rule_of_somebody_else_in_our_table_is_seen") {
        install(Tool::Nft, &plan()).unwrap();
        let added = Command::new("nft")
            .args([
                "insert", "rule", "inet", "ferrule", "output", "tcp", "dport", "8080", "return",
            ])
            .status()
            .unwrap();
        assert!(added.success());
        let found = check(Tool::Nft, &plan()).unwrap();
        let Found::Different { first } = found else {
            panic!("{found:?}");
        };
        assert!(first.contains("8080"), "{first}");
    }
}
