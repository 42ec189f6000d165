//! A host is gone without a word while nothing is said: both ends learn of it, and nothing stays open for ever.

use std::io::{ErrorKind, Read as _};

use ferrule_tests::netns::{alone, run};
use ferrule_tests::wait::until;

use crate::pair::{Pair, ask, dial, pair};

const IMPATIENT: &str = "connection: { keepalive: { idle: 1s, interval: 1s, retries: 2 } }\n";

#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn an_idle_connection_to_a_host_that_has_vanished_ends_at_both_sides() {
    alone(|mesh| {
        let pair = pair(mesh, |api| api.v4().into(), IMPATIENT);
        let Pair {
            web,
            api,
            at,
            out,
            into,
            ..
        } = &pair;
        let mut idle = dial(web, *at);
        ask(&mut idle);
        // A host that has not acknowledged the answer yet is waited for by the kernel's retransmissions instead.
        until("all that was said is acknowledged", || {
            let sockets = run(api.command("ss").arg("-Htn"));
            let unsent = |line: &str| line.split_whitespace().nth(2) != Some("0");
            (!sockets.lines().any(unsent)).then_some(())
        });
        // What is said between the two hosts is lost from now on, but not what the test asks the sidecars.
        for (here, there) in [(web, api), (api, web)] {
            let nft = |text: &str| drop(run(here.command("nft").arg(text)));
            nft("add table inet way");
            nft("add chain inet way way { type filter hook prerouting priority -400; policy accept; }");
            nft(&format!(
                "add rule inet way way iifname eth0 ip saddr {} drop",
                there.v4()
            ));
        }
        let ended = idle.read(&mut [0]).unwrap_err();
        assert_eq!(
            ended.kind(),
            ErrorKind::ConnectionReset,
            "no end that looks like an answer"
        );
        out.counts(
            &[
                "ferrule_connections_total",
                "outbound",
                "reason=\"upstream_reset\"",
            ],
            1.0,
        );
        into.counts(
            &["ferrule_connections_total", "inbound", "reason=\"client_reset\""],
            1.0,
        );
        for sidecar in [out, into] {
            until("nothing is open", || {
                (sidecar.count(&["ferrule_connections_open"]) == 0.0).then_some(())
            });
        }
    });
}
