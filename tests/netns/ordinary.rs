//! Runs a part of these tests as a user without any privilege: a user namespace is enough.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use ferrule_tests::netns::proxy;

/// One of each kind: redirect and wire in both families, the workload itself, foreign TLS, kills.
const PART: [&str; 5] = [
    "wire::the_wire_shows_tls_1_3_with_a_hybrid_group_and_nothing_of_the_application",
    "places::a_workload_reaches_itself_by_its_own_rules",
    "places::who_passes_its_own_sidecar_by_is_refused_by_the_other",
    "ports::a_port_used_again_after_a_reset_leads_nobody_out",
    "downgrade::both_ends_may_close_at_once",
];

// Whoever runs this as an ordinary user runs all of these tests as one; root runs this part a second time.
#[test]
#[ignore = "needs root or user namespaces, nft, dumpcap and tshark: tests/run"]
fn an_ordinary_user_needs_no_privilege() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    // A checkout may lie where only its owner can go.
    let (program, sidecar) = (folder.path().join("netns"), folder.path().join("ferrule-proxy"));
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    fs::copy(proxy(), &sidecar).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        chown(&home, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        let mut command = Command::new("setpriv");
        let id = SOMEBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]);
        command
            .args(["--inh-caps=-all", "--bounding-set=-all"])
            .arg(&program);
        command
    } else {
        Command::new(&program)
    };
    let done = command
        .args(["--include-ignored", "--exact", "--test-threads", "1"])
        .args(PART)
        .current_dir(&home)
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("FERRULE_TEST_PROXY", &sidecar)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    let wanted = format!("test result: ok. {} passed", PART.len());
    assert!(done.status.success() && said.contains(&wanted), "{said}");
}

/// The id of nobody in particular.
const SOMEBODY: u32 = 34_567;
