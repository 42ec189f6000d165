//! What `explain` says of a connection is what happens to it.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::leaves::stage;
use super::*;

fn one_of<'w>(random: &mut StdRng, words: &[&'w str]) -> &'w str {
    words[random.random_range(0..words.len())]
}

/// A few policies about `api`, each of whatever kind, action and enforcement.
fn some_rules(random: &mut StdRng) -> String {
    let mut text = String::new();
    for number in 0..random.random_range(0..4) {
        let action = one_of(random, &["allow", "allow", "deny"]);
        let enforcement = one_of(random, &["enforce", "enforce", "audit"]);
        let workloads = one_of(
            random,
            &["all", "{ labels: { app: api } }", "{ labels: { app: db } }"],
        );
        let from = one_of(
            random,
            &[
                "identities: [spiffe://shop.local/ns/shop/sa/web]",
                "identities: [spiffe://shop.local/ns/shop/*]",
                "namespaces: [shop]",
                "namespaces: [monitoring]",
                "cidrs: [10.0.0.0/8]",
            ],
        );
        let ports = one_of(random, &["", ", ports: [8080]", ", ports: [8080, 9090]"]);
        write!(
            text,
            "---\napiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\n\
             metadata: {{ namespace: shop, name: rule-{number} }}\n\
             spec: {{ workloads: {workloads}, action: {action}, enforcement: {enforcement}, \
             rules: [{{ from: [{{ {from} }}]{ports} }}] }}\n"
        )
        .unwrap();
    }
    let mode = one_of(random, &["strict", "strict", "permissive"]);
    write!(
        text,
        "---\napiVersion: ferrule.dev/v1alpha1\nkind: MeshPolicy\n\
         metadata: {{ namespace: shop, name: mode }}\nspec: {{ workloads: all, mode: {mode} }}\n"
    )
    .unwrap();
    text
}

#[test]
fn what_is_explained_is_what_is_enforced() {
    let stage = stage(Duration::from_secs(60));
    let mut random = StdRng::seed_from_u64(7);
    let web = stage.grounds.peer().unwrap().clone();
    let stranger = ClientAddr::new("10.0.0.9:5555".parse().unwrap());
    let (mut allowed, mut refused) = (0, 0);
    for _ in 0..1_000 {
        let text = some_rules(&mut random);
        rules(&stage.teller, &text);
        let policy = stage.gate.news.rules.borrow().clone().unwrap();
        for port in [8080, 9090, 22] {
            let caller = Grounds::Caller {
                peer: web.clone(),
                address: stranger.ip(),
                port,
            };
            let clear = Grounds::Stranger {
                client: stranger,
                port,
            };
            let asked = [
                (caller, Source::Verified(web.id())),
                (clear, Source::Plaintext(stranger.ip())),
                (Grounds::Itself { port }, Source::Verified(&stage.gate.id)),
            ];
            for (grounds, source) in asked {
                let ask = Ask::Inbound(Inbound {
                    source,
                    destination: stage.gate.own.workload(),
                    port,
                });
                let verdict = judge(&policy, &ask);
                match stage.gate.admit(grounds) {
                    Ok(permit) => {
                        assert!(verdict.is_allowed(), "{text}\n{}", explain(&ask, &verdict));
                        assert_eq!(permit.judged().verdict, verdict.word(), "{text}");
                        allowed += 1;
                    }
                    Err(denied) => {
                        assert!(!verdict.is_allowed(), "{text}\n{}", explain(&ask, &verdict));
                        assert_eq!(denied.closed.detail, explain(&ask, &verdict), "{text}");
                        refused += 1;
                    }
                }
                // The half before the handshake refuses nobody whom the half after it lets in.
                if verdict.is_allowed() {
                    assert_eq!(stage.gate.port(port), Ok(()), "{text}");
                }
            }
        }
    }
    assert!(
        allowed > 500 && refused > 500,
        "{allowed} allowed, {refused} refused"
    );
}
