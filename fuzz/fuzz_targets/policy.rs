//! Reads any bytes as rules, and judges by what is accepted.
#![no_main]

use std::collections::BTreeMap;

use ferrule_document::Limits;
use ferrule_identity::SpiffeId;
use ferrule_policy::{Ask, Inbound, Mesh, PolicyDocument, Source, Workload, compile, explain, judge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        bytes: 8 * 1024,
        depth: 16,
        nodes: 2_000,
    };
    let Ok(documents) = PolicyDocument::read_all("fuzz.yaml", bytes, limits) else {
        return;
    };
    let mesh = Mesh::named("shop.local".parse().expect("a trust domain"));
    let Ok(policy) = compile(&documents, mesh) else {
        return;
    };
    let caller = SpiffeId::parse("spiffe://shop.local/ns/shop/sa/web").expect("an ID");
    let labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    let ask = Ask::Inbound(Inbound {
        source: Source::Verified(&caller),
        destination: Workload {
            namespace: "shop",
            name: "api",
            labels: &labels,
        },
        port: 8080,
    });
    let verdict = judge(&policy, &ask);
    assert!(!explain(&ask, &verdict).is_empty());
    // Without a document nobody is let in.
    assert!(!documents.is_empty() || !verdict.is_allowed());
});
