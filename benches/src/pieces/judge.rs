//! Judges connections among ten thousand rules.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use ferrule_document::Limits;
use ferrule_identity::SpiffeId;
use ferrule_policy::{Ask, Inbound, Mesh, Policy, PolicyDocument, Source, Workload, compile, judge};

/// Rules, half of them for the workload that is called.
pub(super) struct Rules {
    policy: Policy,
    labels: BTreeMap<String, String>,
}

/// A caller and what it calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    caller: &'static str,
    port: u16,
    allowed: bool,
}

/// The first rule, one of the last, and none.
pub(super) const CASES: [Case; 3] = [
    Case {
        name: "judging 10,000 rules: the first allows it",
        caller: "spiffe://bench.local/ns/n0/sa/web",
        port: 1000,
        allowed: true,
    },
    Case {
        name: "judging 10,000 rules: a late one allows it",
        caller: "spiffe://bench.local/ns/n4999/sa/web",
        port: 5999,
        allowed: true,
    },
    Case {
        name: "judging 10,000 rules: none allows it",
        caller: "spiffe://bench.local/ns/nobody/sa/web",
        port: 5999,
        allowed: false,
    },
];

impl Rules {
    /// Makes them: 5,000 for one workload, and 5,000 for one other workload each.
    pub(super) fn make() -> anyhow::Result<Self> {
        let mut many = String::new();
        for at in 0..HALF {
            write!(
                many,
                "\n  - {{ from: [{{ identities: [\"spiffe://bench.local/ns/n{at}/sa/web\"] }}], ports: [{}] }}",
                1000 + at
            )?;
        }
        let mut documents = read("many", "{ labels: { app: api } }", &many)?;
        for at in 0..HALF {
            let rule =
                "\n  - from: [{ cidrs: [192.0.2.0/24] }, { identities: [\"spiffe://bench.local/ns/x/*\"] }]";
            let selector = format!("{{ labels: {{ app: other{at}, tier: \"1\" }} }}");
            documents.extend(read(&format!("one-{at}"), &selector, rule)?);
        }
        let mesh = Mesh::named("bench.local".parse()?);
        let policy = compile(&documents, mesh).context("the rules cannot be compiled")?;
        ensure!(
            policy.rule_count() == 2 * HALF,
            "there are {} rules",
            policy.rule_count()
        );
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Ok(Self {
            policy,
            labels: BTreeMap::from([label("app", "api"), label("tier", "1")]),
        })
    }

    /// Nanoseconds that one judgement takes, over `count` of them.
    pub(super) fn time(&self, case: Case, count: u32) -> anyhow::Result<f64> {
        let id = SpiffeId::parse(case.caller)?;
        let ask = Ask::Inbound(Inbound {
            source: Source::Verified(&id),
            destination: Workload {
                namespace: "bench",
                name: "api",
                labels: &self.labels,
            },
            port: case.port,
        });
        ensure!(
            judge(&self.policy, &ask).is_allowed() == case.allowed,
            "{} is judged otherwise",
            case.name
        );
        let begun = Instant::now();
        for _ in 0..count {
            drop(black_box(judge(black_box(&self.policy), black_box(&ask))));
        }
        Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(count))
    }
}

fn read(name: &str, selector: &str, rules: &str) -> anyhow::Result<Vec<PolicyDocument>> {
    let text = format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{ namespace: bench, name: {name} }}\n\
         spec:\n  workloads: {selector}\n  action: allow\n  rules:{rules}\n"
    );
    PolicyDocument::read_all(name, text.as_bytes(), Limits::default()).context("the rules cannot be read")
}

const HALF: usize = 5_000;
