//! Both families of addresses: services and pods that have IPv6 beside IPv4.

use std::net::{IpAddr, SocketAddr};

use ferrule_tests::kubernetes::{Namespace, shared};
use ferrule_tests::wait::until;
use serde_json::{Value, json};

use super::apps::{allow, client, server};
use super::wire::Wire;

// C5.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn services_and_pods_of_both_families_are_reached_in_mutual_tls_with_no_clear_byte() {
    let cluster = shared();
    let (shop, stranger) = (Namespace::meshed(&cluster), Namespace::plain(&cluster));
    shop.apply(&allow("web", &[("client", shop.name())]));
    let targets = both(&shop);
    client(&shop, "client");
    client(&stranger, "client");
    let wire = Wire::start(&cluster);
    for (number, target) in targets.iter().enumerate() {
        let place = place(*target);
        let marker = format!("marker-of-family-{number}");
        let answer = until(&place, || shop.ask("client", &format!("{place}/{marker}")).ok());
        assert!(answer.contains(&marker), "{place}: {answer}");
        let why = stranger
            .ask("client", &format!("{place}/stranger-{number}"))
            .unwrap_err();
        assert!(!why.contains("HTTP"), "{place} is open to an unmeshed pod: {why}");
    }

    // What is not in the mesh is seen on the same wire, in the same families.
    let open = both(&stranger);
    for (number, target) in open.iter().enumerate() {
        let place = place(*target);
        let clear = format!("clear-in-family-{number}");
        until(&place, || {
            stranger.ask("client", &format!("{place}/{clear}")).ok()
        });
    }
    let last = format!("clear-in-family-{}", open.len() - 1);
    let wire = wire.stop(&last);
    for (number, target) in open.iter().enumerate() {
        assert!(wire.holds(&format!("clear-in-family-{number}")), "{target}");
    }
    for (number, target) in targets.iter().enumerate() {
        let marker = format!("marker-of-family-{number}");
        assert!(!wire.holds(&marker), "in clear: {target}");
    }

    for address in targets.iter().take(2) {
        let (to, name) = (
            format!(r#""dst_addr":"{address}""#),
            format!(r#""src_id":"spiffe://test.local/ns/{}/sa/client""#, shop.name()),
        );
        let line = until(&format!("the server's sidecar tells of {address}"), || {
            let log = shop.log("web", "ferrule-proxy");
            let mut lines = log.lines();
            lines
                .find(|line| line.contains(&to) && line.contains(&name))
                .map(str::to_owned)
        });
        assert!(
            line.contains(r#""tls":"mutual""#) && line.contains(r#""verdict":"allow""#),
            "{line}"
        );
    }
}

/// A server behind a service of both families: the addresses of its pod, then those of the service.
fn both(namespace: &Namespace<'_>) -> Vec<IpAddr> {
    let pod = server(namespace, "web");
    let families = json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } }).to_string();
    namespace.kubectl(&["patch", "service/web", "--type=merge", "--patch", &families]);
    let service = until("the service has an address of each family", || {
        let service = namespace.get("service/web")?;
        (service["spec"]["clusterIPs"].as_array()?.len() == 2).then_some(service)
    });
    let listed = |all: &Value, field: Option<&str>| -> Vec<IpAddr> {
        let all = all.as_array().unwrap().iter();
        let all = all.map(|one| field.map_or(one, |field| &one[field]).as_str().unwrap().parse());
        all.collect::<Result<_, _>>().unwrap()
    };
    let mut addresses = listed(&pod["status"]["podIPs"], Some("ip"));
    addresses.extend(listed(&service["spec"]["clusterIPs"], None));
    let of_six = addresses.iter().filter(|address| address.is_ipv6()).count();
    assert_eq!((addresses.len(), of_six), (4, 2), "{addresses:?}");
    addresses
}

fn place(address: IpAddr) -> String {
    SocketAddr::new(address, 8080).to_string()
}
