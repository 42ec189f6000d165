//! What a workload reaches beyond the mesh: by which name, over which protocol, and what it is told otherwise.

mod resolver;
mod sealed;
mod withdrawn;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ferrule_tests::netns::{Host, Mesh, Process, Sidecar, alone, run};
use ferrule_tests::wait::until;

/// Where the allowed server is, and where somebody else is.
const GOOD: &str = "198.51.100.10";
const EVIL: &str = "198.51.100.66";
const SEALED: &str = "198.51.100.77";
const RESOLVER: &str = "198.51.100.53";

/// What clients speak: the scheme, how curl is told, and what nginx says of it.
const SPEECHES: [(&str, &[&str], &str); 3] = [
    ("https", &["--tls-max", "1.2"], "TLSv1.2"),
    ("https", &["--tlsv1.3"], "TLSv1.3"),
    ("http", &["--http1.1"], ""),
];

/// A name of 20 parts under a wildcard of 20.
const DEEP: &str = "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.example.com";

/// The world beyond the mesh: nginx with a certificate of its own, a resolver, and what rules say of them.
struct World {
    _nginx: Process,
    _resolver: resolver::Resolver,
    root: std::path::PathBuf,
}

impl World {
    fn new(mesh: &Mesh) -> Self {
        for address in [GOOD, EVIL, SEALED, RESOLVER] {
            run(Command::new("ip").args(["address", "add", &format!("{address}/32"), "dev", "lo"]));
        }
        let folder = mesh.folder().join("world");
        fs::create_dir(&folder).unwrap();
        let resolv = folder.join("resolv.conf");
        fs::write(&resolv, format!("nameserver {RESOLVER}\nsearch wrong.example\n")).unwrap();
        run(Command::new("mount")
            .arg("--bind")
            .args([&resolv, Path::new("/etc/resolv.conf")]));
        let good = IpAddr::from([198, 51, 100, 10]);
        let names = [
            ("api.example.com", vec![good]),
            ("xn--bcher-kva.example", vec![good]),
            (DEEP, vec![good]),
            ("inside.example.com", vec![IpAddr::from([10, 77, 0, 1])]),
            ("cloud.example.com", vec![IpAddr::from([169, 254, 169, 254])]),
            (
                "local.example.com",
                vec![IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()],
            ),
            ("mixed.example.com", vec![IpAddr::from([127, 0, 0, 1]), good]),
        ];
        mesh.document(
            "egress",
            &format!(
                "kind: EgressPolicy\nmetadata: {{ namespace: shop, name: out }}\nspec:\n  workloads: all\n  allow:\n  \
                 - {{ hosts: [\"*.example.com\", xn--bcher-kva.example, \"*.{}\"], ports: [80, 443] }}\n  \
                 - {{ hosts: [nobody.example.com], ports: [8443] }}\n  \
                 - {{ cidrs: [{EVIL}/32], ports: [8080] }}\n  \
                 - {{ cidrs: [{SEALED}/32], ports: [443] }}\n",
                DEEP.split_once('.').unwrap().1
            ),
        );
        Self {
            _resolver: resolver::Resolver::start((RESOLVER.parse::<IpAddr>().unwrap(), 53).into(), &names),
            _nginx: nginx(&folder),
            root: folder.join("server.pem"),
        }
    }

    /// What curl says when `host` calls `url`, whose name it believes to be at `dialled`.
    fn curl(&self, host: &Host, url: &str, dialled: &str, more: &[&str]) -> Output {
        let authority = url.split("://").nth(1).unwrap().split('/').next().unwrap();
        let port = if url.starts_with("https") { 443 } else { 80 };
        let mut command = host.app("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "--cacert",
        ]);
        command.arg(&self.root);
        command.args(["--resolve", &format!("{authority}:{port}:{dialled}")]);
        command.args(more).arg(url).output().unwrap()
    }

    fn answers(&self, host: &Host, url: &str, dialled: &str, more: &[&str]) -> String {
        let output = self.curl(host, url, dialled, more);
        assert!(
            output.status.success(),
            "{url}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// That nothing comes back, and that the sidecar says why with all of `words`.
    fn refuses(&self, host: &Host, sidecar: &Sidecar, url: &str, how: &[&str], words: &[&str]) {
        let before = refusals(sidecar).len();
        let output = self.curl(host, url, GOOD, &[&["--insecure"], how].concat());
        assert!(!output.status.success(), "{url}");
        assert!(output.stdout.is_empty(), "{url}");
        let detail = until(&format!("a refusal of {url}"), || {
            refusals(sidecar).get(before).cloned()
        });
        for word in words {
            assert!(detail.contains(word), "{url}: no {word:?} in {detail:?}");
        }
    }
}

/// The details of all refusals by rules.
fn refusals(sidecar: &Sidecar) -> Vec<String> {
    let lines = sidecar.lines();
    let denied = lines.iter().filter(|line| line["reason"] == "denied");
    denied
        .map(|line| line["detail"].as_str().unwrap().to_owned())
        .collect()
}

/// nginx at both addresses, in TLS 1.2 and 1.3 and in clear; each address says its own word.
fn nginx(folder: &Path) -> Process {
    let (key, certificate) = (folder.join("server.key"), folder.join("server.pem"));
    let names = format!(
        "subjectAltName=DNS:*.example.com,DNS:xn--bcher-kva.example,DNS:*.{},IP:{GOOD}",
        DEEP.split_once('.').unwrap().1
    );
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-days", "2", "-subj", "/CN=world", "-addext", &names, "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate));
    let mut servers = String::new();
    for (address, word) in [(GOOD, "good"), (EVIL, "evil"), (SEALED, "sealed")] {
        servers += &format!(
            "server {{ listen {address}:443 ssl; listen {address}:80; listen {address}:8080;\n\
             location / {{ return 200 \"{word} $ssl_protocol $http_host\"; }} }}\n"
        );
    }
    let conf = folder.join("nginx.conf");
    // Of an ordinary user's namespace root is the only user: to any other nginx could not give its folders.
    let text = format!(
        "user root; daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/error.log;\nevents {{ }}\nhttp {{\n\
         access_log off; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {0}/server.pem;\n\
         ssl_certificate_key {0}/server.key; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
         fastcgi_temp_path {0}/fastcgi; uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n{servers}}}\n",
        folder.display()
    );
    fs::write(&conf, text).unwrap();
    let process = Process::start(
        "nginx",
        Command::new("nginx").arg("-c").arg(&conf).arg("-p").arg(folder),
        folder,
    );
    until("nginx listens", || TcpStream::connect((GOOD, 443)).ok());
    process
}

