//! The program as an operator types it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ferrule_identity::{PrivateKey, Timestamp, TrustBundle, WorkloadCertificate};
use serde_json::Value;

use crate::harness::{DOMAIN, PATIENCE, domain};

const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";

/// The built program, working on a folder of its own.
pub(crate) struct Program {
    home: PathBuf,
}

impl Program {
    pub(crate) fn new(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_in("ca", arguments)
    }

    fn command_in(&self, folder: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrule-ca"));
        command
            .current_dir(&self.home)
            .args(arguments)
            .arg("--data")
            .arg(self.home.join(folder));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; gives its standard output.
    pub(crate) fn fine(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.fine(&[arguments, &["--output", "json"]].concat())).unwrap()
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        let out: Box<dyn std::io::Read + Send> = Box::new(child.stdout.take().unwrap());
        let err: Box<dyn std::io::Read + Send> = Box::new(child.stderr.take().unwrap());
        for mut stream in [out, err] {
            let said = said.clone();
            readers.push(std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut chunk) {
                    said.lock().unwrap().extend_from_slice(&chunk[..read]);
                }
            }));
        }
        Running { child, said, readers }
    }
}

/// A program that runs until it is stopped.
pub(crate) struct Running {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// Kills it, as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and gives all that it has printed.
    pub(crate) fn stop(&mut self) -> String {
        let asked = Command::new("kill").arg(self.id().to_string()).status().unwrap();
        assert!(asked.success());
        wait_for("the end of the program", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        let code = self.child.wait().unwrap().code();
        assert_eq!(code, Some(0), "{}", self.said());
        self.said()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a test that failed gets here with a program that runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "no {what} in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is in a folder that `issue` wrote, checked as a workload would.
fn certificate_in(folder: &Path) -> WorkloadCertificate {
    #[allow(clippy::disallowed_methods, reason = "the program goes by the system's clock")]
    let now = Timestamp::from(std::time::SystemTime::now());
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let bundle = TrustBundle::from_pem(domain(), &text("bundle.pem"), now).unwrap();
    let key = PrivateKey::from_pem(&text("svid_key.pem")).unwrap();
    WorkloadCertificate::from_pem(&text("svid.pem"), key, &bundle, now).unwrap()
}

#[test]
fn from_nothing_to_a_certificate_in_two_commands() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    program.fine(&["init", "--trust-domain", DOMAIN]);
    let issued = program.json(&["issue", WEB, "--out", "web"]);
    let certificate = certificate_in(&home.path().join("web"));
    assert_eq!(certificate.id().as_str(), WEB);
    assert_eq!(issued["serial"], certificate.serial().to_string());
    let status = program.json(&["status"]);
    assert_eq!(
        (
            status["trust_domain"].as_str(),
            status["live_certificates"].as_u64()
        ),
        (Some(DOMAIN), Some(1))
    );
    // Again, into the same folder.
    program.fine(&["issue", WEB, "--out", "web", "--lifetime", "1h"]);
    assert_ne!(
        certificate_in(&home.path().join("web")).serial(),
        certificate.serial()
    );
}

#[test]
fn serve_in_an_empty_folder_makes_a_ca_and_says_what_to_type() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    let mut serve = program.command(&["serve", "--trust-domain", DOMAIN, "--listen", "127.0.0.1:0"]);
    serve.env("FERRULE_CA__ADMIN__ENABLED", "false");
    let mut running = program.start(serve);
    wait_for("the API's certificate", || {
        running.said().contains("the API has a new certificate")
    });
    // Commands work on the same folder meanwhile.
    let token = program.json(&["token", "create", "web-1", "--id", WEB]);
    let text = token["token"].as_str().unwrap();
    let parsed: ferrule_wire::JoinToken = text.parse().unwrap();
    assert_eq!(
        (parsed.name.as_str(), parsed.identities.as_slice()),
        ("web-1", [WEB.to_owned()].as_slice())
    );
    let said = running.stop();
    for needle in [
        "self-signed",
        "online",
        "ferrule-ca issue",
        "ferrule-ca token create",
        "127.0.0.1:",
    ] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    assert!(!said.contains(&parsed.secret.to_text()));
    let tokens = program.json(&["token", "list"]);
    assert_eq!(tokens["tokens"][0]["state"], "outstanding");
    program.fine(&["token", "revoke", "web-1"]);
    assert_eq!(program.json(&["token", "list"])["tokens"][0]["state"], "revoked");
}

#[test]
fn the_production_profile_refuses_a_root_that_is_online() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    let output = program.run(&["serve", "--trust-domain", DOMAIN, "--profile", "production"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("production"), "{said}");
}

#[test]
fn what_is_missing_is_said_with_what_to_type() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    for (arguments, code, needle) in [
        (vec!["status"], 2, "cannot use the data folder"),
        (vec!["init"], 64, "--trust-domain NAME"),
        (vec!["init", "--trust-domain", "Shop.test"], 64, "'S'"),
        (vec!["issue", "spiffe://shop.test", "--out", "x"], 64, "no path"),
        (vec!["revoke", "--reason", "x"], 64, "required"),
    ] {
        let output = program.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(needle), "{arguments:?}: {said}");
    }
    program.fine(&["init", "--trust-domain", DOMAIN]);
    let again = program.run(&["init", "--trust-domain", DOMAIN]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let foreign = program.run(&["issue", "spiffe://other.test/a", "--out", "x"]);
    assert_eq!(foreign.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("shop.test"));
}

