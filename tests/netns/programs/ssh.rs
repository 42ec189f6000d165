//! OpenSSH: a session with its own encryption, which stays open and talks both ways.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use ferrule_tests::netns::{Host, Process, alone, run};
use ferrule_tests::wait::until;

/// The one user that applications run as has no shell on Debian; here, where nobody else sees it, it has one.
fn give_a_shell(folder: &Path) {
    let known = fs::read_to_string("/etc/passwd").unwrap();
    let mut passwd: String = known
        .lines()
        .filter(|line| !line.starts_with("nobody:"))
        .fold(String::new(), |text, line| text + line + "\n");
    passwd += &format!("nobody:x:65534:65534:nobody:{}:/bin/sh\n", folder.display());
    // From files alone: systemd's own entry for that user says that it is locked.
    let switch = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n".to_owned();
    for (name, text) in [("passwd", passwd), ("nsswitch.conf", switch)] {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        run(Command::new("mount")
            .arg("--bind")
            .arg(path)
            .arg(Path::new("/etc").join(name)));
    }
}

fn key(host: &Host, name: &str) {
    let path = host.folder().join(name);
    run(host
        .app("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path));
}

fn server(host: &Host, known: &Path) -> Process {
    key(host, "host_key");
    let mut command = host.app("/usr/sbin/sshd");
    command
        .args(["-D", "-e", "-f", "none", "-p", "2222", "-h"])
        .arg(host.folder().join("host_key"));
    for option in [
        "UsePAM=no",
        "StrictModes=no",
        "PidFile=none",
        "Subsystem=sftp internal-sftp",
    ] {
        command.args(["-o", option]);
    }
    command
        .arg("-o")
        .arg(format!("AuthorizedKeysFile={}", known.display()));
    let mut server = host.start("sshd", &mut command);
    until("sshd is ready", || {
        assert!(server.runs(), "{}", server.said());
        server.said().contains("Server listening on").then_some(())
    });
    server
}

#[test]
#[ignore = "needs root or user namespaces, nft and OpenSSH: tests/run"]
fn an_ssh_session_talks_both_ways() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[2222]);
        give_a_shell(web.folder());
        key(&web, "key");
        let _server = server(&api, &web.folder().join("key.pub"));
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        for address in api.addresses() {
            let client = || {
                let mut client = web.app("ssh");
                client.args([
                    "-F",
                    "none",
                    "-p",
                    "2222",
                    "-o",
                    "BatchMode=yes",
                    "-o",
                    "StrictHostKeyChecking=no",
                ]);
                client.arg("-o").arg(format!(
                    "UserKnownHostsFile={}",
                    web.folder().join("hosts").display()
                ));
                client
                    .arg("-i")
                    .arg(web.folder().join("key"))
                    .arg(format!("nobody@{address}"));
                client
            };
            assert_eq!(run(client().arg("echo $((6 * 7))")), "42\n");
            // Ten megabytes there and back through the same session, at once.
            let long = web.folder().join("long");
            fs::write(&long, b"0123456789".repeat(1_000_000)).unwrap();
            let back = client()
                .arg("cat")
                .stdin(File::open(&long).unwrap())
                .output()
                .unwrap();
            assert!(back.status.success());
            assert!(
                back.stdout == fs::read(&long).unwrap(),
                "what came back is what was sent"
            );
        }
        for sidecar in [&out, &into] {
            sidecar.counts(
                &[
                    "ferrule_connections_total",
                    "tls=\"mutual\"",
                    "reason=\"finished\"",
                ],
                4.0,
            );
        }
    });
}
