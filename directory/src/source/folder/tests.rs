//! Spoils documents while they are followed.

use std::fs;
use std::path::Path;

use ferrule_daemon::folder::LOOK_AGAIN;
use ferrule_identity::TrustDomain;

use super::*;

const ALLOW: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec:
  workloads: { labels: { app: api } }
  action: allow
  rules:
  - { from: [{ identities: [spiffe://shop.local/ns/shop/sa/web] }], ports: [8080] }
";

const DENY: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: thief }
spec:
  workloads: all
  action: deny
  rules:
  - { from: [{ identities: [spiffe://shop.local/ns/shop/sa/thief] }] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.0.0.1] }
";

fn mesh() -> Mesh {
    Mesh::named(TrustDomain::parse("shop.local").unwrap())
}

/// What the files say on their own, when they can be read.
fn said(folder: &Path) -> Option<Stack> {
    Folder::new(vec![folder.to_owned()], mesh()).look()?.ok()
}

fn is_same(a: &Stack, b: &Stack) -> bool {
    let text = |stack: &Stack| format!("{:?}", (stack.policies(), &stack.places));
    text(a) == text(b)
}

/// Ways to spoil a text, each of them another one.
fn spoilt(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let bytes = text.as_bytes();
    let ends = (0..bytes.len()).step_by(7).map(|end| bytes[..end].to_vec());
    let heads = (1..bytes.len()).step_by(31).map(|start| bytes[start..].to_vec());
    let flips = (0..bytes.len()).step_by(3).map(|at| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    ends.chain(heads).chain(flips).chain([[bytes, bytes].concat()])
}

// D2: proxies are told what the documents say, if all of them can be read, and nothing otherwise: no proxy is ever told
// a part. What cannot be used is listed.
#[tokio::test(start_paused = true)]
async fn spoilt_documents_are_told_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("allow.yaml", ALLOW), ("deny.yaml", DENY)];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let whole = said(folder.path()).unwrap();
    let (teller, mut told) = Teller::new();
    let spoiling = async {
        let News::Everything(mut in_force) = told.news.recv().await.unwrap() else {
            panic!("a folder tells everything");
        };
        assert!(is_same(&in_force, &whole));
        let (mut taken, mut refused) = (0, 0);
        for (name, text) in files {
            for bytes in spoilt(text) {
                fs::write(folder.path().join(name), &bytes).unwrap();
                tokio::time::sleep(LOOK_AGAIN * 3).await;
                while let Ok(News::Everything(stack)) = told.news.try_recv() {
                    in_force = stack;
                }
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                match said(folder.path()) {
                    Some(stack) => {
                        assert!(is_same(&in_force, &stack), "{shown}");
                        assert!(told.faults.borrow().is_empty(), "{shown}");
                        taken += 1;
                    }
                    None => {
                        assert!(is_same(&in_force, &whole), "{shown}");
                        assert!(!told.faults.borrow().is_empty(), "{shown}");
                        refused += 1;
                    }
                }
                fs::write(folder.path().join(name), text).unwrap();
                tokio::time::sleep(LOOK_AGAIN * 3).await;
                while let Ok(News::Everything(stack)) = told.news.try_recv() {
                    in_force = stack;
                }
                assert!(is_same(&in_force, &whole), "all is well again");
            }
        }
        assert!(taken > 10 && refused > 100, "{taken} taken, {refused} refused");
    };
    let source = Folder::new(vec![folder.path().to_owned()], mesh());
    tokio::select! {
        never = source.run(teller) => match never {},
        () = spoiling => {}
    }
}
