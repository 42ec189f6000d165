//! Tests the settings that the parts of a mesh are given.

use ferrule_document::{Document, Limits};

use super::super::document::MeshDocument;
use super::super::plan::Machine;
use super::*;

/// The plan of a mesh with so many copies, whose file begins with `head`.
fn plan(head: &str, copies: usize) -> Plan {
    let text = format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: Mesh\ntrustDomain: shop.local\n{head}workloads:\n\
         - {{ name: api, namespace: shop, run: [x], ports: [80], replicas: {copies} }}\n"
    );
    let document = Document::parse_one("mesh.yaml", text.as_bytes(), Limits::default()).unwrap();
    let machine = Machine {
        capture: Capture::Transparent,
        ipv6: true,
        loopback: 213,
    };
    Plan::new(
        &MeshDocument::read(&document).unwrap(),
        Path::new("/srv/shop"),
        machine,
    )
    .unwrap()
}

/// What the CA makes of its settings.
fn limits(plan: &Plan) -> ferrule_ca::config::LimitsConfig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.yaml");
    let directory = SocketAddr::from(([127, 0, 0, 1], 15012));
    std::fs::write(&file, authority(plan, &Places::new(folder.path()), directory)).unwrap();
    let none = std::iter::empty::<(&str, &str)>();
    ferrule_ca::config::load(Some(&file), none).unwrap().config.limits
}

#[test]
fn all_who_start_at_one_moment_get_their_certificates_at_once() {
    let few = limits(&plan("", 5));
    let many = limits(&plan("", 400));
    assert_eq!(few.issue_burst.get(), 120, "no less than elsewhere");
    // Each copy and the directory, and each of them once again.
    assert_eq!(many.issue_burst.get(), 2 * (400 + 1));
    // In the long run, and from others, no more than elsewhere.
    assert_eq!(many.issues_per_caller, few.issues_per_caller);
    assert_eq!(many.requests_per_address, few.requests_per_address);
    assert_eq!(many.request_burst, few.request_burst);
}

#[test]
fn a_host_that_joins_may_run_as_much_as_a_host_can() {
    let hosts = limits(&plan("host: { address: 192.0.2.1 }\n", 1));
    assert!(hosts.issue_burst.get() >= 2 * 1008);
}
