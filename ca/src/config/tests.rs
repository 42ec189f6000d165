//! Tests of the settings: defaults, faults, what belongs together.

use super::*;

fn from(variables: &[(&str, &str)]) -> Result<Config, String> {
    load(None, variables.iter().copied())
        .map(|loaded| loaded.config)
        .map_err(|problems| problems.to_string())
}

#[test]
fn nothing_has_to_be_set() {
    let config = from(&[]).unwrap();
    assert_eq!(config.trust_domain, None);
    assert_eq!(config.data, PathBuf::from("ferrule-ca-data"));
    assert_eq!(config.listen, None);
    assert_eq!(config.admin, Some("127.0.0.1:15020".parse().unwrap()));
    assert_eq!(config.leaf.default_lifetime, Duration::from_secs(12 * 3600));
    assert_eq!(config.signing.algorithm, KeyAlgorithm::EcdsaP256);
    assert!(config.kubernetes.is_none() && config.admins.is_empty());
}

#[test]
fn the_crypto_profile_chooses_algorithms_and_refuses_others() {
    let config = from(&[("FERRULE_CA__CRYPTO", "cnsa1")]).unwrap();
    assert_eq!(config.root.algorithm, KeyAlgorithm::EcdsaP384);
    assert_eq!(config.signing.algorithm, KeyAlgorithm::EcdsaP384);
    let mixed = [
        ("FERRULE_CA__CRYPTO", "cnsa1"),
        ("FERRULE_CA__SIGNING__ALGORITHM", "p256"),
    ];
    assert!(from(&mixed).unwrap_err().contains("`signing.algorithm` is p256"));
}

#[test]
fn what_cannot_be_together_is_refused() {
    for (variables, expected) in [
        (
            [("LEAF__MIN_LIFETIME", "2h"), ("LEAF__DEFAULT_LIFETIME", "1h")],
            "must not decrease",
        ),
        (
            [("SIGNING__LIFETIME", "100h"), ("ROOT__LIFETIME", "99h")],
            "longer than `root.lifetime`",
        ),
        (
            [("SIGNING__LIFETIME", "2h"), ("LEAF__MAX_LIFETIME", "13h")],
            "half of `signing.lifetime`",
        ),
        (
            [("TRUST_DOMAIN", "a.test"), ("ADMINS", "spiffe://b.test/x")],
            "not in the trust domain",
        ),
    ] {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (format!("FERRULE_CA__{name}"), *value))
            .collect();
        let faults = load(None, variables).unwrap_err().to_string();
        assert!(faults.contains(expected), "{faults}");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for (name, value) in [
        ("LEAF__MAX_LIFETIME", "8d"),
        ("LEAF__MIN_LIFETIME", "59s"),
        ("SIGNING__ALGORITHM", "rsa-2048"),
        ("LIMITS__ISSUES_PER_CALLER", "0"),
        ("LIMITS__BODY", "1GiB"),
        ("SERVING__NAMES", ""),
        ("SERVING__NAMES", "*.shop.local"),
        ("SERVING__NAMES", "CA.shop.local"),
        ("TRUST_DOMAIN", "Shop.local"),
        ("ADMINS", "spiffe://shop.local"),
        ("KUBERNETES__API", "http://10.0.0.1"),
        ("KUBERNETES__API", "https://10.0.0.1/path"),
        ("KUBERNETES__API", "https://user@10.0.0.1"),
        ("KUBERNETES__API", "https://10.0.0.1:port"),
        ("KUBERNETES__API", "https://:443"),
    ] {
        let variable = format!("FERRULE_CA__{name}");
        assert!(from(&[(&variable, value)]).is_err(), "{name}={value}");
    }
}

#[test]
fn the_api_server_is_a_host_and_a_port() {
    for (text, host, port) in [
        ("https://kubernetes.default.svc", "kubernetes.default.svc", 443),
        ("https://10.0.0.1:6443/", "10.0.0.1", 6443),
        ("https://[fd00::1]:6443", "fd00::1", 6443),
        ("https://[fd00::1]", "fd00::1", 443),
    ] {
        let kubernetes = from(&[("FERRULE_CA__KUBERNETES__API", text)])
            .unwrap()
            .kubernetes
            .unwrap();
        assert_eq!((kubernetes.host.as_str(), kubernetes.port), (host, port));
        assert_eq!(kubernetes.audience, "ferrule-ca");
    }
}

#[test]
fn names_of_the_ca_are_dns_names_or_addresses() {
    let config = from(&[("FERRULE_CA__SERVING__NAMES", "ca.shop.local, 192.0.2.1, ::1")]).unwrap();
    let names: Vec<String> = config.serving.iter().map(ServingName::to_string).collect();
    assert_eq!(names, ["ca.shop.local", "192.0.2.1", "::1"]);
}
