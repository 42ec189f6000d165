//! Spoils the files of a folder that is being followed: what cannot be read never widens what is allowed.

use std::collections::BTreeMap;
use std::path::Path;

use ferrule_daemon::folder::SETTLED_AFTER;
use ferrule_identity::SpiffeId;
use ferrule_policy::{Ask, Inbound, Source as Caller, Workload, judge};
use proptest::prelude::*;
use tokio::runtime::Builder;

use super::*;

/// The files of the folder: one allows, one denies, one sets the mode, one says who lives where.
const FILES: [(&str, &str); 4] = [
    ("allow.yaml", ALLOW),
    (
        "deny.yaml",
        "
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: thief }
spec:
  workloads: { labels: { app: api } }
  action: deny
  rules:
  - { from: [{ identities: [spiffe://shop.local/ns/shop/sa/thief] }] }
",
    ),
    (
        "mode.yaml",
        "
apiVersion: ferrule.dev/v1alpha1
kind: MeshPolicy
metadata: { namespace: shop, name: strictly }
spec:
  workloads: all
  mode: strict
",
    ),
    (
        "places.yaml",
        "
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.0.0.1] }
",
    ),
];

const CALLERS: [&str; 4] = [
    "spiffe://shop.local/ns/shop/sa/web",
    "spiffe://shop.local/ns/shop/sa/thief",
    "spiffe://shop.local/ns/other/sa/web",
    "spiffe://other.example/ns/shop/sa/web",
];

/// What may be done to a file.
#[derive(Debug, Clone)]
enum Harm {
    /// One bit of it is another.
    Flip { at: usize, bit: u8 },
    /// It ends early.
    Truncate { at: usize },
    /// It is empty.
    Empty,
    /// Only its end is there.
    Behead { at: usize },
    /// It is there twice, in one file.
    Double,
    /// It lies there under another name, too, as while it is renamed.
    Copy,
    /// Somebody else's bytes are in the middle of it.
    Insert { at: usize, bytes: Vec<u8> },
}

impl Harm {
    fn done_to(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        let length = text.len();
        match self {
            Self::Flip { at, bit } => text[at % length] ^= 1 << bit,
            Self::Truncate { at } => text.truncate(at % length),
            Self::Empty => text.clear(),
            Self::Behead { at } => drop(text.drain(..at % length)),
            Self::Double => text.extend(text.clone()),
            Self::Copy => {}
            Self::Insert { at, bytes } => {
                let at = at % length;
                drop(text.splice(at..at, bytes.iter().copied()));
            }
        }
        text
    }
}

fn harms() -> impl Strategy<Value = Harm> {
    let at = 0..4096_usize;
    prop_oneof![
        6 => (at.clone(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        4 => at.clone().prop_map(|at| Harm::Truncate { at }),
        1 => Just(Harm::Empty),
        2 => at.clone().prop_map(|at| Harm::Behead { at }),
        1 => Just(Harm::Double),
        1 => Just(Harm::Copy),
        2 => (at, proptest::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Harm::Insert { at, bytes }),
    ]
}

/// Everything that is allowed of what may be asked here.
fn allowed(policy: &Policy) -> Vec<(usize, u16)> {
    let labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    let destination = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    let mut allowed = Vec::new();
    for (number, caller) in CALLERS.iter().enumerate() {
        let id = SpiffeId::parse(caller).unwrap();
        for (caller, source) in [
            (number, Caller::Verified(&id)),
            (CALLERS.len() + number, Caller::Plaintext([10, 0, 0, 9].into())),
        ] {
            for port in [80, 8080, 8088] {
                let ask = Ask::Inbound(Inbound {
                    source,
                    destination,
                    port,
                });
                if judge(policy, &ask).is_allowed() {
                    allowed.push((caller, port));
                }
            }
        }
    }
    allowed
}

/// What the files of a folder say on their own, when they can be read.
fn said(folder: &Path) -> Option<Policy> {
    let mesh = Mesh::named(TrustDomain::parse("shop.local").unwrap());
    let looked = Folder::new(folder.to_owned(), mesh).look()?;
    Some(looked.ok()?.policy)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // D2: whatever happens to the files, in force is what they say, if all of them can be read, and otherwise what
    // was in force before: nothing of what is spoilt counts, and nothing that is whole counts without it.
    #[test]
    fn a_spoilt_folder_never_widens_what_is_allowed(
        file in 0..FILES.len(), harms in proptest::collection::vec(harms(), 1..3)
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (path, folder) = folder();
            for (name, text) in FILES {
                fs::write(path.path().join(name), text).unwrap();
            }
            let (teller, mut news) = crate::knowledge::news();
            let spoiling = async {
                news.rules.changed().await.unwrap();
                let before = allowed(news.rules.borrow_and_update().as_ref().unwrap());
                assert_eq!(before, [(0, 8080)], "the thief is denied, and everybody else outside");
                let (name, text) = FILES[file];
                let mut bytes = text.as_bytes().to_vec();
                for harm in &harms {
                    if !bytes.is_empty() {
                        bytes = harm.done_to(&bytes);
                    }
                    if matches!(harm, Harm::Copy) {
                        fs::write(path.path().join(format!("copy-{name}")), text).unwrap();
                    }
                }
                fs::write(path.path().join(name), &bytes).unwrap();
                tokio::time::sleep(LOOK_AGAIN * 4).await;
                let now = allowed(news.rules.borrow_and_update().as_ref().unwrap());
                match said(path.path()) {
                    Some(policy) => assert_eq!(now, allowed(&policy), "what is written is in force"),
                    None => assert_eq!(now, before, "what cannot be read changes nothing"),
                }
                // All is well again.
                let _ = fs::remove_file(path.path().join(format!("copy-{name}")));
                fs::write(path.path().join(name), text).unwrap();
                tokio::time::sleep(LOOK_AGAIN * 4).await;
                assert_eq!(allowed(news.rules.borrow().as_ref().unwrap()), before);
            };
            tokio::select! {
                never = folder.run(teller) => match never {},
                () = spoiling => {}
            }
        });
    }
}

// A file is written piece by piece while it is looked at, as an editor or a copy does; a text that ends early may be
// a whole document all the same.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_not_taken_half() {
    let (path, folder) = folder();
    for (name, text) in FILES {
        fs::write(path.path().join(name), text).unwrap();
    }
    let both = format!("{ALLOW}---{}", FILES[1].1);
    fs::remove_file(path.path().join("deny.yaml")).unwrap();
    fs::write(path.path().join("allow.yaml"), &both).unwrap();
    let (teller, mut news) = crate::knowledge::news();
    let writing = async {
        news.rules.changed().await.unwrap();
        let before = allowed(news.rules.borrow_and_update().as_ref().unwrap());
        for end in (0..=both.len()).step_by(16) {
            fs::write(path.path().join("allow.yaml"), &both[..end]).unwrap();
            tokio::time::sleep(SETTLED_AFTER / 2).await;
            assert_eq!(allowed(news.rules.borrow().as_ref().unwrap()), before, "{end}");
        }
    };
    tokio::select! {
        never = folder.run(teller) => match never {},
        () = writing => {}
    }
}

