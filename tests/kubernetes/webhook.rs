//! How the webhook bears what an API server, or somebody else, does to it.

use std::fs;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferrule_tests::kubernetes::{Cluster, Namespace, alone, pod, said, shared};
use ferrule_tests::netns::Process;
use ferrule_tests::wait::until;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::control::scale;

const SYSTEM: [&str; 2] = ["--namespace", "ferrule-system"];

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_webhook_that_does_not_answer_in_time_keeps_only_namespaces_of_the_mesh_waiting() {
    let cluster = alone();
    let (shop, plain) = (Namespace::meshed(&cluster), Namespace::plain(&cluster));
    let selector = "--selector=app.kubernetes.io/name=ferrule-injector";
    let found = cluster.get("pods", &[selector, SYSTEM[0], SYSTEM[1]]).unwrap();
    let each = |signal: &str| {
        for pod in found["items"].as_array().unwrap() {
            cluster
                .node_of(pod)
                .signal(&pod["status"]["containerStatuses"][0], signal);
        }
    };
    each("SIGSTOP");
    let why = shop.refusal(&pod("web", &["pause"]));
    let other = plain.try_apply(&pod("other", &["pause"]));
    each("SIGCONT");
    assert!(why.contains("pods.ferrule.dev"), "{why}");
    said(&["apply"], &other);
    until("it answers again", || {
        shop.try_apply(&pod("web", &["pause"]))
            .status
            .success()
            .then_some(())
    });
    shop.ready("web");
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_question_that_is_asked_again_gets_the_same_answer_and_changes_nothing() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    let pods = || shop.get("pods").unwrap()["items"].clone();
    let before = pods();
    let question = pod("web", &["pause"]);
    let first = ask(&cluster, &shop, &question);
    assert_eq!(first["response"]["allowed"], true, "{first:#}");
    assert!(
        first["response"]["patch"]
            .as_str()
            .is_some_and(|patch| patch.len() > 100),
        "{first:#}"
    );
    assert_eq!(ask(&cluster, &shop, &question), first);
    assert_eq!(pods(), before, "an answer makes no pod");
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_webhook_whose_certificate_has_expired_lets_nothing_through_but_what_is_outside_the_mesh() {
    let cluster = alone();
    let (shop, plain) = (Namespace::meshed(&cluster), Namespace::plain(&cluster));
    let led = Led::away(&cluster);
    let mut refusals = Vec::new();
    for (name, ended) in [("good", false), ("expired", true)] {
        let stand_in = StandIn::start(&cluster, name, ended);
        led.to(&stand_in.config);
        // The API server takes a moment to see that its configuration has changed.
        let why = until("the API server asks there", || {
            let why = shop.refusal(&pod("web", &["pause"]));
            why.contains(&stand_in.place).then_some(why)
        });
        refusals.push(why);
        plain.run(name, &["pause"]);
        let mut out = pod(&format!("{name}-out"), &["pause"]);
        out["metadata"]["labels"]["ferrule.dev/inject"] = json!("disabled");
        shop.apply(&out);
    }
    drop(led);
    cluster.installed();
    until("the API server asks the right one again", || {
        shop.try_apply(&pod("web", &["pause"]))
            .status
            .success()
            .then_some(())
    });
    shop.ready("web");
    // What stands there answers no question of this kind; the second was not even asked.
    assert!(!refusals[0].contains("expired"), "{}", refusals[0]);
    assert!(
        refusals[1].contains("certificate has expired") && refusals[1].contains("pods.ferrule.dev"),
        "{}",
        refusals[1]
    );
}

/// The API server asks somebody else about pods, and no injector is there to mend that, until this is dropped.
struct Led<'a> {
    cluster: &'a Cluster,
    usual: Value,
}

impl<'a> Led<'a> {
    fn away(cluster: &'a Cluster) -> Self {
        let found = cluster.get("mutatingwebhookconfiguration/ferrule-injector", &[]);
        let usual = found.unwrap()["webhooks"][0]["clientConfig"].clone();
        scale(cluster, 0);
        Self { cluster, usual }
    }

    fn to(&self, config: &Value) {
        said(&["patch"], &self.lead(config));
    }

    fn lead(&self, config: &Value) -> Output {
        let patch =
            json!([{ "op": "replace", "path": "/webhooks/0/clientConfig", "value": config }]).to_string();
        let what = "mutatingwebhookconfiguration/ferrule-injector";
        self.cluster
            .try_kubectl(&["patch", what, "--type=json", "--patch", &patch])
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        // Whatever does not work here is seen by whoever waits for the injector.
        self.lead(&self.usual);
        self.cluster.try_kubectl(&[
            "scale",
            "deployment/ferrule-injector",
            "--replicas=2",
            SYSTEM[0],
            SYSTEM[1],
        ]);
    }
}

/// Something with a certificate where the API server can ask it.
struct StandIn {
    place: String,
    /// Where it is, and whom to trust to be there.
    config: Value,
    _process: Process,
    _folder: TempDir,
}

impl StandIn {
    fn start(cluster: &Cluster, name: &str, ended: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file);
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let mut leaf = CertificateParams::new(["10.99.0.1".to_owned()]).unwrap();
        let now = OffsetDateTime::now_utc();
        leaf.not_before = now - Duration::hours(2);
        leaf.not_after = now + Duration::hours(if ended { -1 } else { 1 });
        let key = KeyPair::generate().unwrap();
        fs::write(at("leaf.pem"), leaf.signed_by(&key, &root).unwrap().pem()).unwrap();
        fs::write(at("leaf.key"), key.serialize_pem()).unwrap();
        let place = format!("10.99.0.1:{}", if ended { 15118 } else { 15117 });
        let mut command = cluster.nodes()[0].command("openssl");
        command.args(["s_server", "-www", "-accept", &place, "-cert"]);
        command.arg(at("leaf.pem")).arg("-key").arg(at("leaf.key"));
        let process = Process::start(name, &mut command, folder.path());
        until("it listens", || process.said().contains("ACCEPT").then_some(()));
        Self {
            config: json!({
                "url": format!("https://{place}/inject"), "caBundle": STANDARD.encode(root.pem()),
            }),
            place,
            _process: process,
            _folder: folder,
        }
    }
}

/// Asks as the API server does, from elsewhere.
fn ask(cluster: &Cluster, shop: &Namespace<'_>, object: &Value) -> Value {
    let service = cluster.get("service/ferrule-injector", &SYSTEM).unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": shop.name(),
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "userInfo": { "username": "somebody" }, "object": object,
        },
    });
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    fs::write(&body, review.to_string()).unwrap();
    let mut curl = cluster.nodes()[0].command("curl");
    curl.args([
        "--silent",
        "--insecure",
        "--max-time",
        "20",
        "--header",
        "content-type: application/json",
    ]);
    curl.arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .arg(format!("https://{address}/inject"));
    let answer = said(&["curl"], &curl.output().unwrap());
    serde_json::from_str(&answer).unwrap()
}
