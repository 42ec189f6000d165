//! Looks into folders that change.

use std::fs;

use ferrule_daemon::folder::LOOK_AGAIN;
use ferrule_identity::TrustDomain;

use super::*;

const ALLOW: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec:
  workloads: all
  action: allow
  rules:
  - { from: [{ namespaces: [shop] }], ports: [8080] }
";

fn folder() -> (tempfile::TempDir, Folder) {
    let path = tempfile::tempdir().unwrap();
    let mesh = Mesh::named(TrustDomain::parse("shop.local").unwrap());
    let folder = Folder::new(path.path().to_owned(), mesh);
    (path, folder)
}

#[test]
fn an_unchanged_folder_is_no_news() {
    let (path, mut folder) = folder();
    fs::write(path.path().join("rules.yaml"), ALLOW).unwrap();
    assert_eq!(folder.look().unwrap().unwrap().policy.rule_count(), 1);
    assert!(folder.look().is_none());
}

// D2: a document with anything unknown refuses the whole folder, with its place.
#[test]
fn a_fault_refuses_everything_with_line_and_column() {
    let (path, mut folder) = folder();
    fs::write(path.path().join("good.yaml"), ALLOW).unwrap();
    fs::write(path.path().join("wrong.yaml"), ALLOW.replace("ports:", "prots:")).unwrap();
    let error = folder.look().unwrap().unwrap_err();
    assert!(error.to_string().contains("wrong.yaml:9:"), "{error}");
    assert!(folder.look().is_none(), "the same fault is told once");
    fs::write(path.path().join("wrong.yaml"), "# nothing").unwrap();
    assert!(folder.look().is_none(), "it may be half written");
    assert_eq!(folder.look().unwrap().unwrap().policy.rule_count(), 1);
}

// D3: nothing is allowed before the first rules, and the last good ones stay.
#[tokio::test(start_paused = true)]
async fn the_last_good_rules_stay_in_force() {
    let (path, folder) = folder();
    let (teller, mut news) = super::super::news();
    assert!(news.rules.borrow().is_none());
    fs::write(path.path().join("rules.yaml"), ALLOW).unwrap();
    let running = async { folder.run(teller).await };
    let watching = async {
        news.rules.changed().await.unwrap();
        assert_eq!(news.rules.borrow_and_update().as_ref().unwrap().rule_count(), 1);
        fs::write(path.path().join("rules.yaml"), "kind: AccessPolicy\n").unwrap();
        tokio::time::sleep(LOOK_AGAIN * 3).await;
        assert!(!news.rules.has_changed().unwrap());
        fs::write(path.path().join("rules.yaml"), "# nothing").unwrap();
        news.rules.changed().await.unwrap();
        assert_eq!(news.rules.borrow().as_ref().unwrap().rule_count(), 0);
    };
    tokio::select! {
        never = running => match never {},
        () = watching => {}
    }
}

mod mutations;
