//! MariaDB, whose server speaks first.

use std::io::Read as _;
use std::net::TcpStream;

use ferrule_tests::netns::{Host, Process, alone, run};
use ferrule_tests::wait::{LIMIT, until};

/// A server without users: whoever gets there may do everything.
fn server(host: &Host) -> Process {
    let data = host.folder().join("data");
    run(host.app("mkdir").arg(&data));
    let mut command = host.app("mariadbd");
    command.args([
        "--no-defaults",
        "--skip-grant-tables",
        "--bind-address=*",
        "--port=3306",
        "--skip-name-resolve",
    ]);
    command
        .args(["--innodb-flush-method=nosync", "--datadir"])
        .arg(&data);
    let server = host.start(
        "mariadbd",
        command.arg("--socket").arg(host.folder().join("socket")),
    );
    until("MariaDB is ready", || {
        server.said().contains("ready for connections").then_some(())
    });
    server
}

// C8: server-first protocols.
#[test]
#[ignore = "needs root or user namespaces, nft and MariaDB: tests/run"]
fn mariadb_greets_clients_that_have_said_nothing() {
    alone(|mesh| {
        let (web, db) = (mesh.workload("web"), mesh.workload("db"));
        mesh.allow("web", "db", &[3306]);
        let _server = server(&db);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&db));
        for address in db.addresses() {
            let mut silent = web.inside(|| TcpStream::connect((address, 3306)).unwrap());
            silent.set_read_timeout(Some(LIMIT)).unwrap();
            let mut greeting = [0; 64];
            let read = silent.read(&mut greeting).unwrap();
            let greeting = String::from_utf8_lossy(&greeting[..read]).into_owned();
            assert!(greeting.contains("MariaDB"), "{greeting}");
            drop(silent);

            let ask = |question: &str| {
                let mut client = web.app("mariadb");
                client.args(["--no-defaults", "--skip-column-names", "--max-allowed-packet=64M"]);
                run(client.args(["--host", &address.to_string(), "--execute", question]))
                    .trim()
                    .to_owned()
            };
            ask("create database shop; create table shop.goods (image longblob)");
            // Ten megabytes in one answer.
            ask("insert into shop.goods values (repeat('ferrule', 1500000))");
            let image = ask("select image from shop.goods");
            assert_eq!(image.len(), 7 * 1_500_000);
            assert!(image.as_bytes().chunks(7).all(|word| word == b"ferrule"));
            ask("drop database shop");
        }
        for sidecar in [&out, &into] {
            sidecar.counts(
                &["ferrule_connections_total", "tls=\"mutual\"", "verdict=\"allow\""],
                10.0,
            );
            // Nobody waited for a client's first byte.
            assert_eq!(sidecar.count(&["sniff_timeouts_total"]), 0.0);
        }
    });
}
