//! Tests what a mesh file becomes.

use ferrule_document::{Document, Limits};

use super::*;

fn read(workloads: &str) -> Result<MeshDocument, String> {
    let text = format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: Mesh\ntrustDomain: shop.local\nworkloads:\n{workloads}"
    );
    let document = Document::parse_one("mesh.yaml", text.as_bytes(), Limits::default()).unwrap();
    MeshDocument::read(&document).map_err(|problems| problems.to_string())
}

fn plan(workloads: &str, capture: Capture, ipv6: bool) -> Plan {
    let mesh = read(workloads).unwrap();
    Plan::new(
        &mesh,
        Path::new("/srv/shop"),
        Machine {
            capture,
            ipv6,
            loopback: 213,
        },
    )
    .unwrap()
}

const SHOP: &str = "\
- { name: web, namespace: shop, run: [./web], ports: [8000], publish: [{ port: 8000, at: 80 }], after: [api, db.data] }
- { name: api, namespace: shop, run: [./api], ports: [8080], replicas: 2, labels: { tier: back } }
- { name: db, namespace: data, run: [./db], serviceAccount: postgres, folder: data }
";

#[test]
fn what_others_wait_for_comes_first() {
    let plan = plan(SHOP, Capture::Transparent, true);
    let names: Vec<&str> = plan
        .workloads
        .iter()
        .map(|workload| workload.name.as_str())
        .collect();
    assert_eq!(names, ["api", "db", "web"]);
    assert_eq!(plan.workloads[2].after, [0, 1]);
}

#[test]
fn everybody_has_an_identity_a_label_and_a_folder() {
    let plan = plan(SHOP, Capture::Transparent, true);
    let [api, db, web] = plan.workloads.as_slice() else {
        panic!()
    };
    assert_eq!(web.identity, "spiffe://shop.local/ns/shop/sa/web");
    assert_eq!(db.identity, "spiffe://shop.local/ns/data/sa/postgres");
    assert_eq!(api.labels["app"], "api");
    assert_eq!(api.labels["tier"], "back");
    assert_eq!(db.folder, Path::new("/srv/shop/data"));
    assert_eq!(web.folder, Path::new("/srv/shop"));
    let [publisher] = plan.publishers.as_slice() else {
        panic!()
    };
    assert_eq!(publisher.identity, "spiffe://shop.local/ns/shop/sa/publish");
    assert_eq!((publisher.ports[0].port, publisher.ports[0].at), (8000, 80));
}

#[test]
fn no_two_have_an_address_in_common() {
    for (capture, ipv6, each) in [
        (Capture::Transparent, true, 2),
        (Capture::Transparent, false, 1),
        (Capture::Explicit, true, 1),
    ] {
        let plan = plan(SHOP, capture, ipv6);
        let copies = plan.replicas().flat_map(|(_, replica)| replica.addresses.clone());
        let services = plan
            .workloads
            .iter()
            .flat_map(|workload| workload.service.clone());
        let mut all: Vec<IpAddr> = copies.chain(services).chain(plan.hub.clone()).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(plan.replicas().count(), 4);
        assert!(
            plan.replicas()
                .all(|(_, replica)| replica.addresses.len() == each)
        );
        assert!(all.iter().all(|ip| ip.is_loopback()) == (capture == Capture::Explicit));
    }
}

#[test]
fn a_plan_goes_to_the_process_inside_unchanged() {
    let plan = plan(SHOP, Capture::Transparent, true);
    let text = serde_json::to_string(&plan).unwrap();
    let again: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
}

