//! Counts the datagrams that a workload sends by UDP, which is neither carried nor protected.
//!
//! The kernel counts them for each network namespace, whoever sends them and wherever they go. The sidecar's own, which
//! are its questions about names, are taken off; it is the only other one who sends any.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrule_daemon::metrics::{Counter, Metrics};

/// Adds the number of datagrams that the workload has sent since now; `own` counts the sidecar's. Where the kernel
/// does not tell, there is no number.
pub fn register(metrics: &Metrics, own: Counter) {
    let before = sent(Path::new(NAMESPACE));
    // Ours are counted a moment after the kernel counts them: what was said once is not taken back.
    let said = AtomicU64::new(0);
    metrics.read_counter(
        "udp_datagrams_sent",
        "Datagrams that the workload has sent by UDP, which is neither carried nor protected",
        move || {
            let now = sent(Path::new(NAMESPACE))?;
            let others = now.checked_sub(before?)?.saturating_sub(own.get());
            Some(said.fetch_max(others, Ordering::Relaxed).max(others))
        },
    );
}

/// The datagrams that were sent in a network namespace since there is one, in both families. One of them may be
/// missing, where the kernel has it not.
fn sent(namespace: &Path) -> Option<u64> {
    let v4 = fs::read_to_string(namespace.join("snmp"))
        .ok()
        .and_then(|text| in_table(&text));
    let v6 = fs::read_to_string(namespace.join("snmp6"))
        .ok()
        .and_then(|text| in_list(&text));
    match (v4, v6) {
        (None, None) => None,
        (v4, v6) => Some(v4.unwrap_or(0).saturating_add(v6.unwrap_or(0))),
    }
}

/// From two lines that begin with `Udp:`, one of names and one of numbers.
fn in_table(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|name| name == "OutDatagrams")?;
    numbers.split(' ').nth(place)?.parse().ok()
}

/// From a line with a name and a number.
fn in_list(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Udp6OutDatagrams"))?;
    line.trim().parse().ok()
}

/// Of the thread that asks: threads of one process may live in different namespaces.
const NAMESPACE: &str = "/proc/thread-self/net";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_two_ways_of_telling_are_read() {
        let table = "Tcp: A OutDatagrams\nTcp: 1 2\nUdp: InDatagrams NoPorts InErrors OutDatagrams\n\
                     Udp: 1 2 3 44 5\nUdpLite: InDatagrams OutDatagrams\nUdpLite: 6 7\n";
        assert_eq!(in_table(table), Some(44));
        let list = "Udp6InDatagrams                 \t1\nUdp6OutDatagrams                \t22\n";
        assert_eq!(in_list(list), Some(22));
        for text in [
            "",
            "Udp: OutDatagrams\n",
            "Udp: A\nUdp: 1\n",
            "Udp: OutDatagrams\nUdp: x\n",
        ] {
            assert_eq!(in_table(text), None, "{text:?}");
            assert_eq!(in_list(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_sent_is_counted_and_our_own_is_not() {
        let (metrics, own) = (Metrics::new(), Counter::default());
        register(&metrics, own.clone());
        let shown = || -> u64 {
            let text = metrics.encode().unwrap();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("ferrule_udp_datagrams_sent_total "));
            line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
        };
        let before = shown();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        for _ in 0..5 {
            socket.send_to(b"x", to).unwrap();
        }
        // Others send on this machine, too.
        let after = shown();
        assert!(after >= before + 5, "{before} {after}");
        own.inc_by(1_000_000_000);
        assert_eq!(shown(), after, "it never falls");
    }
}
