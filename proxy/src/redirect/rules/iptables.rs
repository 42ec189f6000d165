//! The same rules in the syntax of iptables, for hosts that have no nft.
//!
//! Sources: iptables(8), iptables-extensions(8). A rule that names no table cannot say both families at once, so
//! there is one text for each.

use super::super::plan::{Exemption, PortRange, RedirectPlan};
use super::{LeftAlone, PROOF_V4, PROOF_V6, left_alone};

/// The rules for `iptables-restore --noflush` (`ipv6: false`) or `ip6tables-restore --noflush`. The chains are
/// emptied first, so loading twice is loading once. They do nothing until [`JUMPS`] lead to them.
pub fn iptables(plan: &RedirectPlan, ipv6: bool) -> String {
    let (proof_address, loopback) = if ipv6 {
        (PROOF_V6, "::1/128")
    } else {
        (PROOF_V4, "127.0.0.0/8")
    };
    let (out, inbound, proof) = (plan.outbound_port, plan.inbound_port, plan.proof_port);
    let own = exempt(plan.exemption);
    let left_alone: Vec<String> = left_alone(plan)
        .into_iter()
        .flat_map(|left| matches(&left, loopback, ipv6))
        .collect();
    let open = ports(&plan.excluded_inbound);

    let mut lines = vec!["*filter".to_owned()];
    lines.extend(declared("filter"));
    // Why there is a guard, and why it asks first for the proxy meeting itself: see the rules for nft.
    lines.push(format!(
        "-A {GUARD_OUTPUT} -p tcp --dport {out} {own} -m conntrack ! --ctorigdstport {proof} {BEGINS} {REFUSED}"
    ));
    lines.extend(
        left_alone
            .iter()
            .map(|words| format!("-A {GUARD_OUTPUT} {words} -j RETURN")),
    );
    lines.push(format!("-A {GUARD_OUTPUT} -p tcp {BEGINS} {REFUSED}"));
    lines.push(format!("-A {GUARD_INPUT} -i lo -j RETURN"));
    lines.push(format!("-A {GUARD_INPUT} -p tcp --dport {inbound} -j RETURN"));
    lines.extend(
        open.iter()
            .map(|words| format!("-A {GUARD_INPUT} {words} -j RETURN")),
    );
    lines.push(format!("-A {GUARD_INPUT} -p tcp {BEGINS} {REFUSED}"));
    lines.push("COMMIT".to_owned());

    lines.push("*nat".to_owned());
    lines.extend(declared("nat"));
    lines.push(format!(
        "-A {OUTPUT} -p tcp -d {proof_address} --dport {proof} -j REDIRECT --to-ports {out}"
    ));
    lines.extend(
        left_alone
            .iter()
            .map(|words| format!("-A {OUTPUT} {words} -j RETURN")),
    );
    lines.push(format!("-A {OUTPUT} -p tcp -j REDIRECT --to-ports {out}"));
    lines.push(format!("-A {INBOUND} -i lo -j RETURN"));
    lines.extend(open.iter().map(|words| format!("-A {INBOUND} {words} -j RETURN")));
    lines.push(format!("-A {INBOUND} -p tcp -j REDIRECT --to-ports {inbound}"));
    lines.push("COMMIT".to_owned());
    lines.join("\n") + "\n"
}

/// What matches something that is left alone, one rule each; nothing for an address of the other family.
fn matches(left: &LeftAlone<'_>, loopback: &str, ipv6: bool) -> Vec<String> {
    match left {
        LeftAlone::Own(exemption) => vec![exempt(*exemption)],
        LeftAlone::Loopback => vec![format!("-d {loopback}")],
        LeftAlone::Range(range) if range.is_ipv4() == ipv6 => Vec::new(),
        LeftAlone::Range(range) => vec![format!("-d {range}")],
        LeftAlone::Ports(excluded) => ports(excluded),
    }
}

/// What tells the proxy's own traffic.
fn exempt(exemption: Exemption) -> String {
    match exemption {
        Exemption::User(id) => format!("-m owner --uid-owner {id}"),
        Exemption::Mark(mark) => format!("-m mark --mark {mark:#x}"),
    }
}

fn ports(ranges: &[PortRange]) -> Vec<String> {
    ranges
        .iter()
        .map(|range| {
            let (first, last) = range.bounds();
            format!("-p tcp --dport {first}:{last}")
        })
        .collect()
}

fn declared(table: &str) -> impl Iterator<Item = String> {
    CHAINS
        .iter()
        .filter(move |chain| chain.0 == table)
        .map(|(_, chain)| format!(":{chain} - [0:0]"))
}

/// What puts one of our chains to work.
#[derive(Debug, Clone, Copy)]
pub struct Jump {
    /// The table of both chains.
    pub table: &'static str,
    /// `-A` to come behind the rules of others, `-I` to come before them.
    pub add: &'static str,
    /// The kernel's chain, and the rule in it.
    pub rule: [&'static str; 5],
}

/// The jumps, in the order in which they are made: the guard first, so that what begins a connection before the
/// redirect is there is refused and does not leave in clear. They are undone in the other order. The guard comes
/// before the rules of others, of which one that accepts would end the chain.
pub const JUMPS: [Jump; 4] = [
    Jump {
        table: "filter",
        add: "-I",
        rule: ["OUTPUT", "-p", "tcp", "-j", GUARD_OUTPUT],
    },
    Jump {
        table: "filter",
        add: "-I",
        rule: ["INPUT", "-p", "tcp", "-j", GUARD_INPUT],
    },
    Jump {
        table: "nat",
        add: "-A",
        rule: ["OUTPUT", "-p", "tcp", "-j", OUTPUT],
    },
    Jump {
        table: "nat",
        add: "-A",
        rule: ["PREROUTING", "-p", "tcp", "-j", INBOUND],
    },
];

/// Our chains, each behind its table.
pub const CHAINS: [(&str, &str); 4] = [
    ("filter", GUARD_OUTPUT),
    ("filter", GUARD_INPUT),
    ("nat", OUTPUT),
    ("nat", INBOUND),
];

const OUTPUT: &str = "FERRULE_OUTPUT";
const INBOUND: &str = "FERRULE_INBOUND";
const GUARD_OUTPUT: &str = "FERRULE_GUARD_OUTPUT";
const GUARD_INPUT: &str = "FERRULE_GUARD_INPUT";

/// A packet that begins a connection: of the four flags only SYN is set; spelled as iptables lists it.
const BEGINS: &str = "--tcp-flags FIN,SYN,RST,ACK SYN";

const REFUSED: &str = "-j REJECT --reject-with tcp-reset";
