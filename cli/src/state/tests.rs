//! Tests how the running mesh is found.

use super::*;

fn variables(set: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    set.iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect()
}

fn mesh(name: &str, pid: u32) -> RunningMesh {
    RunningMesh {
        trust_domain: name.to_owned(),
        pid,
        started: 1_000_000,
        mesh_file: None,
        capture: Capture::Transparent,
        ca: RunningCa {
            url: "https://127.0.0.1:15010".to_owned(),
            root: "00".repeat(32),
            folder: "ca".into(),
            bundle: "bundle.pem".into(),
        },
        directory: RunningDirectory {
            address: "127.0.0.1:15012".parse().unwrap(),
            control: "run/directory.sock".into(),
        },
        rules: vec!["mesh.yaml".into()],
        workloads: vec![RunningWorkload {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            replica: 0,
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            service_account: "web".to_owned(),
            identity: format!("spiffe://{name}/ns/shop/sa/web"),
            addresses: vec!["10.1.0.2".parse().unwrap()],
            doors: BTreeMap::new(),
            ports: vec![8000],
            publish: vec![Published {
                port: 8000,
                at: "127.0.0.1:8000".parse().unwrap(),
            }],
            pid: Some(pid),
            control: "run/web.sock".into(),
            metrics: None,
            log: "logs/shop/web-0.log".into(),
            proxy_log: "logs/shop/web-0.proxy.log".into(),
        }],
    }
}

/// A state root with these meshes.
fn states(meshes: &[RunningMesh]) -> (tempfile::TempDir, States) {
    let root = tempfile::tempdir().unwrap();
    for mesh in meshes {
        let folder = root.path().join(&mesh.trust_domain);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(FILE), serde_json::to_vec(mesh).unwrap()).unwrap();
    }
    let states = States::below(root.path().to_owned());
    (root, states)
}

/// A process id beyond the kernel's largest.
const NOBODY: u32 = 1 << 30;

#[test]
fn the_folder_comes_from_the_environment() {
    let root = |set: &[(&str, &str)]| States::of_user(variables(set)).folder("shop.local");
    let home = ("HOME", "h");
    assert_eq!(
        root(&[home, ("XDG_STATE_HOME", "x"), ("FERRULE_STATE", "f")]),
        Some("f/shop.local".into())
    );
    assert_eq!(
        root(&[home, ("XDG_STATE_HOME", "x"), ("FERRULE_STATE", "")]),
        Some("x/ferrule/shop.local".into())
    );
    assert_eq!(root(&[home]), Some("h/.local/state/ferrule/shop.local".into()));
    assert_eq!(root(&[]), None);
}

#[test]
fn the_only_mesh_need_not_be_named() {
    let (_root, states) = states(&[mesh("shop.local", std::process::id()), mesh("gone.local", NOBODY)]);
    assert_eq!(states.find(None).unwrap().mesh.trust_domain, "shop.local");
}

#[test]
fn of_several_one_has_to_be_named_by_name_or_folder() {
    let own = std::process::id();
    let (root, states) = states(&[mesh("shop.local", own), mesh("bank.local", own)]);
    let error = states.find(None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "several meshes run here, name one with --mesh: bank.local, shop.local"
    );
    let by_name = states.find(Some(Path::new("bank.local"))).unwrap();
    let by_folder = states.find(Some(&root.path().join("bank.local"))).unwrap();
    assert_eq!(by_name.mesh.trust_domain, "bank.local");
    assert_eq!(by_name, by_folder);
}

#[test]
fn a_mesh_whose_process_is_gone_does_not_run() {
    let (_root, states) = states(&[mesh("gone.local", NOBODY)]);
    assert!(matches!(states.find(None), Err(StateError::None)));
    assert!(matches!(
        states.find(Some(Path::new("gone.local"))),
        Err(StateError::NotRunning { .. })
    ));
    assert!(matches!(
        states.find(Some(Path::new("never.local"))),
        Err(StateError::NotRunning { .. })
    ));
}

#[test]
fn a_torn_state_is_named() {
    let (root, states) = states(&[mesh("shop.local", 1)]);
    fs::write(root.path().join("shop.local").join(FILE), "{").unwrap();
    let error = states.find(None).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is not the state of a mesh of this version"),
        "{error}"
    );
}
