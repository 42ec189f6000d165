//! What happens when parts of the control plane are away, wrong, or begin from nothing.

use std::process::Command;

use ferrule_tests::kubernetes::{Cluster, Namespace, alone, pod, said, shared};
use ferrule_tests::wait::until;
use serde_json::json;

const SYSTEM: [&str; 2] = ["--namespace", "ferrule-system"];

fn scale(cluster: &Cluster, replicas: u8) {
    let replicas = format!("--replicas={replicas}");
    cluster.kubectl(&[
        "scale",
        "deployment/ferrule-injector",
        &replicas,
        SYSTEM[0],
        SYSTEM[1],
    ]);
    if replicas.ends_with("=0") {
        cluster.kubectl(&[
            "wait",
            "--for=delete",
            "pod",
            "--selector=app.kubernetes.io/name=ferrule-injector",
            "--timeout=120s",
            SYSTEM[0],
            SYSTEM[1],
        ]);
    }
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn without_the_injector_only_namespaces_of_the_mesh_wait_and_it_begins_from_nothing() {
    let cluster = alone();
    let (shop, plain) = (Namespace::meshed(&cluster), Namespace::plain(&cluster));
    scale(&cluster, 0);
    let why = shop.refusal(&pod("web", &["pause"]));
    assert!(why.contains("pods.ferrule.dev"), "{why}");
    plain.run("other", &["pause"]);
    let mut out = pod("out", &["pause"]);
    out["metadata"]["labels"]["ferrule.dev/inject"] = json!("disabled");
    shop.apply(&out);
    shop.ready("out");

    // All of the control plane is gone at once; nothing in it waits for its own webhook.
    cluster.kubectl(&["delete", "pods", "--all", "--wait=true", SYSTEM[0], SYSTEM[1]]);
    scale(&cluster, 2);
    cluster.installed();
    shop.run("web", &["pause"]);
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_wrong_ca_bundle_of_the_webhook_lets_nothing_through_and_is_mended() {
    let cluster = alone();
    let shop = Namespace::meshed(&cluster);
    let bundle = || {
        let found = cluster.get("mutatingwebhookconfiguration/ferrule-injector", &[])?;
        found["webhooks"][0]["clientConfig"]["caBundle"]
            .as_str()
            .map(str::to_owned)
    };
    let right = bundle().unwrap();
    let other = ferrule_tests::pki::Authority::new().pem();
    use base64::Engine as _;
    let wrong = base64::engine::general_purpose::STANDARD.encode(other);
    let patch =
        json!([{ "op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": wrong }]).to_string();
    let spoil = || {
        cluster.kubectl(&[
            "patch",
            "mutatingwebhookconfiguration/ferrule-injector",
            "--type=json",
            "--patch",
            &patch,
        ]);
    };
    spoil();
    until("the bundle is the right one again", || {
        (bundle()? == right).then_some(())
    });
    shop.run("web", &["pause"]);

    // With nobody there to mend it, it stays closed.
    scale(&cluster, 0);
    spoil();
    let why = shop.refusal(&pod("other", &["pause"]));
    assert!(why.contains("pods.ferrule.dev"), "{why}");
    scale(&cluster, 2);
    cluster.installed();
    until("the bundle is the right one again", || {
        (bundle()? == right).then_some(())
    });
    shop.run("other", &["pause"]);
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn the_webhook_refuses_a_body_that_is_too_large_and_goes_on() {
    let cluster = shared();
    let node = &cluster.nodes()[0];
    let service = cluster.get("service/ferrule-injector", &SYSTEM).unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, vec![b'x'; 4 * 1024 * 1024]).unwrap();
    let ask = |file: &str| {
        let mut command: Command = node.command("curl");
        // Whoever reaches the port may ask; the certificate is looked at elsewhere.
        command.args([
            "--silent",
            "--insecure",
            "--max-time",
            "20",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        command.args([
            "--header",
            "content-type: application/json",
            "--data-binary",
            file,
        ]);
        command.arg(format!("https://{address}/inject"));
        let done = command.output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let large = ask(&format!("@{}", body.display()));
    assert!(large == "413" || large == "000", "{large}");
    let code: u16 = ask("{}").parse().unwrap();
    assert!((400..500).contains(&code), "no question, no answer: {code}");
    let shop = Namespace::meshed(&cluster);
    shop.run("web", &["pause"]);
}

// C6.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_pod_that_started_without_the_redirect_is_never_ready() {
    let cluster = alone();
    let shop = Namespace::meshed(&cluster);
    let set = "daemonset/ferrule-cni";
    let away =
        json!({ "spec": { "template": { "spec": { "nodeSelector": { "no": "node" } } } } }).to_string();
    cluster.kubectl(&["patch", set, "--namespace", "ferrule-cni", "--patch", &away]);
    cluster.kubectl(&[
        "wait",
        "--for=delete",
        "pod",
        "--all",
        "--namespace",
        "ferrule-cni",
        "--timeout=120s",
    ]);
    shop.apply(&pod("naked", &["serve", "naked", "8080"]));
    // Its sidecar says so, again and again; the application is not even started.
    let why = until("the sidecar misses the redirect", || {
        let done = shop.try_kubectl(&["logs", "naked", "--container", "ferrule-proxy"]);
        let log = String::from_utf8_lossy(&done.stdout).into_owned();
        (log.contains("redirect") && log.lines().count() > 5).then_some(log)
    });
    let pod = shop.get("pod/naked").unwrap();
    let started = &pod["status"]["containerStatuses"][0]["started"];
    assert_eq!(started, &json!(false), "{why}");
    let back = json!({ "spec": { "template": { "spec": { "nodeSelector": null } } } }).to_string();
    cluster.kubectl(&["patch", set, "--namespace", "ferrule-cni", "--patch", &back]);
    cluster.installed();
    shop.run("dressed", &["pause"]);
}

// A6.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn the_ca_takes_no_token_but_one_for_it_that_is_bound_to_a_living_pod() {
    let cluster = shared();
    let shop = Namespace::plain(&cluster);
    shop.run("web", &["pause"]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let trust = cluster.get("configmap/ferrule-trust", &SYSTEM).unwrap();
    std::fs::write(at("bundle"), trust["data"]["bundle.pem"].as_str().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap();
    let ca = cluster.get("service/ferrule-ca", &SYSTEM).unwrap();
    let ca = ca["spec"]["clusterIP"].as_str().unwrap();
    let ask = |token: &str| {
        let body = json!({ "csr": csr, "evidence": { "kind": "kubernetes_token", "token": token } });
        std::fs::write(at("body"), body.to_string()).unwrap();
        let mut command = cluster.nodes()[0].command("curl");
        command.args([
            "--silent",
            "--max-time",
            "20",
            "--cacert",
            &at("bundle"),
            "--data",
            &format!("@{}", at("body")),
        ]);
        command.args([
            "--header",
            "content-type: application/json",
            "--write-out",
            "\n%{http_code}",
        ]);
        command.args(["--resolve", &format!("ferrule-ca.ferrule-system.svc:15010:{ca}")]);
        let done = command
            .arg("https://ferrule-ca.ferrule-system.svc:15010/v1/issue")
            .output()
            .unwrap();
        said(&["curl"], &done)
    };
    // Many are refused here, and whoever is refused often has to slow down.
    let issue = |token: &str| {
        until("the CA lets it ask", || {
            let answer = ask(token);
            (!answer.ends_with("\n429")).then_some(answer)
        })
    };
    let uid = shop.get("pod/web").unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let bound = [
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        "web",
        "--bound-object-uid",
        &uid,
    ];
    let token = |audience: &str, bound: &[&str]| {
        let mut arguments = vec!["create", "token", "default", "--audience", audience];
        arguments.extend(bound);
        shop.kubectl(&arguments).trim().to_owned()
    };
    let good = token("ferrule-ca", &bound);
    let issued = issue(&good);
    assert!(
        issued.ends_with("\n200") && issued.contains("BEGIN CERTIFICATE"),
        "{issued}"
    );

    let parts: Vec<&str> = good.split('.').collect();
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let header = |text: &str, signature: &str| format!("{}.{}.{signature}", encode(text), parts[1]);
    let claims = |change: &dyn Fn(&mut serde_json::Value)| {
        let raw = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(parts[1])
            .unwrap();
        let mut claims: serde_json::Value = serde_json::from_slice(&raw).unwrap();
        change(&mut claims);
        format!("{}.{}.{}", parts[0], encode(&claims.to_string()), parts[2])
    };
    let legacy = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": { "name": "legacy", "annotations": { "kubernetes.io/service-account.name": "default" } },
    });
    shop.apply(&legacy);
    let legacy = until("the old kind of token is made", || {
        let secret = shop.get("secret/legacy")?;
        let token = secret["data"]["token"].as_str()?.to_owned();
        let token = base64::engine::general_purpose::STANDARD.decode(token).ok()?;
        String::from_utf8(token).ok()
    });
    let elsewhere = token("https://kubernetes.default.svc.cluster.local", &bound);
    let symmetric = header(r#"{"alg":"HS256","typ":"JWT"}"#, parts[2]);
    let path = header(r#"{"alg":"RS256","kid":"../../../dev/null"}"#, parts[2]);
    let endless = claims(&|claims| drop(claims.as_object_mut().unwrap().remove("exp")));
    let past = claims(&|claims| claims["exp"] = json!(1_700_000_000));
    let other = claims(&|claims| claims["sub"] = json!("system:serviceaccount:kube-system:default"));
    for (reason, token) in [
        ("token_audience", elsewhere),
        ("token_not_bound", token("ferrule-ca", &[])),
        (
            "token_algorithm_none",
            header(r#"{"alg":"none","typ":"JWT"}"#, ""),
        ),
        ("token_algorithm_symmetric", symmetric),
        ("token_key_name", path),
        ("token_no_expiry", endless),
        ("token_expired", past),
        ("token_not_authenticated", other),
        ("token_audience", legacy),
        ("token_malformed", "x".to_owned()),
    ] {
        refused(&issue(&token), reason);
    }
    shop.kubectl(&["delete", "pod", "web", "--now", "--wait=true"]);
    let answer = until("the API server has noticed", || {
        Some(issue(&good)).filter(|answer| !answer.ends_with("\n200"))
    });
    refused(&answer, "token_not_authenticated");
}

fn refused(answer: &str, reason: &str) {
    let word = format!(r#""error":"{reason}""#);
    assert!(
        answer.contains(&word) && answer.ends_with("\n401"),
        "not {reason}: {answer}"
    );
}
