//! What `ferrule` shows of a cluster, and that it is what happens there.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use ferrule_tests::kubernetes::{Cluster, Namespace, program, said, shared};
use ferrule_tests::netns::Process;
use ferrule_tests::wait::until;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::apps::{allow, client, deployment};

/// `ferrule`, about one namespace of the cluster.
struct Hand<'n> {
    shop: &'n Namespace<'n>,
    folder: TempDir,
}

impl<'n> Hand<'n> {
    fn new(shop: &'n Namespace<'n>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The tests' own `kubectl` is a program with words before those that it is given.
        let command = shop.cluster().command(&[]);
        let mut script = "#!/bin/sh\n".to_owned();
        for (name, value) in command.get_envs() {
            let value = value.unwrap_or_default().to_string_lossy();
            script += &format!("export {}='{value}'\n", name.to_string_lossy());
        }
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<String> = words
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        script += &format!("exec {} \"$@\"\n", words.join(" "));
        let kubectl = folder.path().join("kubectl");
        fs::write(&kubectl, script).unwrap();
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
        Self { shop, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command about the test's own namespace.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.anywhere(arguments);
        command.args(["--namespace", self.shop.name()]);
        command
    }

    /// A command about the whole cluster.
    fn anywhere(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("ferrule"));
        command
            .args(arguments)
            .args(["--cluster", "--kubectl"])
            .arg(self.path("kubectl"))
            // No mesh of this machine is meant.
            .env("FERRULE_STATE", self.path("none"));
        command
    }

    /// The code that it ends with, and what it prints.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let done = self.command(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        println!("ferrule {}: {}\n{error}", arguments.join(" "), done.status);
        let out = String::from_utf8(done.stdout).unwrap();
        (done.status.code().unwrap(), out)
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let (code, out) = self.run(&[arguments, &["--output", "json"]].concat());
        let told = serde_json::from_str(&out);
        (code, told.unwrap_or_else(|_| panic!("no JSON: {out}")))
    }

    /// Whether rules are said to let an account's pod reach a port of `web`.
    fn explained(&self, from: &str, port: &str) -> bool {
        let (code, told) = self.json(&["explain", "--from", from, "--to", "deploy/web", "--port", port]);
        let allowed = told["allowed"].as_bool().unwrap();
        assert_eq!(code, i32::from(!allowed), "{told:#}");
        allowed
    }

    /// The verdicts and TLS of connections with this account at `web`, as its sidecars have seen them.
    fn seen(&self, account: &str) -> Vec<(String, String)> {
        let (code, told) = self.json(&["edges"]);
        assert_eq!(code, 0, "{told:#}");
        let id = format!("spiffe://test.local/ns/{}/sa/{account}", self.shop.name());
        let rows = told.as_array().unwrap().iter().filter(|row| row["src_id"] == id);
        let mut seen: Vec<_> = rows.map(|row| (word(row, "tls"), word(row, "verdict"))).collect();
        seen.dedup();
        seen
    }

    /// A port of `web` at every address of all its pods: one for each family that the cluster has.
    fn listeners(&self, port: u16) -> BTreeSet<String> {
        let pods = self.shop.get("pods").unwrap();
        let pods = pods["items"].as_array().unwrap().iter();
        let web = pods.filter(|pod| word(&pod["metadata"], "name").starts_with("web-"));
        let addresses: Vec<IpAddr> = web
            .flat_map(|pod| pod["status"]["podIPs"].as_array().unwrap())
            .map(|address| word(address, "ip").parse().unwrap())
            .collect();
        assert!(addresses.len() >= 2, "one at least for each of the two pods");
        addresses
            .iter()
            .map(|ip| SocketAddr::new(*ip, port).to_string())
            .collect()
    }

    fn asks(&self, from: &str) -> bool {
        self.shop.ask(from, "web:8080/").is_ok()
    }
}

fn mesh(shop: &Namespace<'_>) {
    shop.apply(&allow("web", &[("client", shop.name())]));
    deployment(shop, "web", 2);
    for name in ["client", "other", "third"] {
        client(shop, name);
    }
    shop.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    until("the rule is in force", || shop.ask("client", "web:8080/").ok());
    assert!(shop.ask("other", "web:8080/").is_err());
}

fn word(of: &Value, name: &str) -> String {
    of[name].as_str().unwrap().to_owned()
}

fn seen(verdict: &str) -> Vec<(String, String)> {
    vec![("mutual".to_owned(), verdict.to_owned())]
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn what_the_commands_say_of_a_cluster_is_what_happens_there() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    mesh(&shop);
    let hand = Hand::new(&shop);

    let (code, told) = hand.json(&["check", "--guidance"]);
    assert_eq!(
        (code, &told["findings"], &told["unseen"]),
        (0, &json!([]), &json!([])),
        "{told:#}"
    );
    let controls = told["guidance"].as_array().unwrap();
    assert!(
        controls.iter().all(|control| control["state"] == "met"),
        "{told:#}"
    );

    until("both were seen", || {
        let both = [hand.seen("client"), hand.seen("other")];
        (both == [seen("allow"), seen("deny")]).then_some(())
    });
    for (who, is_in) in [("client", true), ("other", false)] {
        assert_eq!(
            (hand.explained(who, "8080"), hand.asks(who)),
            (is_in, is_in),
            "{who}"
        );
        assert!(!hand.explained(who, "8081"));
        let (code, told) = hand.json(&["verify", who, "deploy/web"]);
        let copies = told.as_array().unwrap();
        let tried = copies.iter().map(|copy| word(copy, "target")).collect();
        assert_eq!((code == 0, &hand.listeners(8080)), (is_in, &tried), "{told:#}");
        for copy in copies {
            let (mutual, clear) = (&copy["mutual"], &copy["plaintext"]["outcome"]);
            assert_eq!(mutual["tls_version"], "TLSv1.3", "{copy:#}");
            assert_eq!(mutual["tls_group"], "X25519MLKEM768", "{copy:#}");
            assert_eq!(
                (&mutual["admitted"], clear),
                (&json!(is_in), &json!("refused")),
                "{copy:#}"
            );
            assert_eq!(copy["allowed_by_rules"], is_in, "{copy:#}");
        }
    }
    beyond(&hand, &cluster);
    suggested(&hand);
    tapped(&hand);
    packed(&hand);
}

