//! Claims about join tokens and the hosts that they enrol.

use std::sync::Arc;
use std::time::Duration;

use ferrule_identity::Fingerprint;

use super::conflict;
use crate::ledger::event::{Subject, TokenRevoked};
use crate::ledger::scratch::{Scratch, append, enrolled, revoked, token, used};
use crate::ledger::{Conflict, Ledger, RowFilter, TokenState};

/// Row A5: the same join token many times at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_uses_at_once_exactly_one_succeeds() {
    let scratch = Scratch::new();
    let ledger: Arc<dyn Ledger> = Arc::new(scratch.open());
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(ledger.as_ref(), token("t1", expires)).await.unwrap();

    let mut uses = tokio::task::JoinSet::new();
    for number in 0..100 {
        let ledger = Arc::clone(&ledger);
        uses.spawn(async move {
            let host = format!("h{number}");
            let entries = vec![used("t1", &host).into(), enrolled(&host, "t1").into()];
            ledger.append(entries).await
        });
    }
    let answers = uses.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for answer in lost {
        assert_eq!(conflict(answer), Conflict::TokenUsed { token: "t1".into() });
    }
    let hosts = ledger.hosts().await.unwrap();
    assert_eq!(hosts.len(), 1, "the losers left no host behind");
    let tokens = ledger.tokens().await.unwrap();
    assert_eq!(
        tokens[0].state,
        TokenState::Used {
            host: hosts[0].host.clone()
        }
    );
}

#[tokio::test]
async fn a_token_is_good_until_its_last_second() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(&ledger, token("t1", expires)).await.unwrap();
    append(&ledger, token("t2", expires)).await.unwrap();
    scratch.advance(60);
    append(&ledger, used("t1", "h1")).await.unwrap();
    scratch.advance(1);
    assert_eq!(
        conflict(append(&ledger, used("t2", "h2")).await),
        Conflict::TokenExpired {
            token: "t2".into(),
            expired: expires
        }
    );
}

#[tokio::test]
async fn a_token_that_is_revoked_or_unknown_enrols_nobody() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(&ledger, token("t1", expires)).await.unwrap();
    let revoke = |token: &str| TokenRevoked {
        token: token.into(),
        by: "test".into(),
    };
    append(&ledger, revoke("t1")).await.unwrap();
    assert_eq!(
        conflict(append(&ledger, used("t1", "h1")).await),
        Conflict::TokenRevoked { token: "t1".into() }
    );
    assert_eq!(
        conflict(append(&ledger, revoke("t1")).await),
        Conflict::TokenRevoked { token: "t1".into() }
    );
    let unknown = Conflict::TokenUnknown { token: "t9".into() };
    assert_eq!(conflict(append(&ledger, used("t9", "h1")).await), unknown);
    assert_eq!(conflict(append(&ledger, enrolled("h1", "t9")).await), unknown);
}

#[tokio::test]
async fn a_token_is_found_by_the_hash_of_its_secret_and_never_made_twice() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(&ledger, token("t1", expires)).await.unwrap();
    let found = ledger
        .token_by_secret(Fingerprint::of(b"t1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.token.as_str(), &found.state),
        ("t1", &TokenState::Outstanding)
    );
    assert_eq!(found.identities, ["spiffe://shop.local/ns/shop/*"]);
    assert_eq!(
        ledger.token_by_secret(Fingerprint::of(b"t2")).await.unwrap(),
        None
    );

    let mut same_secret = token("t2", expires);
    same_secret.secret = Fingerprint::of(b"t1");
    for again in [token("t1", expires), same_secret] {
        let exists = conflict(append(&ledger, again).await);
        assert!(matches!(exists, Conflict::TokenExists { .. }), "{exists:?}");
    }
}

#[tokio::test]
async fn a_host_has_one_name_and_one_key() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(&ledger, token("t1", expires)).await.unwrap();
    let first = enrolled("h1", "t1");
    append(&ledger, first.clone()).await.unwrap();
    let host = ledger.host("h1".into()).await.unwrap().unwrap();
    assert_eq!(host.key, first.key);
    assert!(!host.revoked);
    assert_eq!(ledger.host("h2".into()).await.unwrap(), None);

    assert_eq!(
        conflict(append(&ledger, enrolled("h1", "t1")).await),
        Conflict::HostExists { host: "h1".into() }
    );
    let mut same_key = first.clone();
    same_key.host = "h2".into();
    assert_eq!(
        conflict(append(&ledger, same_key).await),
        Conflict::HostKeyExists {
            key: first.key.fingerprint()
        }
    );
}

#[tokio::test]
async fn a_conflict_in_the_middle_leaves_nothing_of_the_append() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(&ledger, token("t1", expires)).await.unwrap();
    let before = ledger.chain().await.unwrap();
    let entries = vec![
        used("t1", "h1").into(),
        enrolled("h1", "t1").into(),
        revoked(Subject::Host("h9".into())).into(),
    ];
    assert_eq!(
        conflict(ledger.append(entries).await),
        Conflict::HostUnknown { host: "h9".into() }
    );
    assert_eq!(ledger.chain().await.unwrap(), before);
    assert_eq!(ledger.hosts().await.unwrap(), []);
    assert_eq!(ledger.tokens().await.unwrap()[0].state, TokenState::Outstanding);
}

/// Row A14: no secret is in the log or beside it.
#[tokio::test]
async fn the_secret_of_a_token_is_nowhere_in_the_files() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let secret = "correct-horse-battery-staple";
    let expires = scratch.now()().plus(Duration::from_secs(60));
    let mut made = token("t1", expires);
    made.secret = Fingerprint::of(secret.as_bytes());
    append(&ledger, made).await.unwrap();
    let rows = ledger.rows(RowFilter::default(), 0, 100).await.unwrap();
    assert!(
        rows[1]
            .body
            .contains(&Fingerprint::of(secret.as_bytes()).to_string())
    );
    for file in std::fs::read_dir(scratch.folder()).unwrap() {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        let found = octets
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found);
    }
}
