//! Where nothing is captured: explicit listeners, faults of the mesh file, what is left.

use super::mesh::{Mesh, allow_publish, free_port, get, head, shop, wait};

#[test]
fn the_shop_runs_without_any_privilege_and_leaves_nothing() {
    let port = free_port();
    let mut mesh = Mesh::start(&shop(port), "explicit");
    mesh.wait_for("all 5 are up");
    wait(
        || get(port, "/").contains("A shop behind Ferrule"),
        || mesh.text(),
    );
    // What the page asks for next.
    assert!(get(port, "/shop").starts_with("HTTP/1.1 200"));
    mesh.wait_for("publish.shop -> web.shop:8000  mutual  allow");
    mesh.wait_for("api.shop -> store.shop:9000  mutual  allow");
    mesh.wait_for("intruder.shop -> store.shop:9000  mutual  deny");
    let text = mesh.text();
    assert!(
        !text.contains("intruder.shop -> store.shop:9000  mutual  allow"),
        "{text}"
    );
    assert_eq!(mesh.stop().code(), Some(0));
    mesh.leaves_nothing();
    assert!(!mesh.state("shop.local").join("running.json").exists());
}

#[test]
fn nothing_outlives_a_supervisor_that_is_killed() {
    let text = head("killed.example")
        + "- { name: idle, namespace: shop, run: [sh, -c, 'sleep 1000 & sleep 1000'] }\n";
    let mut mesh = Mesh::start(&text, "explicit");
    mesh.wait_for("all 1 are up");
    wait(
        || {
            mesh.processes()
                .iter()
                .any(|(_, line)| line.contains("sleep 1000"))
        },
        || mesh.text(),
    );
    mesh.kill();
    mesh.leaves_nothing();
}

#[test]
fn all_faults_of_the_files_are_told_before_anything_starts() {
    let text = head("faulty.example")
        + "- { name: Web, namespace: shop, run: [x] }\n- { name: api, namespace: shop, run: [], prot: 1 }\n"
        + &allow_publish("faulty.example", "api").replace("action: allow", "action: alow");
    let mut mesh = Mesh::start(&text, "explicit");
    assert_eq!(mesh.end().code(), Some(64));
    mesh.wait_for("mesh.yaml:5:11: workloads[0].name");
    mesh.wait_for("mesh.yaml:6:38: workloads[1].run");
    mesh.wait_for("unknown field `prot`");
    mesh.wait_for("spec.action");
    assert!(!mesh.state("faulty.example").exists());
}

#[test]
fn processes_are_started_again_as_their_policy_says() {
    let text = head("again.example")
        + "- { name: fails, namespace: shop, run: [sh, -c, 'echo trying; exit 3'] }\n"
        + "- { name: done, namespace: shop, run: [sh, -c, 'echo working'] }\n"
        + "- { name: always, namespace: shop, run: [sh, -c, 'echo again'], restart: always }\n"
        + "- { name: never, namespace: shop, run: [sh, -c, 'exit 4'], restart: never }\n";
    let mut mesh = Mesh::start(&text, "explicit");
    mesh.wait_for("fails.shop has ended (exit status: 3) and is started again");
    mesh.wait_for("done.shop has ended (exit status: 0)");
    mesh.wait_for("always.shop has ended (exit status: 0) and is started again");
    mesh.wait_for("never.shop has ended (exit status: 4)");
    let count = |text: &str| mesh.text().matches(text).count();
    wait(
        || count("fails.shop | trying") > 1 && count("always.shop | again") > 1,
        || mesh.text(),
    );
    assert_eq!(count("done.shop | working"), 1);
    assert!(
        !mesh
            .text()
            .contains("never.shop has ended (exit status: 4) and is started again")
    );
    assert_eq!(mesh.stop().code(), Some(0));
}

#[test]
fn who_waits_for_others_starts_when_they_are_healthy() {
    let text = head("order.example")
        + "- { name: second, namespace: shop, run: [sh, -c, 'test -f ready && echo in order; sleep 1000'], after: [first] }\n"
        + "- name: first\n  namespace: shop\n  run: [sh, -c, 'sleep 1; touch ready; echo made; sleep 1000']\n"
        + "  health: { run: [test, -f, ready], interval: 100ms }\n";
    let mut mesh = Mesh::start(&text, "explicit");
    mesh.wait_for("first.shop is ready");
    mesh.wait_for("second.shop | in order");
    assert_eq!(mesh.stop().code(), Some(0));
    mesh.leaves_nothing();
}

#[test]
fn a_published_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = head("taken.example")
        + &format!(
            "- {{ name: api, namespace: shop, run: [sleep, '9'], ports: [1], publish: [{{ port: 1, at: {port} }}] }}\n"
        );
    let mut mesh = Mesh::start(&text, "explicit");
    assert_eq!(mesh.end().code(), Some(2));
    mesh.wait_for(&format!("cannot publish port {port}"));
    mesh.leaves_nothing();
}