/// What lies beyond the mesh is judged with the settings of the installation, and as sidecars find their way.
fn beyond(hand: &Hand<'_>, cluster: &Cluster) {
    let stranger = Namespace::plain(cluster);
    let pod = stranger.run("stranger", &["serve", "stranger", "8080"]);
    let address = pod["status"]["podIP"].as_str().unwrap();
    let name = |of: &str| format!("{of}.{}", hand.shop.name());
    let (client, web) = (name("client"), name("web"));
    let explained = |from: &str, to: &str, port: &str| {
        let asked = [
            "explain", "--from", from, "--to", to, "--port", port, "--output", "json",
        ];
        let done = hand.anywhere(&asked).output().unwrap();
        let (code, told): (_, Value) = (
            done.status.code().unwrap(),
            serde_json::from_slice(&done.stdout).unwrap(),
        );
        let reason = told["reason"].as_str().unwrap().to_owned();
        (code, reason)
    };
    assert_eq!(explained(&client, "10.96.0.1", "443"), (0, "built-in".to_owned()));
    assert_eq!(explained(address, &web, "8080"), (1, "plaintext".to_owned()));
    assert!(
        stranger
            .ask("stranger", &format!("web.{}:8080/", hand.shop.name()))
            .is_err()
    );
    assert_eq!(
        explained(&client, address, "8080"),
        (1, "unknown_destination".to_owned())
    );
    assert!(hand.shop.ask("client", &format!("{address}:8080/")).is_err());
}

/// What was refused is what a suggestion lets in, and nothing else.
fn suggested(hand: &Hand<'_>) {
    let (code, rules) = hand.run(&["policy", "suggest", "--denied"]);
    assert_eq!(code, 0);
    assert!(!hand.asks("third"), "nobody has tried that yet");
    hand.shop.cluster().apply(&rules);
    until("what was seen is let in", || hand.asks("other").then_some(()));
    for (who, port, is_in) in [
        ("other", "8080", true),
        ("other", "8081", false),
        ("third", "8080", false),
    ] {
        assert_eq!(hand.explained(who, port), is_in, "{who} to {port}");
    }
    assert!(!hand.asks("third"), "{rules}");
    let (code, report) = hand.json(&["policy", "report"]);
    assert_eq!(code, 0);
    let used = report["rules"].as_array().unwrap().iter();
    let used = used.filter(|rule| rule["connections"].as_u64() > Some(0)).count();
    assert_eq!(used, 2, "{report:#}");

    let file = hand.path("rules.yaml");
    fs::write(&file, &rules).unwrap();
    let mut command = Command::new(program("ferrule"));
    command
        .args(["policy", "network", "--trust-domain", "test.local"])
        .arg(&file);
    let network = said(&["policy network"], &command.output().unwrap());
    hand.shop.cluster().apply(&network);
    let stored = hand.shop.get("networkpolicies").unwrap();
    assert_eq!(stored["items"].as_array().unwrap().len(), 2, "{network}");
}

/// A tap shows a connection as it ends, and leaves nothing behind in the pods.
fn tapped(hand: &Hand<'_>) {
    let mut tap = hand.command(&["tap", "--count", "1", "--output", "json"]);
    let mut tap = Process::start("tap", &mut tap, hand.folder.path());
    let line = until("the tap has seen it", || {
        hand.asks("client");
        tap.said()
            .lines()
            .find(|line| line.starts_with('{'))
            .map(str::to_owned)
    });
    assert!(line.contains(r#""verdict":"allow""#), "{line}");
    tap.ended();
    for node in hand.shop.cluster().nodes() {
        until("nothing of it runs on in the pods", || {
            let mut list = node.inside("sh");
            list.args(["-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]);
            let list = list.output().unwrap();
            // This very look has other words in its line.
            let is_there = String::from_utf8_lossy(&list.stdout).contains("ferrule-proxy control /");
            (!is_there).then_some(())
        });
    }
}

/// An archive for a report is whole, can be read by others, and has no key in it.
fn packed(hand: &Hand<'_>) {
    let file = hand.path("report.tar.gz");
    let (code, told) = hand.json(&["diagnose", file.to_str().unwrap()]);
    assert_eq!((code, &told["unseen"]), (0, &json!([])), "{told:#}");
    let text = said(
        &["tar"],
        &Command::new("tar").arg("-xOzf").arg(&file).output().unwrap(),
    );
    for secret in ["PRIVATE KEY", "eyJ", "ferrule-join-"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let names = told["entries"].to_string();
    for part in [
        "control-plane/logs/ferrule-ca-0.log",
        "control-plane/ferrule-injector/injector.yaml",
        &format!("sidecars/{}/client/certificates.json", hand.shop.name()),
        &format!("sidecars/{}/client/proxy.log", hand.shop.name()),
        "check.json",
    ] {
        assert!(names.contains(part), "{part}: {names}");
    }
    let id = format!("spiffe://test.local/ns/{}/sa/client", hand.shop.name());
    assert!(text.contains(&id), "certificates are told");
}
