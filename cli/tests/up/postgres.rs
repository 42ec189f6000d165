//! The example with PostgreSQL, pgbench and a web page: programs as Debian packages them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::hand::{Hand, run};
use super::mesh::{Mesh, free_port, get, wait};

/// The example's folder in one of the test's own, with other published ports.
fn copied(web: u16, db: u16) -> (tempfile::TempDir, String) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/postgres");
    let folder = tempfile::tempdir().unwrap();
    for file in ["db.sh", "bench.sh", "web.py"] {
        fs::copy(example.join(file), folder.path().join(file)).unwrap();
    }
    let text = fs::read_to_string(example.join("mesh.yaml")).unwrap();
    let mine = text
        .replace("at: 18000", &format!("at: {web}"))
        .replace("at: 15432", &format!("at: {db}"));
    assert!(!mine.contains("at: 18000") && !mine.contains("at: 15432"));
    (folder, mine)
}

#[test]
#[ignore = "needs nft, namespaces, PostgreSQL and Python: tests/run"]
fn a_database_its_benchmark_and_a_page_run_unmodified() {
    let (web, db) = (free_port(), free_port());
    let (folder, text) = copied(web, db);
    let mut mesh = Mesh::start_in(folder, &text, "transparent");
    mesh.wait_for("all 3 are up");
    let hand = Hand::new(&mesh, "bank.local");
    mesh.wait_for("bench.bank | progress: ");
    let transfers = || {
        let page = get(web, "/");
        let (_, page) = page.split_once("<p>")?;
        assert!(page.contains("the books balance"), "{page}");
        page.split_once(" transfers")?.0.parse::<u64>().ok()
    };
    let mut first = None;
    wait(
        || {
            first = transfers();
            first.is_some()
        },
        || format!("{}\n{}", get(web, "/"), mesh.text()),
    );
    wait(|| transfers() > first, || mesh.text());
    for edge in [
        "bench.bank -> db.bank:5432  mutual  allow",
        "web.bank -> db.bank:5432  mutual  allow",
        "publish.bank -> web.bank:8000  mutual  allow",
    ] {
        mesh.wait_for(edge);
    }
    // Before anybody tries.
    assert!(!mesh.text().contains("plaintext"), "{}", mesh.text());
    assert_eq!(hand.json(&["verify", "web", "db"]).0, 0);

    // From outside, as the identity `publish`; and not any more once the rule says so.
    let ask = || {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "-At", "-h", "127.0.0.1", "-U", "bank", "-p"]);
        psql.args([&db.to_string(), "-c", "select 6 * 7", "postgres"]);
        run(psql.env("PGCONNECT_TIMEOUT", "20"))
    };
    let answer = ask();
    assert_eq!(answer.out.trim(), "42", "{answer:?}");
    let less = text.replacen("      - spiffe://bank.local/ns/bank/sa/publish\n", "", 1);
    assert_ne!(less, text);
    fs::write(mesh.folder.path().join("mesh.yaml"), less).unwrap();
    // The first to fail may have been let in under the old rule and cut by the new one, which is no edge denied.
    let denied = "publish.bank -> db.bank:5432  mutual  deny";
    wait(|| ask().code != 0 && mesh.text().contains(denied), || mesh.text());
    assert_eq!(mesh.stop().code(), Some(0));
    mesh.leaves_nothing();
}
