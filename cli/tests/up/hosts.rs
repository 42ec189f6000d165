//! One mesh on two hosts, which are network namespaces with a wire between them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use ferrule_tests::netns::{Host, alone, run};

use super::mesh::{LIMIT, Mesh, allow_publish, get, head, wait};

const NAME: &str = "hosts.example";

/// Lets `from` call `to`.
fn allow(from: &str, to: &str) -> String {
    allow_publish(NAME, to).replace("sa/publish", &format!("sa/{from}"))
}

/// The first host's file: the page and the goods. What is between them runs elsewhere.
fn first(host: &Host) -> String {
    let host = format!("host: {{ address: {} }}\nworkloads:", host.v4());
    head(NAME).replace("workloads:", &host)
        + "- { name: store, namespace: shop, run: [ferrule, example, store], ports: [9000] }\n"
        + "- { name: web, namespace: shop, run: [ferrule, example, web], ports: [8000], publish: [8000], \
           env: { API: 'http://api:8080' } }\n"
        + &allow("publish", "web")
        + &allow("web", "api")
        + &allow("api", "store")
}

/// The second host's: what is between them, and somebody who may not.
fn second(first: &Host, host: &Host) -> String {
    let host = format!(
        "host: {{ address: {}, block: 1 }}\njoin: {}\nworkloads:",
        host.v4(),
        first.v4()
    );
    head(NAME).replace("workloads:", &host)
        + "- { name: api, namespace: shop, run: [ferrule, example, api], ports: [8080], \
           env: { STORE: 'http://store:9000' } }\n"
        + "- { name: intruder, namespace: shop, run: [ferrule, example, intruder], \
           env: { SHOP: 'http://web:8000', TARGETS: 'http://store:9000/items' } }\n"
}

/// Whether the page has the goods, which come from the first host by way of the second.
fn has_goods(host: &Host) -> bool {
    host.inside(|| get(8000, "/shop"))
        .contains(r#""program":"store""#)
}

/// What the directory tells at `path`.
fn directory(mesh: &Mesh, path: &str) -> String {
    let socket = mesh.state(NAME).join("run/directory.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: directory\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Enters `host` into the mesh of the first host with a token from there.
fn join(first: &Mesh, host: &Host, second: &Mesh) {
    let (status, said) = first.ferrule(&[
        "ca",
        "token",
        "create",
        "b",
        "--id",
        &format!("spiffe://{NAME}/ns/shop/*"),
    ]);
    assert!(status.success(), "{said}");
    let mut joining = second
        .command_on(host)
        .args(["join", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let token = said.lines().next().unwrap();
    joining.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    let joined = joining.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&joined.stdout) + String::from_utf8_lossy(&joined.stderr);
    assert!(joined.status.success(), "{told}");
}

fn two_hosts(a: &Host, b: &Host) {
    let file = first(a);
    let mut one = Mesh::prepared(&file);
    one.run(one.command_on(a).arg("up"));
    one.wait_for("all 2 are up");
    let mut other = Mesh::prepared(&second(a, b));
    other.run(other.command_on(b).arg("up"));
    // Nobody comes in without a token.
    assert_eq!(other.end().code(), Some(64));
    other.wait_for("join first: ferrule join TOKEN");
    join(&one, b, &other);
    other.run(other.command_on(b).arg("up"));
    other.wait_for("all 2 are up");

    wait(|| has_goods(a), || one.text() + "\n---\n" + &other.text());
    // Both directions, by the identities of both.
    other.wait_for("web.shop -> api.shop:8080  mutual  allow");
    one.wait_for("api.shop -> store.shop:9000  mutual  allow");
    one.wait_for("intruder.shop -> store.shop:9000  mutual  deny");
    let text = one.text();
    assert!(
        !text.contains("intruder.shop -> store.shop:9000  mutual  allow"),
        "{text}"
    );
    let announced = one.state(NAME).join("announced/shop.b.yaml");
    let told = fs::read_to_string(&announced).unwrap();
    assert!(told.contains(&format!("\"at\":\"{}:20000\"", b.v4())), "{told}");
    wait(
        || directory(&one, "/proxies").contains("shop/api-0.b"),
        || directory(&one, "/proxies"),
    );
    assert!(
        directory(&one, "/faults").trim_end().ends_with("[]"),
        "{}",
        directory(&one, "/faults")
    );

    // The wire is cut, and a rule changes meanwhile.
    let link = |state: &str| drop(run(Command::new("ip").args(["link", "set", b.name(), state])));
    link("down");
    wait(|| !has_goods(a), || one.text());
    let mesh_file = one.folder.path().join("mesh.yaml");
    fs::write(&mesh_file, file.replace("sa/web]", "sa/nobody]")).unwrap();
    one.wait_for("rules taken: 3");
    link("up");
    let denied = "web.shop -> api.shop:8080  mutual  deny";
    wait(|| !has_goods(a) && other.text().contains(denied), || other.text());
    fs::write(&mesh_file, &file).unwrap();
    wait(|| has_goods(a), || one.text() + "\n---\n" + &other.text());

    assert_eq!(other.stop().code(), Some(0));
    assert!(!announced.exists());
    assert_eq!(one.stop().code(), Some(0));
    other.leaves_nothing();
    one.leaves_nothing();
}

#[test]
#[ignore = "needs nft and namespaces: tests/run"]
fn a_second_host_joins_and_workloads_reach_one_another_by_rule() {
    alone(|wire| two_hosts(&wire.stranger("one"), &wire.stranger("two")));
}
