//! Commands about a cluster: `kubectl` tells of the sidecars of a mesh that runs here as if they were in pods.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::ferrule::{Ended, Running, ferrule, run};
use crate::mesh::{INTRUDER, Mesh, WEB, until};

/// A mesh whose sidecars are reached through a `kubectl` alone.
struct Cluster {
    mesh: Mesh,
    pods: Vec<Value>,
}

impl Cluster {
    fn start() -> Self {
        let mesh = Mesh::start();
        // What is asked for by several kinds at once, and what `exec` starts in the sidecar's container.
        let script = format!(
            "#!/bin/sh\nhere=$(dirname \"$0\")\nfor last; do :; done\ncase \"$*\" in\n  \
             exec*' control '*) exec {} proxy control \"$last\" ;;\n  \
             *raw*) exit 1 ;;\n  *'get accesspolicies'*) exec cat \"$here/rules.json\" ;;\n  *'get pods'*) exec cat \"$here/pods.json\" ;;\n  \
             *configmaps*) exec cat \"$here/configmaps.json\" ;;\n  *'logs '*) exec cat \"$here/log\" ;;\n  *' get '*|*version*) echo '{{\"items\":[]}}' ;;\n  \
             *) echo \"no $*\" >&2; exit 1 ;;\nesac\n",
            env!("CARGO_BIN_EXE_ferrule")
        );
        fs::write(mesh.path("kubectl"), script).unwrap();
        fs::set_permissions(mesh.path("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut cluster = Self {
            mesh,
            pods: Vec::new(),
        };
        for (name, address) in [("api", "127.0.0.2"), ("web", WEB), ("intruder", INTRUDER)] {
            let socket = cluster.mesh.socket(name);
            cluster.add(name, address, &socket);
        }
        let port = cluster.mesh.port;
        let rule = |kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": "ferrule.dev/v1alpha1", "kind": kind, "spec": spec, "status": {},
                "metadata": { "namespace": "shop", "name": name, "uid": "1", "managedFields": [{}] },
            })
        };
        let ids = json!(["spiffe://shop.local/ns/shop/sa/web"]);
        let access = json!({
            "workloads": { "labels": { "app": "api" } }, "action": "allow",
            "rules": [{ "from": [{ "identities": ids }], "ports": [port] }],
        });
        let egress = json!({
            "workloads": { "labels": { "app": "web" } },
            "allow": [{ "services": [{ "namespace": "legacy", "name": "ldap" }] }],
        });
        cluster.tell(
            "rules",
            &[
                rule("AccessPolicy", "api", access),
                rule("EgressPolicy", "web-out", egress),
            ],
        );
        let map = json!({ "metadata": { "name": "ferrule-injector" }, "data": { "injector.yaml": "trust_domain: shop.local\n" } });
        cluster.tell("configmaps", &[map]);
        let log = "-----BEGIN PRIVATE KEY-----\nPLANTEDKEY\n-----END PRIVATE KEY-----\nlast line\n";
        fs::write(cluster.mesh.path("log"), log).unwrap();
        cluster
    }

    /// Adds a pod of a Deployment of that name.
    fn add(&mut self, name: &str, address: &str, socket: &str) {
        let settings = json!({
            "trust_domain": "shop.local", "admin": { "socket": socket },
            "mesh": { "ranges": ["127.0.0.0/8"], "resolvers": ["127.0.0.53"], "api_server": ["127.0.0.60:443"] },
        });
        let port = self.mesh.port;
        self.pods.push(json!({
            "kind": "Pod",
            "metadata": {
                "namespace": "shop", "name": format!("{name}-5d4f-x2x"), "creationTimestamp": "2026-11-22T00:00:00Z",
                "labels": { "app": name, "pod-template-hash": "5d4f" },
                "annotations": { "ferrule.dev/status": "{\"capture\":\"none\"}" },
                "ownerReferences": [{ "controller": true, "kind": "ReplicaSet", "name": format!("{name}-5d4f") }],
            },
            "spec": {
                "serviceAccountName": name,
                "initContainers": [{ "name": "ferrule-proxy", "args": ["run", "--settings", settings.to_string()] }],
                "containers": [{
                    "name": "app", "ports": [{ "containerPort": port }], "env": [{ "name": "X", "value": "PLANTEDENV" }],
                }],
            },
            "status": {
                "phase": "Running", "podIP": address,
                "initContainerStatuses": [{ "name": "ferrule-proxy", "ready": true, "started": true }],
            },
        }));
        self.write();
    }

    fn write(&self) {
        let plain = json!({
            "kind": "Pod", "metadata": { "namespace": "shop", "name": "naked" }, "spec": { "containers": [{ "name": "app" }] },
            "status": { "phase": "Running", "podIP": "127.0.0.9" },
        });
        let service = |namespace: &str, name: &str, address: &str, port: u16| {
            json!({
                "kind": "Service", "metadata": { "namespace": namespace, "name": name },
                "spec": { "clusterIP": address, "selector": { "app": name }, "ports": [{ "port": port }] },
            })
        };
        let slice = |namespace: &str, name: &str, address: &str, port: u16| {
            json!({
                "kind": "EndpointSlice",
                "metadata": { "namespace": namespace, "name": "x", "labels": { "kubernetes.io/service-name": name } },
                "endpoints": [{ "addresses": [address] }], "ports": [{ "port": port }],
            })
        };
        let mut all = self.pods.clone();
        all.extend([
            plain,
            service("shop", "front", "127.0.0.40", 80),
            slice("shop", "front", "127.0.0.2", self.mesh.port),
            service("legacy", "ldap", "127.0.0.50", 389),
            slice("legacy", "ldap", "127.0.0.51", 10389),
        ]);
        self.tell("pods", &all);
    }

    fn tell(&self, what: &str, items: &[Value]) {
        let text = json!({ "items": items }).to_string();
        fs::write(self.mesh.path(&format!("{what}.json")), text).unwrap();
    }

    /// A command about this cluster; nothing runs here that it could take instead.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ferrule(arguments);
        command
            .args(["--cluster", "--kubectl"])
            .arg(self.mesh.path("kubectl"));
        command.env("PATH", "/usr/bin:/bin");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let ended = self.run(&[arguments, &["--output", "json"]].concat());
        let told = serde_json::from_str(&ended.out);
        (ended.code, told.unwrap_or_else(|_| panic!("no JSON: {ended:?}")))
    }

    /// The code, and the reason, of an explanation.
    fn explained(&self, from: &str, to: &str, port: u16) -> (i32, String) {
        let port = port.to_string();
        let (code, told) = self.json(&["explain", "--from", from, "--to", to, "--port", &port]);
        (code, told["reason"].as_str().unwrap().to_owned())
    }
}