#[test]
#[ignore = "needs root or user namespaces, nft, nginx, openssl and curl: tests/run"]
fn a_name_that_rules_allow_is_reached_over_every_protocol_and_no_other_name_is() {
    alone(|mesh| {
        let web = mesh.workload("web");
        let world = World::new(mesh);
        let sidecar = mesh.sidecar(&web);

        for (scheme, how, version) in SPEECHES {
            for name in ["api.example.com", "xn--bcher-kva.example", DEEP] {
                let url = format!("{scheme}://{name}/");
                assert_eq!(
                    world.answers(&web, &url, GOOD, how),
                    format!("good {version} {name}")
                );
                // C3: a forged name leads where the name leads, wherever the client dialled; nothing else is gained.
                assert_eq!(
                    world.answers(&web, &url, EVIL, how),
                    format!("good {version} {name}")
                );
            }
            // Of several addresses, only those that a name may lead to.
            let url = format!("{scheme}://mixed.example.com/");
            assert!(world.answers(&web, &url, GOOD, how).starts_with("good"));
        }
        let line = sidecar.line(&[
            ("service", "api.example.com"),
            ("verdict", "allow"),
            ("dst_addr", GOOD),
        ]);
        assert_eq!(line["tls"], "plaintext");

        // What an address allows needs no name.
        let output = web
            .app("curl")
            .args(["-s", &format!("http://{EVIL}:8080/")])
            .output()
            .unwrap();
        assert!(output.stdout.starts_with(b"evil"));

        for (scheme, how, _) in SPEECHES {
            let refuses = |name: &str, words: &[&str]| {
                world.refuses(&web, &sidecar, &format!("{scheme}://{name}/"), how, words);
            };
            refuses(
                "other.example.org",
                &[
                    "no rule allows it",
                    "other.example.org",
                    "nearest shop/out rule 1",
                ],
            );
            refuses("a.b.example.com", &["no rule allows it"]);
            refuses(&format!("x.{DEEP}"), &["no rule allows it"]);
            refuses(
                "xn--bcher-kvb.example",
                &["no rule allows it", "xn--bcher-kvb.example"],
            );
            refuses("inside.example.com", &["10.77.0.1", "mesh's own ranges"]);
            refuses("cloud.example.com", &["169.254.169.254", "metadata"]);
            refuses("local.example.com", &["local to this machine"]);
            match scheme {
                "https" => refuses(GOOD, &["no server name", "no rule about hosts"]),
                _ => refuses(GOOD, &[GOOD, "no name of a host"]),
            }
        }
        sidecar.counts(&["denied_total", "outbound", "reason=\"denied\""], 24.0);
        sidecar.counts(&["egress_names_total", "outcome=\"found\""], 21.0);
        sidecar.counts(&["egress_names_total", "outcome=\"forbidden\""], 9.0);
        sidecar.counts(&["egress_names_total", "outcome=\"nameless\""], 3.0);
        let lines = sidecar.lines();
        assert!(
            lines.iter().all(|line| line["dst_addr"] != "169.254.169.254"),
            "it was never dialled"
        );
    });
}

// B6: a hello in single bytes, each a segment of its own.
#[test]
#[ignore = "needs root or user namespaces, nft, nginx and openssl: tests/run"]
fn a_hello_in_single_bytes_arrives_whole_and_a_silent_client_is_let_go() {
    alone(|mesh| {
        let web = mesh.workload("web");
        let _world = World::new(mesh);
        let sidecar = mesh.sidecar_with(&web, "limits: { name_time: 5s }\n");
        let hello = recorded_hello("api.example.com");
        let dial = |port: u16| {
            let stream = web.inside(|| TcpStream::connect((GOOD, port)).unwrap());
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        let mut stream = dial(443);
        for byte in &hello {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).unwrap();
        // A record of a handshake: the server's hello.
        assert_eq!(answer, [22, 3, 3]);
        drop(stream);

        let mut stream = dial(80);
        for byte in b"GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("good  api.example.com"), "{answer}");

        let mut silent = dial(443);
        assert!(silent.read(&mut [0]).is_err(), "it is reset");
        let refusal = until("a refusal of the silent one", || refusals(&sidecar).pop());
        assert!(refusal.contains("named no host within 5s"), "{refusal}");
        // A port without rules about hosts waits for nobody.
        let began = std::time::Instant::now();
        assert!(dial(5432).read(&mut [0]).is_err());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    });
}

/// The first bytes of `openssl s_client`.
pub(crate) fn recorded_hello(name: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &at.to_string(), "-servername", name])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut body).unwrap();
    drop(stream);
    client.wait().unwrap();
    [&head[..], &body].concat()
}
