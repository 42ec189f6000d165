//! PostgreSQL, and pgbench.

use std::path::PathBuf;

use ferrule_tests::netns::{Host, Process, alone, run};
use ferrule_tests::wait::until;

/// Where Debian has the programs of the newest version; those on the path are wrappers that look for clusters.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions.map(|version| version.unwrap().path()).max().unwrap();
    newest.join("bin").join(name)
}

/// A server that asks nobody for a password.
fn server(host: &Host) -> Process {
    let data = host.folder().join("data");
    run(host
        .app(program("initdb"))
        .args([
            "--auth=trust",
            "--username=postgres",
            "--no-sync",
            "--locale=C",
            "--pgdata",
        ])
        .arg(&data));
    std::fs::write(data.join("pg_hba.conf"), "host all all all trust\n").unwrap();
    let mut command = host.app(program("postgres"));
    command.args([
        "-c",
        "listen_addresses=*",
        "-c",
        "fsync=off",
        "-c",
        "unix_socket_directories=",
        "-D",
    ]);
    let server = host.start("postgres", command.arg(&data));
    until("PostgreSQL is ready", || {
        server
            .said()
            .contains("ready to accept connections")
            .then_some(())
    });
    server
}

#[test]
#[ignore = "needs root or user namespaces, nft and PostgreSQL: tests/run"]
fn postgresql_serves_pgbench_over_both_families() {
    alone(|mesh| {
        let (web, db) = (mesh.workload("web"), mesh.workload("db"));
        mesh.allow("web", "db", &[5432]);
        let _server = server(&db);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&db));
        for address in db.addresses() {
            let client = |program_name| {
                let mut command = web.app(program(program_name));
                command.args(["--username=postgres", &format!("--host={address}")]);
                command
            };
            run(client("pgbench").args(["--initialize", "--quiet", "--scale=1", "postgres"]));
            let said =
                run(client("pgbench").args(["--client=8", "--jobs=2", "--transactions=50", "postgres"]));
            assert!(
                said.contains("number of transactions actually processed: 400/400"),
                "{said}"
            );
            // A connection for each transaction.
            let said = run(client("pgbench").args([
                "--connect",
                "--no-vacuum",
                "--transactions=50",
                "--select-only",
                "postgres",
            ]));
            assert!(
                said.contains("number of transactions actually processed: 50/50"),
                "{said}"
            );
            let sum =
                run(client("psql").args(["--tuples-only", "--command=select count(*) from pgbench_history"]));
            assert_eq!(sum.trim(), "400");
        }
        for sidecar in [&out, &into] {
            sidecar.counts(
                &[
                    "ferrule_connections_total",
                    "tls=\"mutual\"",
                    "reason=\"finished\"",
                ],
                100.0,
            );
            assert_eq!(sidecar.count(&["plaintext_total"]), 0.0);
        }
    });
}
