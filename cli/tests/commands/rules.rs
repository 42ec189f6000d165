//! What rules say of connections, and what connections say of rules: explain, suggest, report.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::ferrule::{Ended, ferrule, run};

const WORKLOADS: &str = "\
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-0, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.1.0.3] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: web, labels: { app: web } }
spec: { serviceAccount: web, addresses: [10.1.0.2] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: bank, name: web, labels: { app: web } }
spec: { serviceAccount: web, addresses: [10.1.0.9] }
";

const RULES: &str = "\
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec:
  workloads: { labels: { app: api } }
  action: allow
  enforcement: ENFORCEMENT
  rules:
  - from:
    - identities: [spiffe://shop.local/ns/shop/sa/web]
    ports: [8080]
---
apiVersion: ferrule.dev/v1alpha1
kind: EgressPolicy
metadata: { namespace: shop, name: web-out }
spec:
  workloads: { labels: { app: web } }
  allow:
  - { hosts: [\"*.example.com\"], ports: [443] }
";

/// A folder with workloads and rules.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(enforcement: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("workloads.yaml"), WORKLOADS).unwrap();
        let rules = RULES.replace("ENFORCEMENT", enforcement);
        fs::write(folder.path().join("rules.yaml"), rules).unwrap();
        Self { folder }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let folder = self.folder.path().to_str().unwrap();
        let files = ["--trust-domain", "shop.local", "--rules", folder];
        run(&mut ferrule(&[arguments, files.as_slice()].concat()))
    }

    fn explain(&self, from: &str, to: &str, port: &str) -> (i32, String) {
        let ended = self.run(&["explain", "--from", from, "--to", to, "--port", port]);
        (ended.code, ended.out + &ended.err)
    }

    fn log(&self, lines: &[Value]) -> PathBuf {
        let path = self.folder.path().join("api.proxy.log");
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        path
    }
}

fn line(account: &str, verdict: &str, rule: &str) -> Value {
    json!({
        "time": "2026-11-22T04:00:00.000Z", "level": "info", "target": "access", "event": "close",
        "direction": "inbound", "namespace": "shop", "pod": "api-0",
        "src_id": format!("spiffe://shop.local/ns/shop/sa/{account}"), "dst_id": "", "src_addr": "10.1.0.2:40000",
        "dst_addr": "10.1.0.3", "dst_port": 8080, "service": "", "tls": "mutual", "verdict": verdict, "rule": rule,
        "reason": "finished",
    })
}

#[test]
fn explain_names_the_rule_and_what_would_allow() {
    let place = Place::new("enforce");
    let (code, text) = place.explain("web.shop", "api-0", "8080");
    assert_eq!(
        (code, text.as_str()),
        (
            0,
            "allowed: spiffe://shop.local/ns/shop/sa/web may reach api-0.shop:8080; shop/api rule 1 allows port \
             8080 from spiffe://shop.local/ns/shop/sa/web\n"
        )
    );
    let (code, text) = place.explain("10.9.9.9", "api-0", "8080");
    assert_eq!(code, 1);
    assert!(
        text.starts_with("denied: 10.9.9.9 in clear may not reach api-0.shop:8080;"),
        "{text}"
    );
    let (code, text) = place.explain("web.shop", "www.example.invalid", "443");
    assert_eq!(code, 2, "no resolver is asked here: {text}");
    assert!(text.contains("give one with --address"), "{text}");
}

#[test]
fn explain_tells_of_calls_out_of_the_mesh() {
    let place = Place::new("enforce");
    let ask = |host: &str| {
        let asked = [
            "explain",
            "--from",
            "web.shop",
            "--to",
            host,
            "--port",
            "443",
            "--address",
            "192.0.2.7",
        ];
        let ended = place.run(&[asked.as_slice(), &["--output", "json"]].concat());
        let told: Value = serde_json::from_str(&ended.out).unwrap();
        (ended.code, told["reason"].clone(), told["rule"].clone())
    };
    assert_eq!(
        ask("www.example.com"),
        (0, json!("host-rule"), json!("shop/web-out rule 1"))
    );
    assert_eq!(ask("www.example.org"), (1, json!("no-rule"), Value::Null));
}

#[test]
fn explain_asks_back_when_a_name_is_nobodys_or_two_peoples() {
    let place = Place::new("enforce");
    let (code, text) = place.explain("web", "api-0", "8080");
    assert_eq!(code, 64);
    assert!(
        text.contains("web may be web.shop or web.bank; say which"),
        "{text}"
    );
    let (code, text) = place.explain("nobody", "api-0", "8080");
    assert_eq!(code, 64);
    assert!(
        text.contains("there are api-0.shop, web.bank, web.shop"),
        "{text}"
    );
}

#[test]
fn rules_with_faults_are_named_and_nothing_explained() {
    let place = Place::new("perhaps");
    let (code, text) = place.explain("web.shop", "api-0", "8080");
    assert_eq!(code, 2);
    assert!(text.contains("rules.yaml:7:16: spec.enforcement"), "{text}");
}

#[test]
fn what_is_suggested_allows_what_was_audited_and_nobody_else() {
    let place = Place::new("audit");
    let log = place.log(&[
        line("web", "allow", "shop/api rule 1"),
        line("cart", "audit", ""),
        line("cart", "audit", ""),
        line("intruder", "deny", ""),
    ]);
    let log = log.to_str().unwrap();
    let suggested = place.run(&["policy", "suggest", "--log", log]);
    assert_eq!(suggested.code, 0, "{}", suggested.err);
    assert!(
        suggested.out.contains("spiffe://shop.local/ns/shop/sa/cart"),
        "{}",
        suggested.out
    );
    assert!(!suggested.out.contains("intruder"), "{}", suggested.out);

    // In force beside the first policy, they let in those of the trial and nobody else.
    let rules = RULES.replace("ENFORCEMENT", "enforce");
    fs::write(place.folder.path().join("rules.yaml"), rules).unwrap();
    fs::write(
        place.folder.path().join("suggested.yaml"),
        suggested.out.replace("name: api", "name: more"),
    )
    .unwrap();
    let verdict = |account: &str| {
        let id = format!("spiffe://shop.local/ns/shop/sa/{account}");
        place.explain(&id, "api-0", "8080").0
    };
    assert_eq!((verdict("web"), verdict("cart"), verdict("intruder")), (0, 0, 1));
    let again = place.run(&["policy", "suggest", "--log", log]);
    assert_eq!(again.out, "", "nothing is missing any more");
}

#[test]
fn hosts_that_were_named_during_a_trial_are_suggested_by_name() {
    let place = Place::new("enforce");
    let mut asked = line("web", "audit", "");
    for (name, value) in [
        ("direction", json!("outbound")),
        ("pod", json!("web")),
        ("dst_addr", json!("192.0.2.7")),
        ("dst_port", json!(443)),
        ("service", json!("pay.example.org")),
        ("tls", json!("plaintext")),
    ] {
        asked[name] = value;
    }
    let mut unnamed = asked.clone();
    unnamed["service"] = "".into();
    unnamed["dst_port"] = 5432.into();
    let log = place.log(&[asked, unnamed]);
    let suggested = place.run(&["policy", "suggest", "--log", log.to_str().unwrap()]);
    assert_eq!(suggested.code, 0, "{}", suggested.err);
    for part in ["kind: EgressPolicy", "- pay.example.org", "- 192.0.2.7/32"] {
        assert!(suggested.out.contains(part), "{part}: {}", suggested.out);
    }
    let explained = |to: &str, port: &str| {
        let asked = ["explain", "--from", "web.shop", "--to", to, "--port", port];
        place
            .run(&[&asked[..], &["--address", "192.0.2.7"]].concat())
            .code
    };
    assert_eq!(explained("pay.example.org", "443"), 1);
    fs::write(place.folder.path().join("suggested.yaml"), &suggested.out).unwrap();
    assert_eq!(explained("pay.example.org", "443"), 0);
    assert_eq!(explained("evil.example.org", "443"), 1, "that name alone");
    assert_eq!(
        explained("evil.example.org", "5432"),
        0,
        "that address, whatever its name"
    );
}

#[test]
fn the_report_counts_what_each_rule_did() {
    let place = Place::new("enforce");
    let log = place.log(&[
        line("web", "allow", "shop/api rule 1"),
        line("web", "allow", "shop/api rule 1"),
        line("intruder", "deny", "shop/api rule 1"),
    ]);
    let arguments = ["policy", "report", "--log", log.to_str().unwrap()];
    let ended = place.run(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(
        ended.out,
        "\
RULE                 CONNECTIONS
shop/api rule 1      2
shop/web-out rule 1  0            never used: is it needed?

FROM                                     TO     PORT  VERDICT  RULE             CONNECTIONS
spiffe://shop.local/ns/shop/sa/intruder  api-0  8080  deny                      1
spiffe://shop.local/ns/shop/sa/web       api-0  8080  allow    shop/api rule 1  2
"
    );
    let told: Value =
        serde_json::from_str(&place.run(&[&arguments[..], &["--output", "json"]].concat()).out).unwrap();
    assert_eq!(
        told["rules"][0],
        json!({ "rule": "shop/api rule 1", "connections": 2, "in_force": true })
    );
}
