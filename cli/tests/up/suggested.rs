//! From a trial to rules: what `ferrule policy suggest` makes of the traffic of a mesh that only watches.

use super::hand::Hand;
use super::mesh::{Mesh, free_port, get, shop, wait};

/// Rules that let in nobody, on trial: everybody gets in all the same, and is noted.
const TRIAL: &str = "---\napiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: { namespace: shop, name: trial }\n\
                     spec:\n  workloads: all\n  action: allow\n  enforcement: audit\n  rules:\n  \
                     - from: [{ identities: [spiffe://shop.local/ns/shop/sa/nobody] }]\n";

/// The workloads of the shop, with or without the intruder; none of its rules.
fn workloads(port: u16, with_intruder: bool) -> String {
    let text = shop(port);
    let (workloads, _) = text.split_once("\n---\n").unwrap();
    let (honest, _) = workloads.split_once("\n- name: intruder").unwrap();
    format!("{}\n", if with_intruder { workloads } else { honest })
}

#[test]
fn a_trial_gives_rules_under_which_the_same_goes_on_and_an_intruder_fails() {
    let port = free_port();
    let mut trial = Mesh::start(&(workloads(port, false) + TRIAL), "explicit");
    trial.wait_for("all 4 are up");
    assert!(get(port, "/shop").contains("umbrella"), "{}", trial.text());
    let edges = [
        "publish.shop -> web.shop:8000  mutual  ",
        "web.shop -> api.shop:8080  mutual  ",
        "api.shop -> store.shop:9000  mutual  ",
    ];
    for edge in edges {
        trial.wait_for(&format!("{edge}audit"));
    }
    let suggested = Hand::new(&trial, "shop.local").run(&["policy", "suggest"]);
    assert_eq!(suggested.code, 0, "{suggested:?}");
    assert!(
        suggested.err.contains("for 3 kinds of connections"),
        "{suggested:?}"
    );
    assert_eq!(trial.stop().code(), Some(0));
    trial.leaves_nothing();

    let port = free_port();
    let text = format!("{}---\n{}", workloads(port, true), suggested.out);
    let mut mesh = Mesh::start(&text, "explicit");
    mesh.wait_for("all 5 are up");
    wait(|| get(port, "/shop").contains("umbrella"), || mesh.text());
    for edge in edges {
        mesh.wait_for(&format!("{edge}allow"));
    }
    for denied in ["api.shop:8080", "store.shop:9000", "web.shop:8000"] {
        mesh.wait_for(&format!("intruder.shop -> {denied}  mutual  deny"));
    }
    let text = mesh.text();
    for line in text.lines().filter(|line| line.contains("  deny  ")) {
        assert!(line.contains("intruder.shop ->"), "{line}");
    }
    assert!(!text.contains("intruder.shop | got through"), "{text}");
    let again = Hand::new(&mesh, "shop.local").run(&["policy", "suggest"]);
    assert_eq!(again.out, "", "nothing is missing any more: {again:?}");
    assert_eq!(mesh.stop().code(), Some(0));
}