#[test]
fn every_fault_is_told_at_its_place() {
    let faults = [
        (
            "- { name: web, run: [x] }\n- { name: web, run: [x] }\n",
            "mesh.yaml:6:3: workloads[1].name",
        ),
        (
            "- { name: web, run: [x], after: [db] }\n",
            "mesh.yaml:5:34: workloads[0].after[0]: no workload is called \"db\"",
        ),
        (
            "- { name: a, run: [x], after: [b] }\n- { name: b, run: [x], after: [a] }\n",
            "a waits for itself",
        ),
        (
            "- { name: web, run: [x], publish: [80] }\n",
            "80 is not one of `ports`",
        ),
        (
            "- { name: a, run: [x], ports: [1], publish: [1] }\n- { name: b, run: [x], ports: [1], publish: [1] }\n",
            "port 1 of this machine is also asked for at mesh.yaml:5:3",
        ),
        ("- { name: Web, run: [x] }\n", "small letters"),
        ("- { name: web, run: [] }\n", "the list is empty"),
        (
            "- { name: web, run: [x], prots: [80] }\n",
            "unknown field `prots`",
        ),
        (
            "- { name: web, run: [x], restart: maybe }\n",
            "one of always, on-failure, never",
        ),
        (" []\n", "the list is empty"),
    ];
    for (workloads, fault) in faults {
        let told = read(workloads).unwrap_err();
        assert!(told.contains(fault), "no {fault:?} in {told}");
    }
    let both = read("- { name: A, run: [x] }\n- { name: b, run: [x], replicas: 0 }\n").unwrap_err();
    assert_eq!(both.lines().count(), 2, "{both}");
}

fn hosts(head: &str, workloads: &str) -> Result<Plan, String> {
    let text = format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: Mesh\ntrustDomain: shop.local\n{head}workloads:\n{workloads}"
    );
    let document = Document::parse_one("mesh.yaml", text.as_bytes(), Limits::default()).unwrap();
    let mesh = MeshDocument::read(&document).map_err(|problems| problems.to_string())?;
    let machine = Machine {
        capture: Capture::Transparent,
        ipv6: true,
        loopback: 213,
    };
    Plan::new(&mesh, Path::new("/srv/shop"), machine).map_err(|error| error.to_string())
}

#[test]
fn two_hosts_have_no_address_in_common_and_each_port_has_one_on_its_host() {
    let first = hosts("host: { address: 192.0.2.1 }\n", SHOP).unwrap();
    let other = hosts("host: { address: 192.0.2.2, block: 1 }\njoin: 192.0.2.1\n", SHOP).unwrap();
    let all = |plan: &Plan| -> BTreeSet<IpAddr> {
        let services = plan.workloads.iter().flat_map(|workload| &workload.service);
        let copies = plan.replicas().flat_map(|(_, replica)| &replica.addresses);
        services.chain(copies).copied().collect()
    };
    assert!(all(&first).is_disjoint(&all(&other)));
    // The CA and the directory are where the sidecars of every host look for them.
    assert_eq!(first.hub, other.hub);
    let reached = other.reached_at().unwrap();
    let at: Vec<String> = reached.iter().map(|reached| reached.at.to_string()).collect();
    assert_eq!(at, ["192.0.2.2:20000", "192.0.2.2:20001", "192.0.2.2:20002"]);
    assert_eq!(reached[0].target.to_string(), "10.213.4.16:8080");
    let many =
        "- { name: many, run: [x], ports: [1], replicas: 1000 }\n- { name: more, run: [x], replicas: 9 }\n";
    let refused = hosts("host: { address: 192.0.2.1 }\n", many).unwrap_err();
    assert!(
        refused.contains("for 1008 where the mesh has other hosts"),
        "{refused}"
    );
    let full = hosts("host: { address: 192.0.2.1, ports: 65535 }\n", SHOP).unwrap();
    assert!(matches!(full.reached_at(), Err(PlanError::TooManyPorts)));
}

#[test]
fn hosts_that_do_not_fit_are_refused() {
    for (head, fault) in [
        ("join: 192.0.2.1\n", "`join` needs `host`"),
        (
            "host: { address: 192.0.2.2 }\njoin: 192.0.2.1\n",
            "the share of the first host",
        ),
        (
            "host: { address: 192.0.2.2, block: 1 }\n",
            "for hosts that join another",
        ),
        (
            "host: { address: 127.0.0.1 }\n",
            "no address that other hosts reach",
        ),
        ("host: { address: 192.0.2.2, block: 32 }\n", "32"),
        ("ca: { leafLifetime: 5s }\n", "ca.leafLifetime"),
        ("join: elsewhere\n", "is no address of a host"),
    ] {
        let told = hosts(head, SHOP).unwrap_err();
        assert!(told.contains(fault), "no {fault:?} in {told}");
    }
}
