//! Opens and ends connections in the books, and looks at what is counted and logged.

use std::collections::BTreeMap;
use std::sync::mpsc;

use ferrule_daemon::metrics::Metrics;
use ferrule_document::Limits;
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::{Mesh, Policy, PolicyDocument, compile};
use serde_json::Value;
use tokio::sync::watch;

use super::*;
use crate::observe::live::Shard;
use crate::observe::peers::MOST_PEERS;

type Rules = watch::Sender<Option<Arc<Policy>>>;

fn book() -> (Book, Metrics, Rules) {
    let own = Own {
        namespace: "shop".to_owned(),
        name: "api-1".to_owned(),
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        node: String::new(),
        zone: String::new(),
    };
    let metrics = Metrics::new();
    let counters = ProxyMetrics::register(&metrics);
    let seen = Seen {
        open: Shard::default(),
        edges: Edges::default(),
        tap: Tap::new(counters.tap_dropped.clone()),
    };
    let (rules, for_rules) = watch::channel(None);
    let book = Book::new(Arc::new(own), counters, seen, 0, Clock::system(), for_rules);
    (book, metrics, rules)
}

/// Rules that name each of these accounts.
fn policy<'a>(accounts: impl IntoIterator<Item = &'a str>) -> Option<Arc<Policy>> {
    let ids: Vec<String> = accounts
        .into_iter()
        .map(|account| id(account).to_string())
        .collect();
    let text = format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{ namespace: shop, name: api }}\nspec:\n  \
         workloads: all\n  action: allow\n  rules:\n  - from: [{{ identities: [{}] }}]\n",
        ids.join(", ")
    );
    let documents = PolicyDocument::read_all("rules.yaml", text.as_bytes(), Limits::default()).unwrap();
    let mesh = Mesh::named(TrustDomain::parse("shop.local").unwrap());
    Some(Arc::new(compile(&documents, mesh).unwrap()))
}

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://shop.local/ns/shop/sa/{account}")).unwrap()
}

/// A connection of `account`, who proved to be it.
fn account(book: &Book, account: &str) -> Box<Account> {
    let client = ClientAddr::new("10.0.0.9:5000".parse().unwrap());
    let mut opened = book.account(Direction::Inbound, client);
    opened.tls = Tls::Mutual;
    opened.source_id = Some(id(account));
    opened
}

fn end() -> Closed {
    Closed::plainly(CloseReason::Finished)
}

fn ended(book: &Book, of: &str) {
    book.refused(&account(book, of), &end());
}

fn series<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.starts_with(name)).collect()
}

fn events(lines: &mut tokio::sync::mpsc::Receiver<bytes::Bytes>) -> Vec<String> {
    let mut events = Vec::new();
    while let Ok(line) = lines.try_recv() {
        let line: Value = serde_json::from_slice(&line).unwrap();
        events.push(line["event"].as_str().unwrap().to_owned());
    }
    events
}

// A minute of the runtime's own clock, which nobody waits for.
#[tokio::test(start_paused = true)]
async fn a_connection_has_a_line_once_it_has_been_open_for_a_minute() {
    let (book, _, _rules) = book();
    let mut lines = book.0.seen.tap.watch().unwrap();
    let minding = book.clone();
    let looking = async {
        let young = book.enter(account(&book, "short"));
        let entry = book.enter(account(&book, "web"));
        tokio::time::sleep(OPEN_LINE - Duration::from_secs(2)).await;
        assert_eq!(events(&mut lines), [""; 0], "not before its time");
        young.close(&end());
        assert_eq!(events(&mut lines), ["close"]);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(events(&mut lines), ["open"], "one of the two is still there");
        tokio::time::sleep(OPEN_LINE * 3).await;
        assert_eq!(events(&mut lines), [""; 0], "one line only");
        entry.close(&end());
        assert_eq!(events(&mut lines), ["close"]);
    };
    tokio::select! {
        () = minding.mind() => {}
        () = looking => {}
    }
}