// A folder or file that is renamed, removed or unreadable: the rules stay until it is back.
#[tokio::test(start_paused = true)]
async fn a_folder_that_is_gone_leaves_its_rules_in_force() {
    let (home, _) = folder();
    let (here, there) = (home.path().join("rules"), home.path().join("elsewhere"));
    fs::create_dir(&here).unwrap();
    for (name, text) in FILES {
        fs::write(here.join(name), text).unwrap();
    }
    let mesh = Mesh::named(TrustDomain::parse("shop.local").unwrap());
    let folder = Folder::new(here.clone(), mesh);
    let (teller, mut news) = crate::knowledge::news();
    let moving = async {
        news.rules.changed().await.unwrap();
        news.rules.borrow_and_update();
        fs::rename(&here, &there).unwrap();
        tokio::time::sleep(LOOK_AGAIN * 4).await;
        assert!(!news.rules.has_changed().unwrap());
        assert_eq!(*news.refused.borrow(), 1, "told once");
        // A file in the place of the folder, and a folder in the place of a file.
        fs::write(&here, [0xff, 0xfe]).unwrap();
        tokio::time::sleep(LOOK_AGAIN * 4).await;
        fs::remove_file(&here).unwrap();
        fs::rename(&there, &here).unwrap();
        fs::remove_file(here.join("deny.yaml")).unwrap();
        fs::create_dir(here.join("deny.yaml")).unwrap();
        tokio::time::sleep(LOOK_AGAIN * 4).await;
        assert!(!news.rules.has_changed().unwrap());
        assert_eq!(allowed(news.rules.borrow().as_ref().unwrap()), [(0, 8080)]);
    };
    tokio::select! {
        never = folder.run(teller) => match never {},
        () = moving => {}
    }
}
