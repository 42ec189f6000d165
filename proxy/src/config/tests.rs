//! Reads settings, good ones and bad ones.

use std::io::Write as _;

use super::*;

const SMALL: &str = "
trust_domain: shop.local
workload: { namespace: shop, name: api, service_account: api }
credentials: { files: { chain: svid.pem, key: svid_key.pem, bundle: bundle.pem } }
serves: [{ listen: \"0.0.0.0:8443\", to: \"127.0.0.1:8080\" }]
";

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Loaded<Config>, Problems> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load(Some(file.path()), variables.iter().copied())
}

fn faults(text: &str) -> String {
    read(text, &[]).unwrap_err().to_string()
}

#[test]
fn little_is_needed_and_the_defaults_are_those_of_the_documentation() {
    let config = read(SMALL, &[]).unwrap().config;
    assert_eq!(config.id.as_str(), "spiffe://shop.local/ns/shop/sa/api");
    assert_eq!(config.limits.handshake, Duration::from_secs(5));
    assert_eq!(config.connection.expiry_grace, Duration::from_secs(60));
    assert_eq!(config.stop.leave, Duration::from_secs(5));
    assert_eq!(config.admin.unwrap().port(), 15020);
    assert!(config.capture.is_none());
}

#[test]
fn captured_ports_are_those_of_the_documentation() {
    let text = SMALL.replace("serves:", "capture: {}\nserves:");
    let capture = read(&text, &[]).unwrap().config.capture.unwrap();
    let ports = [capture.outbound, capture.inbound, capture.proof, capture.probe].map(NonZeroU16::get);
    assert_eq!(ports, [15001, 15006, 15002, 15003]);
}

#[test]
fn what_kubernetes_knows_comes_from_the_environment() {
    let variables = [
        ("POD_IPS", "10.0.0.1,fd00::1"),
        ("NODE_NAME", "n1"),
        ("POD_NAME", "api-7f"),
    ];
    let own = read(SMALL, &variables).unwrap().config.own;
    assert_eq!((own.addresses.len(), &*own.node, &*own.name), (2, "n1", "api-7f"));
}

#[test]
fn faults_are_told_together() {
    let said = faults(
        &SMALL
            .replace("key: svid_key.pem, ", "")
            .replace("to: \"127", "at: \"127"),
    );
    assert!(said.contains("the field `key` is missing"), "{said}");
    assert!(said.contains("unknown field `at`"), "{said}");
}

#[test]
fn a_way_out_that_everybody_can_reach_is_refused() {
    let upstream = "upstreams: [{ listen: \"0.0.0.0:9000\", service: \"api.shop:8080\" }]";
    assert!(faults(&format!("{SMALL}{upstream}")).contains("not a loopback address"));
}

#[test]
fn a_way_out_without_an_identity_is_refused() {
    let upstream = "upstreams: [{ listen: \"127.0.0.1:9000\", address: \"db.example:5432\" }]";
    assert!(faults(&format!("{SMALL}{upstream}")).contains("`address` with `identity`"));
}

#[test]
fn an_identity_of_another_trust_domain_is_refused() {
    let text = format!("{SMALL}identity: spiffe://other.local/ns/shop/sa/api\n");
    assert!(faults(&text).contains("not one of the trust domain"));
}

#[test]
fn nothing_to_do_is_a_fault() {
    let text = SMALL
        .lines()
        .filter(|line| !line.starts_with("serves"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(faults(&text).contains("nothing to do"));
}

// C11: whoever names a workload cannot name itself somebody else's: each name is one segment of the identity.
#[test]
fn no_name_reaches_beyond_its_segment_of_the_identity() {
    for hostile in [
        "a/sa/admin",
        "..",
        ".",
        "",
        "a b",
        "a%2fb",
        "a\\nb",
        "a\\u0000b",
        "ä",
        "a#b",
        "a?b",
        "a@b:1",
    ] {
        for field in ["namespace: shop", "service_account: api"] {
            let (name, _) = field.split_once(": ").unwrap();
            let text = SMALL.replace(field, &format!("{name}: \"{hostile}\""));
            assert!(read(&text, &[]).is_err(), "{name}: {hostile:?}");
            let variable = format!("FERRULE_PROXY__WORKLOAD__{}", name.to_uppercase());
            let said = read(SMALL, &[(&variable, hostile)]);
            assert!(said.is_err(), "{variable}={hostile:?}");
        }
    }
}