#[test]
fn peers_that_rules_name_have_series_of_their_own() {
    let (book, metrics, rules) = book();
    ended(&book, "web");
    rules.send_replace(policy(["web", "shop"]));
    ended(&book, "web");
    ended(&book, "thief");
    let entry = book.enter(account(&book, "web"));
    book.0.peers.moved(&entry.account, 7, 9);
    entry.close(&end());
    let mut unproved = account(&book, "web");
    unproved.tls = Tls::Plaintext;
    book.refused(&unproved, &end());
    let text = metrics.encode().unwrap();
    let web = r#"peer="spiffe://shop.local/ns/shop/sa/web""#;
    let lines = [
        format!(r#"ferrule_peer_connections_total{{direction="inbound",{web},verdict="none"}} 2"#),
        r#"ferrule_peer_connections_total{direction="inbound",peer="other",verdict="none"} 2"#.to_owned(),
        format!(r#"ferrule_peer_bytes_total{{direction="inbound",{web},flow="in"}} 7"#),
        format!(r#"ferrule_peer_bytes_total{{direction="inbound",{web},flow="out"}} 9"#),
    ];
    for line in lines {
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

// E9: neither many peers nor many rules multiply the series.
#[test]
fn series_by_peer_are_bounded() {
    let (book, metrics, rules) = book();
    let strangers: Vec<String> = (0..1000).map(|number| format!("stranger-{number}")).collect();
    for stranger in &strangers {
        ended(&book, stranger);
    }
    let text = metrics.encode().unwrap();
    assert_eq!(series(&text, "ferrule_peer_connections_total{").len(), 1);
    // Rules come and go, and name others each time.
    for named in strangers.chunks(250) {
        rules.send_replace(policy(named.iter().map(String::as_str)));
        for stranger in named {
            ended(&book, stranger);
        }
        assert!(book.0.peers.at_hand() <= 251);
    }
    let text = metrics.encode().unwrap();
    let lines = series(&text, "ferrule_peer_connections_total{");
    assert_eq!(lines.len(), MOST_PEERS + 2, "those, `other` and `overflow`");
    let overflow =
        r#"ferrule_peer_connections_total{direction="inbound",peer="overflow",verdict="none"} 800"#;
    assert!(lines.contains(&overflow), "{lines:?}");
}

// Somebody who reads holds every family, as a scrape does while it prints it; connections begin and end meanwhile.
#[test]
fn a_reader_of_the_metrics_stalls_no_connection() {
    let (done, is_done) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let (book, _metrics, rules) = book();
        rules.send_replace(policy(["web"]));
        let round = || {
            let entry = book.enter(account(&book, "web"));
            book.handshake("server", "ok", Duration::from_millis(1));
            book.plaintext(Direction::Inbound, "permissive");
            book.endpoint_failed("refused");
            book.name("named");
            entry.close(&end());
            book.refused(&account(&book, "web"), &Closed::plainly(CloseReason::Denied));
        };
        round();
        let metrics = &book.0.metrics;
        let direction = ("direction", "inbound");
        let held = (
            metrics.connections.get_or_create(&[
                direction,
                ("tls", "mutual"),
                ("verdict", "none"),
                ("reason", CloseReason::Finished.word()),
            ]),
            metrics.bytes.get_or_create(&[direction, ("flow", "in")]),
            metrics
                .denied
                .get_or_create(&[direction, ("reason", CloseReason::Denied.word())]),
            metrics
                .plaintext
                .get_or_create(&[direction, ("reason", "permissive")]),
            metrics
                .handshakes
                .get_or_create(&[("side", "server"), ("outcome", "ok")]),
            metrics.names.get_or_create(&[("outcome", "named")]),
            metrics.endpoint_failures.get_or_create(&[("reason", "refused")]),
            metrics.peers.held(Direction::Inbound, id("web").as_str()),
        );
        for _ in 0..10_000 {
            round();
        }
        drop(held);
        // The test has given up when nobody listens.
        let _ = done.send(());
    });
    is_done
        .recv_timeout(Duration::from_secs(60))
        .expect("ten thousand connections begin and end while the metrics are read");
}
