//! Tests of judging what is called beyond the mesh.

use super::*;

const EGRESS: (&str, &str) = (
    "EgressPolicy shop/out",
    "workloads: { labels: { app: api } }\nallow:\n- { hosts: [\"*.example.com\", api.example.org], ports: [443, 8443] }\n- { cidrs: [0.0.0.0/0], ports: [5432, 8443] }\n- { cidrs: [169.254.169.254/32], ports: [80] }\n- { services: [{ namespace: legacy, name: ldap }], ports: [389] }",
);

#[test]
fn what_is_beyond_the_mesh_is_reached_by_a_rule_alone() {
    let policy = policy(&[EGRESS]);
    let by_host = outbound(&policy, "192.0.2.1", 443, Some("a.example.com"), &[]);
    assert!(by_host.by_host().is_some());
    assert!(outbound(&policy, "192.0.2.1", 443, Some("API.example.org."), &[]).is_allowed());
    assert!(!outbound(&policy, "192.0.2.1", 443, Some("example.com"), &[]).is_allowed());
    assert!(!outbound(&policy, "192.0.2.1", 443, None, &[]).is_allowed());
    let by_address = outbound(&policy, "192.0.2.1", 5432, Some("a.example.com"), &[]);
    assert!(by_address.is_allowed() && by_address.by_host().is_none());
    assert_eq!(
        outbound(&policy, "10.0.0.53", 53, None, &[]).is.reason(),
        "built-in"
    );
    assert!(!outbound(&policy, "10.0.0.53", 54, None, &[]).is_allowed());
}

#[test]
fn no_range_and_no_host_opens_an_address_of_the_mesh() {
    let policy = policy(&[EGRESS]);
    for address in ["10.9.9.9", "::ffff:10.9.9.9", "64:ff9b::a09:909"] {
        let verdict = outbound(&policy, address, 5432, None, &[]);
        assert!(!verdict.is_allowed(), "{address}");
    }
    assert!(!outbound(&policy, "10.9.9.9", 443, Some("a.example.com"), &[]).is_allowed());
    let ldap = [ServiceName {
        namespace: "legacy".into(),
        name: "ldap".into(),
    }];
    assert!(outbound(&policy, "10.9.9.9", 389, None, &ldap).is_allowed());
    assert!(!outbound(&policy, "10.9.9.9", 389, None, &[]).is_allowed());
}

#[test]
fn a_metadata_service_is_opened_by_its_exact_address_alone() {
    let policy = policy(&[EGRESS]);
    assert!(outbound(&policy, "169.254.169.254", 80, None, &[]).is_allowed());
    let verdict = outbound(&policy, "169.254.169.254", 5432, None, &[]);
    assert!(matches!(
        &verdict.is,
        Decision::Denied(Denial::NoRule(Nearest::Metadata(_)))
    ));
    assert!(!outbound(&policy, "100.100.100.200", 5432, None, &[]).is_allowed());
    assert!(outbound(&policy, "169.254.169.253", 5432, None, &[]).is_allowed());
}

#[test]
fn an_egress_policy_on_trial_opens_neither_the_mesh_nor_a_metadata_service() {
    let trial = policy(&[(
        "EgressPolicy shop/out",
        "workloads: all\nenforcement: audit\nallow:\n- { cidrs: [192.0.2.0/24] }",
    )]);
    assert_eq!(outbound(&trial, "192.0.2.1", 1, None, &[]).word(), "allow");
    assert_eq!(outbound(&trial, "198.51.100.1", 1, None, &[]).word(), "audit");
    assert_eq!(outbound(&trial, "10.1.1.1", 1, None, &[]).word(), "deny");
    assert_eq!(outbound(&trial, "fd00:ec2::254", 1, None, &[]).word(), "deny");
}

#[test]
fn only_a_port_with_rules_about_hosts_alone_waits_for_the_host() {
    let policy = policy(&[EGRESS]);
    let labels = labels("api");
    let api = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    assert!(policy.waits_for_host(&api, 443));
    assert!(!policy.waits_for_host(&api, 8443));
    assert!(!policy.waits_for_host(&api, 5432));
    assert!(!policy.waits_for_host(&api, 22));
    assert!(policy.has_host_rules(&api, 443));
    assert!(policy.has_host_rules(&api, 8443));
    assert!(!policy.has_host_rules(&api, 5432));
}

#[test]
fn a_name_that_leads_somewhere_private_is_not_dialled() {
    let policy = policy(&[EGRESS]);
    let judged = |address: &str| policy.judge_resolved(address.parse().unwrap());
    assert_eq!(judged("192.0.2.1"), Ok(()));
    assert_eq!(judged("2001:db8::1"), Ok(()));
    assert!(matches!(judged("10.1.1.1"), Err(ResolvedError::MeshRange { .. })));
    assert!(matches!(
        judged("::ffff:169.254.169.254"),
        Err(ResolvedError::Metadata { .. })
    ));
    for local in [
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "::1",
        "fe80::1",
        "224.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
    ] {
        assert!(
            matches!(judged(local), Err(ResolvedError::Local { .. })),
            "{local}"
        );
    }
}
