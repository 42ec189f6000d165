//! Where the machine does not let connections be captured: one line says so, and explicit listeners do the work.

use super::mesh::{Mesh, free_port, get, shop, wait};

/// Runs the shop by way of `before`; what is said about it in one line.
fn noticed(before: &[&str]) -> String {
    let port = free_port();
    let mut mesh = Mesh::start_by(before, &shop(port), "auto");
    mesh.wait_for("all 5 are up");
    wait(|| get(port, "/shop").contains("umbrella"), || mesh.text());
    mesh.wait_for("web.shop -> api.shop:8080  mutual  allow");
    mesh.wait_for("intruder.shop -> store.shop:9000  mutual  deny");
    let text = mesh.text();
    let notices: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("ferrule: "))
        .collect();
    let [notice] = notices[..] else {
        panic!("one line, not {notices:?}")
    };
    assert!(
        notice.starts_with("ferrule: connections cannot be captured here, so explicit listeners are used: "),
        "{notice}"
    );
    assert_eq!(mesh.stop().code(), Some(0));
    mesh.leaves_nothing();
    notice.to_owned()
}

/// A user namespace in which there can be no further one, and then a command.
fn none_allowed(then: &str) -> [String; 6] {
    let script = format!("echo 0 >/proc/sys/user/max_user_namespaces && exec {then} \"$@\"");
    ["unshare", "--user", "--map-root-user", "sh", "-c", &script].map(str::to_owned)
}

fn noticed_without_namespaces(then: &str) -> String {
    let words = none_allowed(then);
    let mut before: Vec<&str> = words.iter().map(String::as_str).collect();
    before.push("-");
    noticed(&before)
}

#[test]
#[ignore = "needs namespaces: tests/run"]
fn without_user_namespaces_an_ordinary_user_gets_explicit_listeners_and_one_line() {
    let notice = noticed_without_namespaces("setpriv --bounding-set=-all --inh-caps=-all --");
    assert!(notice.contains("cannot make a user namespace"), "{notice}");
    assert!(
        notice.ends_with("to allow user namespaces, as root: sysctl -w user.max_user_namespaces=15000"),
        "{notice}"
    );
}

#[test]
#[ignore = "needs nft and namespaces: tests/run"]
fn without_user_namespaces_root_gets_explicit_listeners_and_one_line() {
    let notice = noticed_without_namespaces("");
    assert!(notice.contains("the workload's user namespace"), "{notice}");
    assert!(
        notice.ends_with("to allow user namespaces, as root: sysctl -w user.max_user_namespaces=15000"),
        "{notice}"
    );
}

#[test]
#[ignore = "needs nft and namespaces: tests/run"]
fn without_nft_there_are_explicit_listeners_and_one_line() {
    let script = "for tool in /usr/sbin/nft /sbin/nft /usr/bin/nft; do [ ! -e $tool ] || mount --bind /bin/false $tool; \
                  done; exec \"$@\"";
    let notice = noticed(&[
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "-",
    ]);
    assert!(
        notice.ends_with(": nft is not installed; to capture connections, install the package nftables"),
        "{notice}"
    );
}

#[test]
fn an_application_that_listens_on_loopback_alone_is_told_of() {
    let text = super::mesh::head("private.example")
        + "- { name: store, namespace: shop, run: [ferrule, example, store, --host, 127.0.0.1], ports: [9000] }\n";
    let mut mesh = Mesh::start(&text, "explicit");
    let line = mesh.wait_for("store.shop is not ready: for port 9000 somebody listens at 127.0.0.1 alone");
    assert!(line.contains("the one that HOST names"), "{line}");
    assert!(!mesh.text().contains("store.shop is ready"), "{}", mesh.text());
    assert_eq!(mesh.stop().code(), Some(0));
    mesh.leaves_nothing();
}

#[test]
fn a_published_port_of_the_same_number_is_not_taken_for_the_application() {
    let port = free_port();
    let text = super::mesh::head("same.example")
        + &format!(
            "- {{ name: quiet, namespace: shop, run: [sleep, '1000'], ports: [{port}], publish: [{port}] }}\n"
        )
        + "- { name: clock, namespace: shop, run: [sleep, '1'], restart: always }\n";
    let mut mesh = Mesh::start(&text, "explicit");
    // Many looks of the one later.
    wait(
        || mesh.text().matches("clock.shop has ended").count() > 2,
        || mesh.text(),
    );
    assert!(
        !mesh.text().contains("quiet.shop is not ready"),
        "{}",
        mesh.text()
    );
    assert_eq!(mesh.stop().code(), Some(0));
    mesh.leaves_nothing();
}
