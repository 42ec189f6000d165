//! Holds the rendered rules against their golden text.

use super::*;

fn plan() -> RedirectPlan {
    RedirectPlan {
        excluded_inbound: ["15020", "22", "23-25"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        excluded_outbound: vec!["53".parse().unwrap()],
        excluded_ranges: ["10.9.0.0/16", "fd00::/8"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        ..RedirectPlan::default()
    }
}

#[test]
fn nft_rules_put_the_proof_before_the_exemption() {
    let golden = r#"table inet ferrule
delete table inet ferrule
table inet ferrule {
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr 192.0.2.1 tcp dport 15002 redirect to :15001
    ip6 daddr 2001:db8::1 tcp dport 15002 redirect to :15001
    meta skuid 2150 return
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    ip daddr 10.9.0.0/16 return
    ip6 daddr fd00::/8 return
    tcp dport { 53 } return
    meta l4proto tcp redirect to :15001
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    iifname "lo" return
    tcp dport { 22-25, 15020 } return
    meta l4proto tcp redirect to :15006
  }
  chain guard_output {
    type filter hook output priority 0; policy accept;
    meta skuid 2150 tcp dport 15001 ct original proto-dst != 15002 tcp flags 0x2 / 0x1,0x2,0x4,0x10 reject with tcp reset
    meta skuid 2150 return
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    ip daddr 10.9.0.0/16 return
    ip6 daddr fd00::/8 return
    tcp dport { 53 } return
    tcp flags 0x2 / 0x1,0x2,0x4,0x10 reject with tcp reset
  }
  chain guard_input {
    type filter hook input priority 0; policy accept;
    iifname "lo" return
    tcp dport 15006 return
    tcp dport { 22-25, 15020 } return
    tcp flags 0x2 / 0x1,0x2,0x4,0x10 reject with tcp reset
  }
}
"#;
    assert_eq!(nft(&plan()), golden);
}

#[test]
fn a_mark_stands_where_the_user_id_would() {
    let plan = RedirectPlan {
        exemption: Exemption::Mark(0x866),
        ..RedirectPlan::default()
    };
    assert!(nft(&plan).contains("meta mark 0x866 return"));
    assert!(!nft(&plan).contains("skuid"));
    assert!(iptables(&plan, false).contains("-m mark --mark 0x866 -j RETURN"));
}

#[test]
fn iptables_rules_are_those_of_nft_in_other_words() {
    let golden = "*filter
:FERRULE_GUARD_OUTPUT - [0:0]
:FERRULE_GUARD_INPUT - [0:0]
-A FERRULE_GUARD_OUTPUT -p tcp --dport 15001 -m owner --uid-owner 2150 -m conntrack ! --ctorigdstport 15002 --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset
-A FERRULE_GUARD_OUTPUT -m owner --uid-owner 2150 -j RETURN
-A FERRULE_GUARD_OUTPUT -d 127.0.0.0/8 -j RETURN
-A FERRULE_GUARD_OUTPUT -d 10.9.0.0/16 -j RETURN
-A FERRULE_GUARD_OUTPUT -p tcp --dport 53:53 -j RETURN
-A FERRULE_GUARD_OUTPUT -p tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset
-A FERRULE_GUARD_INPUT -i lo -j RETURN
-A FERRULE_GUARD_INPUT -p tcp --dport 15006 -j RETURN
-A FERRULE_GUARD_INPUT -p tcp --dport 15020:15020 -j RETURN
-A FERRULE_GUARD_INPUT -p tcp --dport 22:22 -j RETURN
-A FERRULE_GUARD_INPUT -p tcp --dport 23:25 -j RETURN
-A FERRULE_GUARD_INPUT -p tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset
COMMIT
*nat
:FERRULE_OUTPUT - [0:0]
:FERRULE_INBOUND - [0:0]
-A FERRULE_OUTPUT -p tcp -d 192.0.2.1 --dport 15002 -j REDIRECT --to-ports 15001
-A FERRULE_OUTPUT -m owner --uid-owner 2150 -j RETURN
-A FERRULE_OUTPUT -d 127.0.0.0/8 -j RETURN
-A FERRULE_OUTPUT -d 10.9.0.0/16 -j RETURN
-A FERRULE_OUTPUT -p tcp --dport 53:53 -j RETURN
-A FERRULE_OUTPUT -p tcp -j REDIRECT --to-ports 15001
-A FERRULE_INBOUND -i lo -j RETURN
-A FERRULE_INBOUND -p tcp --dport 15020:15020 -j RETURN
-A FERRULE_INBOUND -p tcp --dport 22:22 -j RETURN
-A FERRULE_INBOUND -p tcp --dport 23:25 -j RETURN
-A FERRULE_INBOUND -p tcp -j REDIRECT --to-ports 15006
COMMIT
";
    assert_eq!(iptables(&plan(), false), golden);
}

#[test]
fn the_guard_is_there_before_the_redirect() {
    let tables: Vec<&str> = JUMPS.iter().map(|jump| jump.table).collect();
    assert_eq!(tables, ["filter", "filter", "nat", "nat"]);
    for jump in JUMPS {
        let chain = *jump.rule.last().unwrap();
        assert!(CHAINS.contains(&(jump.table, chain)), "{chain}");
    }
}

#[test]
fn iptables_rules_name_only_addresses_of_their_family() {
    let (v4, v6) = (iptables(&plan(), false), iptables(&plan(), true));
    assert!(v4.contains("-d 10.9.0.0/16 -j RETURN") && !v4.contains("fd00::"));
    assert!(v6.contains("-d fd00::/8 -j RETURN") && !v6.contains("10.9.0.0"));
    assert!(v4.contains("-d 192.0.2.1 --dport 15002") && v6.contains("-d 2001:db8::1 --dport 15002"));
    for text in [v4, v6] {
        let (_, nat) = text.split_once("*nat").unwrap();
        let proof = nat.find("--dport 15002").unwrap();
        assert!(proof < nat.find("--uid-owner 2150").unwrap());
        assert!(text.ends_with("COMMIT\n"));
    }
}

#[test]
fn overlapping_ports_become_one_interval() {
    let ports: Vec<PortRange> = ["80-90", "85-100", "101", "7"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    assert_eq!(port_set(&ports).as_deref(), Some("{ 7, 80-101 }"));
    assert_eq!(port_set(&[]), None);
}
