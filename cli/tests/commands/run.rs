//! `ferrule run` and `ferrule join`: one program with its sidecar, and a host that enters.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use ferrule_tests::pki::Authority;

use crate::ferrule::{Running, ferrule, run};
use crate::mesh::until;

const RULE: &str = "\
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: store }
spec:
  workloads: { labels: { app: store } }
  action: allow
  rules:
  - from: [{ identities: [spiffe://shop.local/ns/shop/sa/web] }]
";

/// The arguments that name the certificate files of `name`.
fn files(authority: &Authority, folder: &Path, name: &str) -> Vec<String> {
    let id = format!("spiffe://shop.local/ns/shop/sa/{name}");
    let files = authority.files(folder, name, &id, Duration::from_secs(80_000));
    let path = |path: &Path| path.display().to_string();
    [
        ["--identity", &id],
        ["--chain", &path(&files.chain)],
        ["--key", &path(&files.key)],
        ["--bundle", &path(&files.bundle)],
    ]
    .into_iter()
    .flatten()
    .map(str::to_owned)
    .collect()
}

fn call(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"GET /items HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A port that nobody listens at now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_program_is_reached_through_the_sidecar_beside_it_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let rules = folder.path().join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("store.yaml"), RULE).unwrap();
    let (mesh_port, app_port, web_port) = (free_port(), free_port(), free_port());
    let program = env!("CARGO_BIN_EXE_ferrule");

    let mut arguments = vec!["run".to_owned()];
    arguments.extend(files(&authority, folder.path(), "store"));
    arguments.extend([
        format!("--serve=127.0.0.1:{mesh_port}=127.0.0.1:{app_port}"),
        format!("--rules={}", rules.display()),
        format!("--log={}", folder.path().join("store.log").display()),
    ]);
    arguments.extend(["--", program, "example", "store"].map(str::to_owned));
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = ferrule(&words);
    command.env("PORT", app_port.to_string()).env("HOST", "127.0.0.1");
    let mut store = Running::start(&mut command);
    store.line("listening on ");

    let mut arguments = vec!["run".to_owned()];
    arguments.extend(files(&authority, folder.path(), "web"));
    let id = "spiffe://shop.local/ns/shop/sa/store";
    arguments.push(format!(
        "--upstream=127.0.0.1:{web_port}=127.0.0.1:{mesh_port}={id}"
    ));
    arguments.push(format!("--log={}", folder.path().join("web.log").display()));
    arguments.extend(["--", "sh", "-c", "echo begun; read line; exit 7"].map(str::to_owned));
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = ferrule(&words);
    command.env("PATH", "/usr/bin:/bin");
    let mut web = Running::piped(&mut command);
    web.line("begun");
    until("the store is reached through both sidecars", || {
        call(web_port).is_some_and(|answer| answer.contains("umbrella"))
    });
    until("the connection is on record", || {
        let log = fs::read_to_string(folder.path().join("store.log")).unwrap();
        log.contains("\"src_id\":\"spiffe://shop.local/ns/shop/sa/web\"")
    });
    web.close_input();
    drop(store);
    until("what was killed has taken its program with it", || {
        TcpStream::connect(("127.0.0.1", app_port)).is_err()
    });
    assert_eq!(web.ended(), 7, "as its program");
    assert!(call(web_port).is_none(), "its sidecar is gone with it");
}

/// An address of this machine that is not its loopback.
fn own_address() -> std::net::IpAddr {
    // No packet is sent: this only asks for the route.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

#[test]
#[ignore = "needs nft and namespaces: tests/run"]
fn a_program_in_a_network_of_its_own_reaches_nobody_but_through_its_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let rules = folder.path().join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("store.yaml"), RULE).unwrap();
    let (here, mesh_port) = (own_address(), free_port());
    let start = |name: &str, more: &[String]| {
        let log = folder.path().join(format!("{name}.log"));
        let mut arguments = vec!["run".to_owned(), format!("--log={}", log.display())];
        arguments.extend(files(&authority, folder.path(), name));
        arguments.extend_from_slice(more);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = ferrule(&words);
        Running::piped(command.env("PATH", "/usr/bin:/bin"))
    };
    let log = |name: &str| fs::read_to_string(folder.path().join(format!("{name}.log"))).unwrap_or_default();

    let mut more = vec![
        "--capture=transparent".to_owned(),
        format!("--serve={here}:{mesh_port}=0.0.0.0:9000"),
        format!("--rules={}", rules.display()),
    ];
    more.extend(["--", env!("CARGO_BIN_EXE_ferrule"), "example", "store"].map(str::to_owned));
    let mut store = start("store", &more);
    store.line("listening on ");

    let stranger = std::net::TcpListener::bind((here, 0)).unwrap();
    stranger.set_nonblocking(true).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /items HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n' >&3; \
         grep -o umbrella <&3; (timeout 5 cat </dev/tcp/{here}/{port}) 2>/dev/null; echo tried; read line; exit 7"
    );
    let call = |capture: &str, port: u16| {
        let mut more = vec![format!("--capture={capture}")];
        let id = "spiffe://shop.local/ns/shop/sa/store";
        more.push(format!("--upstream=127.0.0.1:{port}={here}:{mesh_port}={id}"));
        let script = script.replace("/127.0.0.1/8080", &format!("/127.0.0.1/{port}"));
        more.extend(["--", "bash", "-c", &script].map(str::to_owned));
        let mut web = start("web", &more);
        web.line("umbrella");
        web.line("tried");
        web
    };
    let mut web = call("transparent", 8080);
    assert_eq!(
        stranger.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "the stranger has not been reached"
    );
    until("the refusal is on record", || {
        log("web").contains(&format!("may not reach {here}:{port}"))
    });
    web.close_input();
    assert_eq!(web.ended(), 7, "as its program");
    // Without a network of its own, the same program passes its sidecar by.
    let mut web = call("explicit", free_port());
    assert!(stranger.accept().is_ok());
    web.close_input();
    assert_eq!(web.ended(), 7);
    drop(store);
    until("what was killed has taken its program with it", || {
        TcpStream::connect((here, mesh_port)).is_err()
    });
}

#[test]
fn what_is_missing_is_named_with_the_next_step() {
    let id = "spiffe://shop.local/ns/shop/sa/web";
    let serve = "--serve=127.0.0.1:9443=127.0.0.1:8080";
    let stranger = run(&mut ferrule(&["run", "--identity", id, serve, "--", "true"]));
    assert_eq!(stranger.code, 64);
    assert!(
        stranger.err.contains("join first: ferrule join TOKEN"),
        "{}",
        stranger.err
    );
    let idle = run(&mut ferrule(&["run", "--identity", id, "--", "true"]));
    assert_eq!(idle.code, 64);
    assert!(idle.err.contains("--upstream"), "{}", idle.err);
}

#[test]
fn a_host_joins_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("ca");
    let (data, port) = (data.to_str().unwrap(), free_port());
    let listen = format!("127.0.0.1:{port}");
    let ca = |arguments: &[&str]| {
        let mut command = ferrule(&[&["ca", "--data", data], arguments].concat());
        command.env("FERRULE_CA__ADMIN__ENABLED", "false");
        command
    };
    let made = run(&mut ca(&["init", "--trust-domain", "shop.local"]));
    assert_eq!(made.code, 0, "{}", made.err);
    let token = [
        "token",
        "create",
        "host-1",
        "--id",
        "spiffe://shop.local/ns/shop/*",
        "--address",
        &listen,
    ];
    let token = run(&mut ca(&token));
    assert_eq!(token.code, 0, "{}", token.err);
    let file = folder.path().join("token");
    fs::write(&file, &token.out).unwrap();
    let log = folder.path().join("ca.log");
    let _serving = Running::logging(&mut ca(&["serve", "--listen", &listen]), &log);
    until("the CA listens", || TcpStream::connect(&listen).is_ok());

    let join = || {
        let mut command = ferrule(&["join", file.to_str().unwrap()]);
        command.env("FERRULE_STATE", folder.path().join("state"));
        run(&mut command)
    };
    let joined = join();
    assert_eq!(joined.code, 0, "{}", joined.err);
    assert!(
        joined.out.starts_with("joined shop.local as the host host-1"),
        "{}",
        joined.out
    );
    let host = folder.path().join("state/shop.local/host");
    for name in ["host.json", "host_key.pem", "host_bundle.json"] {
        assert!(host.join(name).exists(), "{name}");
    }
    let again = join();
    assert_eq!(again.code, 64);
    assert!(
        again.err.contains("has joined shop.local already"),
        "{}",
        again.err
    );
    fs::remove_dir_all(&host).unwrap();
    let used = join();
    assert_eq!(used.code, 2, "the token is used up: {}", used.err);
    assert!(!host.join("host.json").exists());
}
