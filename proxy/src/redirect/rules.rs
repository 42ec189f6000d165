//! Renders the redirect rules as text: a pure function of the plan.
//!
//! Sources: nft(8) for the syntax and the hooks; the kernel's nf_nat documentation for what REDIRECT does to a
//! destination. Both chains see only a connection's first packet; the rest follows what was decided then.

use std::fmt::Write as _;

use super::plan::{AddressRange, Exemption, PortRange, RedirectPlan};

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
    let left_alone = left_alone(plan);
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

/// What leaves without being redirected, and what the guard behind the redirect therefore lets pass.
fn left_alone(plan: &RedirectPlan) -> Vec<String> {
    // What stays on loopback is the workload talking to itself at an address that nobody else can use.
    let mut matches = vec![
        exempt(plan),
        "ip daddr 127.0.0.0/8".to_owned(),
        "ip6 daddr ::1".to_owned(),
    ];
    matches.extend(plan.excluded_ranges.iter().map(|range| {
        let family = if range.is_ipv4() { "ip" } else { "ip6" };
        format!("{family} daddr {range}")
    }));
    matches.extend(port_set(&plan.excluded_outbound).map(|ports| format!("tcp dport {ports}")));
    matches
}

/// A packet that begins a connection: of FIN, SYN, RST, ACK only SYN is set; spelled as nft lists it.
const BEGINS: &str = "tcp flags 0x2 / 0x1,0x2,0x4,0x10";

/// The rules for `iptables-restore --noflush` (`ipv6: false`) or `ip6tables-restore --noflush`, for hosts that
/// have the iptables front end and no nft. The chains are emptied first, so loading twice is loading once.
pub fn iptables(plan: &RedirectPlan, ipv6: bool) -> String {
    let (proof, loopback) = if ipv6 {
        (PROOF_V6, "::1/128")
    } else {
        (PROOF_V4, "127.0.0.0/8")
    };
    let out = plan.outbound_port;
    let exemption = match plan.exemption {
        Exemption::User(id) => format!("-m owner --uid-owner {id}"),
        Exemption::Mark(mark) => format!("-m mark --mark {mark:#x}"),
    };
    let mut lines = vec![
        "*nat".to_owned(),
        ":FERRULE_OUTPUT - [0:0]".to_owned(),
        ":FERRULE_INBOUND - [0:0]".to_owned(),
        format!(
            "-A FERRULE_OUTPUT -p tcp -d {proof} --dport {} -j REDIRECT --to-ports {out}",
            plan.proof_port
        ),
        format!("-A FERRULE_OUTPUT {exemption} -j RETURN"),
        format!("-A FERRULE_OUTPUT -d {loopback} -j RETURN"),
    ];
    let ranges = plan
        .excluded_ranges
        .iter()
        .filter(|range| range.is_ipv4() != ipv6);
    lines.extend(ranges.map(|range: &AddressRange| format!("-A FERRULE_OUTPUT -d {range} -j RETURN")));
    lines.extend(
        plan.excluded_outbound
            .iter()
            .map(|ports| exclusion("FERRULE_OUTPUT", *ports)),
    );
    lines.push(format!("-A FERRULE_OUTPUT -p tcp -j REDIRECT --to-ports {out}"));
    lines.push("-A FERRULE_INBOUND -i lo -j RETURN".to_owned());
    lines.extend(
        plan.excluded_inbound
            .iter()
            .map(|ports| exclusion("FERRULE_INBOUND", *ports)),
    );
    lines.push(format!(
        "-A FERRULE_INBOUND -p tcp -j REDIRECT --to-ports {}",
        plan.inbound_port
    ));
    lines.push("COMMIT".to_owned());
    lines.join("\n") + "\n"
}

/// The two jumps that put our iptables chains to work, as arguments after `-t nat -A` (or `-C`, `-D`).
pub const JUMPS: [[&str; 5]; 2] = [
    ["OUTPUT", "-p", "tcp", "-j", "FERRULE_OUTPUT"],
    ["PREROUTING", "-p", "tcp", "-j", "FERRULE_INBOUND"],
];

fn exclusion(chain: &str, ports: PortRange) -> String {
    let (first, last) = ports.bounds();
    format!("-A {chain} -p tcp --dport {first}:{last} -j RETURN")
}

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
