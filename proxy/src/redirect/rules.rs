//! Renders the redirect rules as text: a pure function of the plan.
//!
//! Sources: nft(8) for the syntax and the hooks; the kernel's nf_nat documentation for what REDIRECT does to a
//! destination. The two chains that redirect see only a connection's first packet; the rest follows what was decided
//! then. The two that guard see every packet, and judge those that begin a connection.

use std::fmt::Write as _;

use super::plan::{AddressRange, Exemption, PortRange, RedirectPlan};

mod iptables;

pub use iptables::{CHAINS, JUMPS, Jump, iptables};

/// The nftables table, of the family `inet`, that holds every rule of ours and none of anybody else.
pub const TABLE: &str = "ferrule";

/// The IPv4 address (RFC 5737) that the proxy dials to prove the outbound redirect.
pub const PROOF_V4: &str = "192.0.2.1";

/// The IPv6 address (RFC 3849) that the proxy dials to prove the outbound redirect.
pub const PROOF_V6: &str = "2001:db8::1";

/// The rules for `nft -f -`. Loading them twice gives the same result as once: the table is replaced as a
/// whole, in one transaction, so that there is no moment without it.
pub fn nft(plan: &RedirectPlan) -> String {
    let out = plan.outbound_port;
    let proof = plan.proof_port;
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{words}");
    };
    // `delete` fails where there is no table, so one is declared first.
    line(format_args!("table inet {TABLE}"));
    line(format_args!("delete table inet {TABLE}"));
    line(format_args!("table inet {TABLE} {{"));
    line(format_args!("  chain output {{"));
    line(format_args!(
        "    type nat hook output priority -100; policy accept;"
    ));
    // Before the exemption: the proxy must meet itself here, or it knows that nothing is redirected.
    line(format_args!(
        "    ip daddr {PROOF_V4} tcp dport {proof} redirect to :{out}"
    ));
    line(format_args!(
        "    ip6 daddr {PROOF_V6} tcp dport {proof} redirect to :{out}"
    ));
    let left_alone = nft_matches(plan);
    for rule in &left_alone {
        line(format_args!("    {rule} return"));
    }
    line(format_args!("    meta l4proto tcp redirect to :{out}"));
    line(format_args!("  }}"));
    line(format_args!("  chain prerouting {{"));
    line(format_args!(
        "    type nat hook prerouting priority -100; policy accept;"
    ));
    line(format_args!("    iifname \"lo\" return"));
    if let Some(ports) = port_set(&plan.excluded_inbound) {
        line(format_args!("    tcp dport {ports} return"));
    }
    line(format_args!(
        "    meta l4proto tcp redirect to :{}",
        plan.inbound_port
    ));
    line(format_args!("  }}"));
    // Whether a connection is redirected is decided once, and the kernel's connection tracking keeps the answer for
    // its four addresses and ports. After a reset an exempt connection of the proxy leaves such an answer behind for
    // ten seconds (tcp_conntracks, CLOSE); whoever happens to dial from the same port then would pass by unasked.
    // So what begins a connection and was not redirected is refused here, after the redirect has had its turn.
    line(format_args!("  chain guard_output {{"));
    line(format_args!(
        "    type filter hook output priority 0; policy accept;"
    ));
    // The other way round: an application's answer may be left behind for a port that the proxy dials from, which
    // then would meet itself and wrap what is wrapped already. Only the proof is meant to.
    line(format_args!(
        "    {} tcp dport {out} ct original proto-dst != {proof} {BEGINS} reject with tcp reset",
        exempt(plan)
    ));
    for rule in &left_alone {
        line(format_args!("    {rule} return"));
    }
    line(format_args!("    {BEGINS} reject with tcp reset"));
    line(format_args!("  }}"));
    line(format_args!("  chain guard_input {{"));
    line(format_args!(
        "    type filter hook input priority 0; policy accept;"
    ));
    line(format_args!("    iifname \"lo\" return"));
    line(format_args!("    tcp dport {} return", plan.inbound_port));
    if let Some(ports) = port_set(&plan.excluded_inbound) {
        line(format_args!("    tcp dport {ports} return"));
    }
    line(format_args!("    {BEGINS} reject with tcp reset"));
    line(format_args!("  }}"));
    line(format_args!("}}"));
    text
}

/// What tells the proxy's own traffic.
fn exempt(plan: &RedirectPlan) -> String {
    match plan.exemption {
        Exemption::User(id) => format!("meta skuid {id}"),
        Exemption::Mark(mark) => format!("meta mark {mark:#x}"),
    }
}

/// Something that leaves without being redirected, and that the guard behind the redirect therefore lets pass.
enum LeftAlone<'a> {
    /// The proxy's own traffic.
    Own(Exemption),
    /// What stays on loopback: the workload talking to itself at an address that nobody else can use.
    Loopback,
    /// An excluded destination.
    Range(&'a AddressRange),
    /// Excluded destination ports, at least one.
    Ports(&'a [PortRange]),
}

/// All that is left alone on the way out, in the order in which it is asked for. Every syntax renders this list,
/// once for the redirect and once for its guard.
fn left_alone(plan: &RedirectPlan) -> Vec<LeftAlone<'_>> {
    let mut list = vec![LeftAlone::Own(plan.exemption), LeftAlone::Loopback];
    list.extend(plan.excluded_ranges.iter().map(LeftAlone::Range));
    if !plan.excluded_outbound.is_empty() {
        list.push(LeftAlone::Ports(&plan.excluded_outbound));
    }
    list
}

/// What `nft` matches it by, one rule each.
fn nft_matches(plan: &RedirectPlan) -> Vec<String> {
    let matches = |left: LeftAlone<'_>| match left {
        LeftAlone::Own(_) => vec![exempt(plan)],
        LeftAlone::Loopback => vec!["ip daddr 127.0.0.0/8".to_owned(), "ip6 daddr ::1".to_owned()],
        LeftAlone::Range(range) => {
            let family = if range.is_ipv4() { "ip" } else { "ip6" };
            vec![format!("{family} daddr {range}")]
        }
        LeftAlone::Ports(ports) => port_set(ports)
            .map(|ports| format!("tcp dport {ports}"))
            .into_iter()
            .collect(),
    };
    left_alone(plan).into_iter().flat_map(matches).collect()
}

/// A packet that begins a connection: of FIN, SYN, RST, ACK only SYN is set; spelled as nft lists it.
const BEGINS: &str = "tcp flags 0x2 / 0x1,0x2,0x4,0x10";

/// `{ 22, 8000-8100 }`, or nothing for no ports: an empty set would be a syntax error.
fn port_set(ports: &[PortRange]) -> Option<String> {
    if ports.is_empty() {
        return None;
    }
    // nft refuses intervals that overlap, so they are merged first.
    let mut bounds: Vec<(u16, u16)> = ports.iter().map(|range| range.bounds()).collect();
    bounds.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(bounds.len());
    for (first, last) in bounds {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let words: Vec<String> = merged
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    Some(format!("{{ {} }}", words.join(", ")))
}

#[cfg(test)]
mod tests;
