//! What a directory tells takes effect in real sidecars, on open connections too.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ferrule_daemon::clock::Clock;

use super::mesh::{ALLOW, Mesh, PLACES};
use super::sidecar::{Sidecar, echo, ended, open};
use crate::kept::until;

/// The service by which web calls the API; its port is found when the API's sidecar has started.
fn service(port: u16) -> String {
    format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: Service\nmetadata: {{ namespace: shop, name: api }}\n\
         spec: {{ ports: [{{ port: 80, targetPort: {port} }}], workloads: {{ labels: {{ app: api }} }} }}\n"
    )
}

/// A mesh with an API and web, each behind a sidecar.
struct Shop {
    mesh: Mesh,
    api: Sidecar,
    web: Sidecar,
}

impl Shop {
    async fn open() -> Self {
        let mesh = Mesh::start(
            &Clock::system(),
            &[("places.yaml", PLACES), ("rules.yaml", ALLOW)],
        )
        .await;
        // The directory alone can tell the API whom not to trust: its certificate is in files.
        let files = mesh.home.path().join("api");
        mesh.workload("api").await.write(&files).await;
        let api = sidecar(
            &mesh,
            "api",
            &format!(
                "credentials: {{ files: {{ chain: {0}/svid.pem, key: {0}/svid_key.pem, bundle: {0}/bundle.pem }} }}\n\
                 serves: [{{ listen: \"127.0.0.2:0\", to: \"{1}\" }}]\n",
                files.display(),
                echo()
            ),
        )
        .await;
        mesh.write("service.yaml", &service(api.doors[0].port()));
        let host = mesh.host("web-host").await;
        let web = sidecar(
            &mesh,
            "web",
            &format!(
                "credentials: {{ ca: {{ addresses: [\"{}\"], evidence: {{ host: {} }} }} }}\n\
                 upstreams: [{{ listen: \"127.0.0.1:0\", service: \"api.shop:80\" }}]\n",
                mesh.authority.address(),
                host.display()
            ),
        )
        .await;
        let shop = Self { mesh, api, web };
        until(|| open(shop.door()).is_some()).await;
        shop
    }

    fn door(&self) -> SocketAddr {
        self.web.doors[0]
    }
}

async fn sidecar(mesh: &Mesh, app: &str, rest: &str) -> Sidecar {
    let settings = format!(
        "trust_domain: shop.test\n\
         workload: {{ namespace: shop, name: {app}-1, service_account: {app}, labels: {{ app: {app} }} }}\n\
         directory: {{ addresses: [\"{}\"] }}\nadmin: {{ enabled: false }}\nworkers: 1\n\
         drain: {{ leave: 0s, deadline: 1s }}\n{rest}",
        mesh.address()
    );
    let home = mesh.home.path().to_owned();
    tokio::task::spawn_blocking(move || Sidecar::start(&home, &settings))
        .await
        .unwrap()
}

/// Two seconds, on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_effect_on_open_connections_too() {
    let shop = Shop::open().await;
    let stream = open(shop.door()).unwrap();
    shop.mesh
        .write("rules.yaml", &ALLOW.replace("sa/web", "sa/other"));
    let waiting = tokio::task::spawn_blocking(move || ended(stream)).await.unwrap();
    assert!(waiting < SOON, "{waiting:?}");
    assert!(open(shop.door()).is_none());
    shop.mesh.write("rules.yaml", ALLOW);
    until(|| open(shop.door()).is_some()).await;
}

// F2: the directory is killed; what was known goes on, and it comes back without anybody's help.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_away_changes_nothing() {
    let mut shop = Shop::open().await;
    let mut kept = open(shop.door()).unwrap();
    shop.mesh.kill().await;
    shop.mesh
        .write("rules.yaml", &ALLOW.replace("sa/web", "sa/other"));
    let is_away = || {
        shop.web
            .metrics
            .encode()
            .unwrap()
            .contains("ferrule_directory_connected 0")
    };
    until(is_away).await;
    assert!(open(shop.door()).is_some(), "what it told last stays in force");
    kept.write_all(b"still").unwrap();
    kept.read_exact(&mut [0; 5]).unwrap();
    shop.mesh.resume().await;
    tokio::task::spawn_blocking(move || ended(kept)).await.unwrap();
    assert!(open(shop.door()).is_none(), "the news that it missed");
}

// However long it was away: what it tells takes effect within moments of its return.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_away_for_long_is_followed_at_once() {
    let mut shop = Shop::open().await;
    let kept = open(shop.door()).unwrap();
    shop.mesh.kill().await;
    shop.mesh
        .write("rules.yaml", &ALLOW.replace("sa/web", "sa/other"));
    let tries = |sidecar: &Sidecar| {
        let text = sidecar.metrics.encode().unwrap();
        let mut lines = text.lines();
        let line = lines.find(|line| line.contains("directory_failures_total{reason=\"unreachable\"}"))?;
        line.rsplit(' ').next()?.parse::<u32>().ok()
    };
    // With waits that doubled up to 15 s this alone would take longer than anybody waits here.
    until(|| {
        [&shop.web, &shop.api]
            .iter()
            .all(|sidecar| tries(sidecar) >= Some(10))
    })
    .await;
    shop.mesh.resume().await;
    let waiting = tokio::task::spawn_blocking(move || ended(kept)).await.unwrap();
    println!("figure: {waiting:?} from the return of the directory to the end of what it forbids");
    assert!(waiting < SOON, "{waiting:?}");
}

// D2, D3: a broken edit changes nothing, and is told with line and column.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_changes_nothing_and_is_told_with_its_place() {
    let shop = Shop::open().await;
    shop.mesh
        .write("rules.yaml", &ALLOW.replace("action: allow", "acton: allow"));
    until(|| faults(&shop.mesh).trim() != "[]").await;
    let told = faults(&shop.mesh);
    assert!(told.contains("rules.yaml:7:"), "{told}");
    assert!(open(shop.door()).is_some());
    shop.mesh.write("rules.yaml", ALLOW);
    until(|| faults(&shop.mesh).trim() == "[]").await;
}

/// What the control socket lists.
fn faults(mesh: &Mesh) -> String {
    let mut stream = UnixStream::connect(mesh.socket()).unwrap();
    stream
        .write_all(b"GET /faults HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

// The deny list comes through the directory, and ends live connections at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_live_connections() {
    let shop = Shop::open().await;
    let stream = open(shop.door()).unwrap();
    shop.mesh
        .authority
        .revoke("spiffe://shop.test/ns/shop/sa/web", false)
        .await;
    let waiting = tokio::task::spawn_blocking(move || ended(stream)).await.unwrap();
    assert!(waiting < SOON, "{waiting:?}");
    assert!(open(shop.door()).is_none());
}
