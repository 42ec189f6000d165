//! Permissive ports take what comes in clear, and tell it from the mesh's own TLS.

use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::sidecar::{API, Mesh, dial, rest, say};

fn permissive(mesh: &Mesh) {
    let text = "apiVersion: ferrule.dev/v1alpha1\nkind: MeshPolicy\nmetadata: { namespace: shop, name: migration }\n\
                spec:\n  workloads: all\n  mode: permissive\n";
    fs::write(mesh.rules().join("mode.yaml"), text).unwrap();
}

#[test]
fn a_caller_in_clear_is_let_in_counted_and_audited() {
    let mesh = Mesh::new();
    mesh.allow();
    permissive(&mesh);
    let api = mesh.api_sidecar("");
    let mut client = dial(api.door(0));
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut server = mesh.accept();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut server), (b"GET / HTTP/1.1\r\n\r\n".to_vec(), true));
    server.write_all(b"200").unwrap();
    drop(server);
    assert_eq!(rest(&mut client), (b"200".to_vec(), true));
    api.counts(&[
        "connections_total",
        "tls=\"plaintext\"",
        "verdict=\"audit\"",
        "finished",
    ]);
    api.counts(&["plaintext_total", "inbound", "permissive"]);
}

#[test]
fn a_client_that_waits_for_the_server_is_served_after_a_moment() {
    let mesh = Mesh::new();
    mesh.allow();
    permissive(&mesh);
    let api = mesh.api_sidecar("limits: { sniff_time: 50ms }");
    let mut client = dial(api.door(0));
    let mut server = mesh.accept();
    say(&mut server, &mut client, b"220 ready\r\n");
    api.counts(&["sniff_timeouts_total"]);
}

#[test]
fn the_mesh_still_comes_under_mutual_tls() {
    let mesh = Mesh::new();
    mesh.allow();
    permissive(&mesh);
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut server, &mut client, b"220 ready\r\n");
    drop((client, server));
    api.counts(&[
        "connections_total",
        "tls=\"mutual\"",
        "verdict=\"allow\"",
        "finished",
    ]);
}

// Unless a rule denies it: permissive mode forgives a rule that is missing, not one that says no.
#[test]
fn an_explicit_deny_holds_in_permissive_mode() {
    let mesh = Mesh::new();
    permissive(&mesh);
    let text = "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: { namespace: shop, name: no }\n\
                spec:\n  workloads: all\n  action: deny\n  rules:\n  - { from: [{ cidrs: [127.0.0.0/8] }] }\n";
    fs::write(mesh.rules().join("no.yaml"), text).unwrap();
    let api = mesh.api_sidecar("");
    let mut client = dial(api.door(0));
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(rest(&mut client).0.is_empty());
    api.counts(&[
        "connections_total",
        "tls=\"plaintext\"",
        "verdict=\"deny\"",
        "denied",
    ]);
}

// D4: what is open in clear ends when the port becomes strict.
#[test]
fn a_change_to_strict_ends_what_is_open_in_clear() {
    let mesh = Mesh::new();
    mesh.allow();
    permissive(&mesh);
    let api = mesh.api_sidecar("limits: { sniff_time: 50ms }");
    let mut client = dial(api.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"in clear");
    fs::remove_file(mesh.rules().join("mode.yaml")).unwrap();
    let began = Instant::now();
    assert!(!rest(&mut server).1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "took {took:?}");
    assert!(!rest(&mut client).1);
    api.counts(&[
        "connections_total",
        "inbound",
        "tls=\"plaintext\"",
        "reason=\"plaintext\"",
    ]);
}