#[test]
fn edges_come_from_all_sidecars_that_answer_and_the_silent_one_is_named() {
    let mut cluster = Cluster::start();
    assert!(cluster.mesh.call(WEB));
    assert!(!cluster.mesh.call(INTRUDER));
    let mut rows = Vec::new();
    until("both connections have ended", || {
        let (code, told) = cluster.json(&["edges"]);
        assert_eq!(code, 0, "{told:#}");
        rows = told.as_array().unwrap().clone();
        rows.len() == 2
    });
    let verdicts: Vec<&str> = rows.iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["deny", "allow"], "{rows:#?}");

    cluster.add("gone", "127.0.0.5", "/no/such/socket");
    let ended = cluster.run(&["edges", "--namespace", "shop"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.out.contains("web.shop") && ended.out.contains("intruder.shop"),
        "{}",
        ended.out
    );
    assert!(
        ended
            .err
            .starts_with("gone-5d4f-x2x.shop: cannot ask gone-5d4f-x2x.shop: "),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("cannot open the debug socket"),
        "{}",
        ended.err
    );
}

#[test]
fn tap_goes_through_the_cluster_too() {
    let cluster = Cluster::start();
    let mut command = cluster.command(&["tap", "--denied", "--count", "1", "--output", "json"]);
    let mut tap = Running::start(&mut command);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let line = std::thread::scope(|scope| {
        scope.spawn(|| {
            until("the tap has seen it", || {
                assert!(!cluster.mesh.call(INTRUDER));
                stop.load(std::sync::atomic::Ordering::Relaxed)
            });
        });
        let line = tap.line("");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        line
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["src_id"], "spiffe://shop.local/ns/shop/sa/intruder");
    assert_eq!(tap.ended(), 0);
}

#[test]
fn explain_and_the_wire_agree_in_a_cluster() {
    let cluster = Cluster::start();
    let port = cluster.mesh.port;
    for (who, is_in) in [("web", true), ("intruder", false)] {
        let (code, told) = cluster.json(&["verify", who, "api"]);
        let first = &told[0];
        assert_eq!(first["mutual"]["admitted"], is_in, "{told:#}");
        assert_eq!(first["allowed_by_rules"], is_in, "{told:#}");
        assert_eq!(
            first["name"],
            format!("{who}-5d4f-x2x.shop -> api-5d4f-x2x.shop:{port}")
        );
        assert_eq!(first["mutual"]["peer"], "spiffe://shop.local/ns/shop/sa/api");
        assert_eq!(first["plaintext"]["outcome"], "refused");
        assert_eq!(
            (code == 0, cluster.explained(who, "api", port).0 == 0),
            (is_in, is_in)
        );
    }
}

#[test]
fn pods_are_called_after_themselves_what_keeps_them_their_account_or_their_service() {
    let cluster = Cluster::start();
    let port = cluster.mesh.port;
    for from in [
        "web",
        "web.shop",
        "web-5d4f-x2x",
        "pod/web-5d4f-x2x.shop",
        "deploy/web.shop",
        "sa/web",
        WEB,
    ] {
        assert_eq!(
            cluster.explained(from, "api", port),
            (0, "rule".to_owned()),
            "{from}"
        );
    }
    for to in [
        "api-5d4f-x2x.shop",
        "deployment/api",
        "front",
        "svc/front.shop",
        "front.shop.svc.cluster.local",
        "127.0.0.2",
    ] {
        assert_eq!(cluster.explained("web", to, port), (0, "rule".to_owned()), "{to}");
        assert_eq!(cluster.explained("intruder", to, port).0, 1, "{to}");
    }
    let ended = cluster.run(&["explain", "--from", "nobody", "--to", "api", "--port", "1"]);
    assert_eq!(ended.code, 64, "{ended:?}");
    assert!(
        ended.err.contains("api.shop, intruder.shop, web.shop"),
        "{}",
        ended.err
    );
}

#[test]
fn what_lies_beside_the_mesh_is_judged_as_a_sidecar_does() {
    let cluster = Cluster::start();
    let port = cluster.mesh.port;
    let reason = |from: &str, to: &str, port: u16| cluster.explained(from, to, port).1;
    assert_eq!(reason("naked", "api", port), "plaintext");
    assert_eq!(reason("web", "ldap.legacy", 389), "rule");
    assert_eq!(reason("web", "127.0.0.50", 389), "rule");
    assert_eq!(reason("intruder", "ldap.legacy", 389), "no-policy");
    assert_eq!(reason("web", "ldap.legacy", 390), "unknown_destination");
    // A pod without a sidecar, behind no service that a rule could name.
    assert_eq!(reason("web", "naked", 8080), "unknown_destination");
    assert_eq!(reason("web", "127.0.0.77", 443), "unknown_destination");
    assert_eq!(reason("web", "127.0.0.60", 443), "built-in");
    let part = [
        "explain",
        "--from",
        "web",
        "--to",
        "127.0.0.77",
        "--port",
        "443",
        "--namespace",
        "shop",
    ];
    let ended = cluster.run(&part);
    assert_eq!(ended.code, 2, "somebody may be there, elsewhere: {ended:?}");
    let ended = cluster.run(&["verify", "web", "naked"]);
    assert_eq!(ended.code, 64);
    assert!(ended.err.contains("naked has no sidecar"), "{}", ended.err);
}

#[test]
fn copies_that_rules_tell_apart_are_told_apart() {
    let mut cluster = Cluster::start();
    let socket = cluster.mesh.socket("api");
    cluster.add("api", "127.0.0.6", &socket);
    let pod = cluster.pods.last_mut().unwrap();
    pod["metadata"]["name"] = "api-5d4f-new".into();
    pod["metadata"]["labels"]["app"] = "other".into();
    cluster.write();
    let port = cluster.mesh.port.to_string();
    let asked = ["explain", "--from", "web", "--to", "deploy/api", "--port", &port];
    let (code, told) = cluster.json(&asked);
    assert_eq!((code, &told["allowed"]), (1, &json!(false)), "{told:#}");
    assert_eq!(told["other_copies"][0]["allowed"], true, "{told:#}");
    assert!(
        cluster
            .run(&asked)
            .err
            .contains("its copies differ in their labels")
    );
}

#[test]
fn what_a_cluster_denied_is_suggested_and_reported() {
    let cluster = Cluster::start();
    assert!(cluster.mesh.call(WEB));
    assert!(!cluster.mesh.call(INTRUDER));
    until("both connections have ended", || {
        cluster.json(&["edges"]).1.as_array().unwrap().len() == 2
    });
    let suggested = cluster.run(&["policy", "suggest", "--denied"]);
    assert_eq!(suggested.code, 0, "{suggested:?}");
    for part in ["kind: AccessPolicy", "app: api", "sa/intruder"] {
        assert!(suggested.out.contains(part), "{part}: {}", suggested.out);
    }
    assert!(!suggested.out.contains("sa/web"), "{}", suggested.out);
    assert!(!suggested.out.contains("pod-template-hash"), "{}", suggested.out);
    let (code, report) = cluster.json(&["policy", "report"]);
    assert_eq!(code, 0);
    assert_eq!(
        report["rules"][0],
        json!({ "rule": "shop/api rule 1", "connections": 1, "in_force": true })
    );
}

#[test]
fn a_report_of_a_cluster_has_no_secret_in_it_and_names_who_was_silent() {
    let mut cluster = Cluster::start();
    cluster.add("gone", "127.0.0.5", "/no/such/socket");
    let file = cluster.mesh.path("report.tar.gz");
    let (code, told) = cluster.json(&["diagnose", file.to_str().unwrap()]);
    assert_eq!(code, 2, "{told:#}");
    let unseen = told["unseen"].to_string();
    assert!(unseen.contains("config.yaml of gone-5d4f-x2x.shop"), "{unseen}");
    let mut text = Vec::new();
    let packed = fs::read(&file).unwrap();
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut text)
        .unwrap();
    let text = String::from_utf8_lossy(&text);
    let key = fs::read_to_string(cluster.mesh.path("web.key")).unwrap();
    for secret in ["PLANTEDKEY", "PLANTEDENV", key.lines().nth(1).unwrap()] {
        assert!(!text.contains(secret), "{secret}");
    }
    for part in [
        "sidecars/shop/web-5d4f-x2x/certificates.json",
        "not_after",
        "last line",
        "ferrule_connections",
        "control-plane/ferrule-injector/injector.yaml",
        "rules/shop/AccessPolicy-api.json",
        "\"guidance\"",
        "naked",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn without_a_mesh_here_the_cluster_is_the_next_step_and_its_own_fault_is_told() {
    for command in [
        &["edges"][..],
        &["tap"],
        &["verify", "a", "b"],
        &["explain", "--from", "a", "--to", "b", "--port", "1"],
        &["check"],
        &["diagnose"],
        &["policy", "suggest"],
        &["policy", "report"],
    ] {
        let ended = run(&mut ferrule(command));
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains("--cluster"), "{}", ended.err);
    }
    let folder = tempfile::tempdir().unwrap();
    let kubectl = folder.path().join("kubectl");
    let said = "The connection to the server localhost:8080 was refused";
    fs::write(
        &kubectl,
        format!("#!/bin/sh\necho 'E1122 15:00:00.1 1 memcache.go:265] x' >&2\necho '{said}' >&2\nexit 1\n"),
    )
    .unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = ferrule(&["edges", "--cluster", "--kubectl"]);
    let ended = run(command.arg(&kubectl).env("PATH", "/usr/bin:/bin"));
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains(said), "{}", ended.err);
    let mut command = ferrule(&["edges", "--cluster", "--kubectl", "/no/such/kubectl"]);
    let ended = run(&mut command);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("cannot run /no/such/kubectl"), "{}", ended.err);
}

#[test]
fn a_cluster_without_sidecars_says_how_to_get_some() {
    let mut cluster = Cluster::start();
    cluster.pods.clear();
    cluster.write();
    let ended = cluster.run(&["edges", "--namespace", "shop"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("no pod of the namespace shop has a sidecar"),
        "{}",
        ended.err
    );
}

#[test]
fn rules_with_faults_are_named_by_their_objects() {
    let cluster = Cluster::start();
    let fault = json!({
        "apiVersion": "ferrule.dev/v1alpha1", "kind": "AccessPolicy", "metadata": { "namespace": "shop", "name": "bad" },
        "spec": { "workloads": "all", "acton": "allow" },
    });
    cluster.tell("rules", &[fault]);
    let ended = cluster.run(&["explain", "--from", "web", "--to", "api", "--port", "1"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("AccessPolicy shop/bad:"), "{}", ended.err);
    assert!(ended.err.contains("acton"), "{}", ended.err);
}
