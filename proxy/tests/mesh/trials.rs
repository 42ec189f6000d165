//! Rules that are being tried out are judged, counted and logged, and end nothing.

use std::fs;
use std::time::{Duration, Instant};

use crate::program::Running;
use crate::sidecar::{API, Mesh, Sidecar, dial, rest, say};

/// A rule about `web`; `words` are its action and its enforcement.
fn rule(mesh: &Mesh, name: &str, words: &str) {
    let text = format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{ namespace: shop, name: {name} }}\n\
         spec: {{ workloads: all, {words}, rules: [{{ from: [{{ identities: [spiffe://shop.local/ns/shop/*] }}] }}] }}\n"
    );
    let aside = mesh.folder.path().join("aside");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, mesh.rules().join(format!("{name}.yaml"))).unwrap();
}

/// Opens one connection through both sidecars.
fn passes(mesh: &Mesh, web: &Sidecar) {
    let mut client = dial(web.door(0));
    say(&mut client, &mut mesh.accept(), b"hello");
}

#[test]
fn a_deny_on_trial_blocks_nobody_and_enforced_it_ends_what_is_open() {
    let mesh = Mesh::new();
    mesh.allow();
    rule(&mesh, "no", "action: deny, enforcement: audit");
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    passes(&mesh, &web);
    api.counts(&["connections_total", "inbound", "verdict=\"audit\"", "finished"]);
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    rule(&mesh, "no", "action: deny, enforcement: enforce");
    let began = Instant::now();
    assert!(!rest(&mut server).1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "took {took:?}");
    assert!(!rest(&mut client).1);
    assert!(!rest(&mut dial(web.door(0))).1);
}

// With no rule that allows but one on trial, nobody is refused for want of a rule; who would have been is told.
#[test]
fn an_allow_on_trial_refuses_nobody_and_says_whom_it_would() {
    let mesh = Mesh::new();
    let text = "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: { namespace: shop, name: trial }\n\
                spec: { workloads: all, action: allow, enforcement: audit,\n  \
                rules: [{ from: [{ identities: [spiffe://shop.local/ns/shop/sa/admin] }] }] }\n";
    fs::write(mesh.rules().join("trial.yaml"), text).unwrap();
    let api = Running::start(&mesh, &mesh.api_settings(""), 1024);
    let door = api.door();
    api.line("message", "documents taken");
    let web = mesh.web_sidecar(door, API, "");
    passes(&mesh, &web);
    let line = api.line("event", "close");
    assert_eq!(
        (&line["verdict"], &line["reason"]),
        (&"audit".into(), &"finished".into())
    );
    let detail = line["detail"].as_str().unwrap();
    assert!(
        detail.contains("shop/trial") && detail.contains("/sa/web"),
        "{detail}"
    );
}