#[test]
fn a_backup_brings_back_the_root_and_the_record() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    program.fine(&["init", "--trust-domain", DOMAIN]);
    program.fine(&["issue", WEB, "--out", "web"]);
    program.fine(&["token", "create", "web-1", "--id", WEB]);
    let before = program.json(&["status"]);
    program.fine(&["backup", "copy.db"]);
    std::fs::copy(home.path().join("ca/kek"), home.path().join("kek")).unwrap();
    std::fs::remove_dir_all(home.path().join("ca")).unwrap();

    let careless = program.run(&["restore", "copy.db", "--kek", "kek"]);
    assert_eq!(careless.status.code(), Some(1), "{careless:?}");
    assert!(String::from_utf8_lossy(&careless.stderr).contains("--accept-loss"));
    program.fine(&["restore", "copy.db", "--kek", "kek", "--accept-loss"]);
    let after = program.json(&["status"]);
    let root = |status: &Value| {
        let all = status["authorities"].as_array().unwrap();
        all.iter().find(|one| one["role"] == "root").unwrap()["fingerprint"].clone()
    };
    assert_eq!(root(&before), root(&after));
    assert!(after["bundle_sequence"].as_u64() > before["bundle_sequence"].as_u64());
    let old = certificate_in(&home.path().join("web"));
    program.fine(&["issue", WEB, "--out", "web2"]);
    assert_ne!(certificate_in(&home.path().join("web2")).serial(), old.serial());
    assert_eq!(program.json(&["token", "list"])["tokens"][0]["state"], "void");
    assert_eq!(program.json(&["audit", "verify"])["sound"], true);
    assert_eq!(program.json(&["audit", "verify", "copy.db"])["sound"], true);
    let exported = program.fine(&["audit", "export", "--kind", "restored", "--kind", "issued"]);
    let kinds: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(kinds.iter().any(|row| row["kind"] == "restored"));
}

#[test]
fn a_changed_record_is_found() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    program.fine(&["init", "--trust-domain", DOMAIN]);
    program.fine(&["issue", WEB, "--out", "web"]);
    let head = program.json(&["audit", "verify"])["head"].clone();
    let row = format!("{}:{}", head["row"], head["hash"].as_str().unwrap());
    program.fine(&["audit", "verify", "--row", &row]);
    let ledger = rusqlite::Connection::open(home.path().join("ca/ledger.db")).unwrap();
    let changed = ledger.execute(
        "UPDATE log SET body = replace(body, 'sa/web', 'sa/wxb') WHERE kind = 'issued'",
        [],
    );
    drop(ledger);
    // Where the store itself forbids it, the attempt is what fails.
    if changed.is_ok() {
        let output = program.run(&["audit", "verify"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("DOES NOT HOLD"));
    }
}

#[test]
fn an_offline_root_signs_the_request() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    let request = program.fine(&["init", "--trust-domain", DOMAIN, "--csr-only"]);
    let refused = program.run(&["issue", WEB, "--out", "web"]);
    assert!(!refused.status.success(), "nothing is issued yet");

    let mut root = rcgen::CertificateParams::default();
    root.distinguished_name
        .push(rcgen::DnType::CommonName, "Offline root");
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1));
    root.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    let root = rcgen::CertifiedIssuer::self_signed(root, rcgen::KeyPair::generate().unwrap()).unwrap();
    let request = ferrule_identity::SigningRequest::from_pem(&request).unwrap();
    let mut signing = rcgen::CertificateParams::default();
    signing.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    signing.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    signing
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Signed elsewhere");
    signing.use_authority_key_identifier_extension = true;
    let signed = signing.signed_by(request.public_key(), &root).unwrap();
    std::fs::write(home.path().join("ca.pem"), signed.pem()).unwrap();
    std::fs::write(home.path().join("root.pem"), root.pem()).unwrap();
    program.fine(&["init", "--import", "ca.pem", "--root", "root.pem"]);
    program.fine(&["issue", WEB, "--out", "web"]);
    assert_eq!(certificate_in(&home.path().join("web")).id().as_str(), WEB);
    let online = program.json(&["status"])["notes"].to_string();
    assert!(!online.contains("root's key is online"), "{online}");
}

#[test]
fn a_new_root_is_not_activated_while_nobody_can_tell_who_lags() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    program.fine(&["init", "--trust-domain", DOMAIN]);
    program.fine(&["rotate", "prepare"]);
    assert_eq!(program.json(&["status"])["bundle_sequence"], 2);
    let refused = program.run(&["rotate", "activate"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    program.fine(&["rotate", "withdraw"]);
    program.fine(&["rotate", "signing"]);
}
