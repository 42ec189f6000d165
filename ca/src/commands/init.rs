//! `ferrule-ca init`: makes a CA.

use std::path::Path;
use std::process::ExitCode;

use ferrule_daemon::clock::Clock;
use ferrule_identity::PrivateKey;

use super::cli::{Common, Init};
use super::{Failure, again, print_line, settings, tell};
use crate::authority::AuthorityError;
use crate::folder::read_secret;
use crate::instance::Instance;

pub(super) async fn run(init: &Init, common: &Common) -> Result<ExitCode, Failure> {
    let config = settings(common)?.config;
    let ca = Instance::open(config, Clock::system(), init.import.is_none()).await?;
    let by = "operator local: init";
    if init.csr_only {
        let request = ca
            .authorities
            .request()
            .await
            .map_err(authority("make the request"))?;
        print_line(request.trim_end())?;
        tell(&format!(
            "The request is on standard output. Have it signed as a certificate authority, then type:\n  \
             ferrule-ca init --import CHAIN.pem --root ROOT.pem{}",
            again(common)
        ));
    } else if let Some(chain) = &init.import {
        let chain = read(chain)?;
        let root = init.root.as_deref().map(read).transpose()?;
        let taken = ca.authorities.import(&chain, root.as_deref(), by).await;
        taken.map_err(authority("take in the certificate"))?;
        tell(&made(&ca, common));
    } else if let (Some(certificate), Some(key)) = (&init.root_cert, &init.root_key) {
        let key = read_key(key, init.root_key_passphrase_file.as_deref())?;
        let taken = ca.authorities.found_with(&read(certificate)?, key, by).await;
        taken.map_err(authority("take in the root"))?;
        tell(&made(&ca, common));
    } else {
        ca.authorities
            .found_new(by)
            .await
            .map_err(authority("make the CA"))?;
        tell(&made(&ca, common));
    }
    ca.close().await.map_err(Failure::could_not("close the ledger"))?;
    Ok(ExitCode::SUCCESS)
}

/// What there is now, in a few lines, with the next command to type.
pub(super) fn made(ca: &Instance, common: &Common) -> String {
    let view = ca.authorities.view();
    let mut lines = vec![format!(
        "A CA for the trust domain {} is in {}.",
        ca.trust_domain,
        ca.folder.path().display()
    )];
    for listed in view.all() {
        lines.push(format!(
            "  {:<8} {}  until {}",
            listed.slot.role.as_str(),
            listed.certificate,
            listed.slot.lifetime.not_after()
        ));
    }
    if view.all().any(|listed| listed.self_issued && listed.key_here) {
        lines.push(
            "The root is self-signed and online: its key is in the ledger, locked. That is fine to start with; for\n\
             production keep the root elsewhere (ferrule-ca init --help)."
                .to_owned(),
        );
    }
    if ca.authorities.keys().kind() == crate::keystore::SecretKind::BesideData {
        lines.push(format!(
            "The keys are locked with {}, which lies beside them: whoever copies the folder has both.\n\
             Keep a copy of it apart from the backups, which cannot be used without it.",
            ca.folder.kek().display()
        ));
    }
    lines.push(format!(
        "Next, a certificate on disk:\n  ferrule-ca issue spiffe://{}/ns/demo/sa/web --out web{}",
        ca.trust_domain,
        again(common)
    ));
    lines.join("\n")
}

/// A refusal of the CA is one; trouble with files and the ledger is not.
pub(super) fn authority(doing: &'static str) -> impl FnOnce(AuthorityError) -> Failure {
    move |error| match error {
        AuthorityError::Ledger { .. } | AuthorityError::Keys { .. } | AuthorityError::Cancelled => {
            Failure::CouldNot {
                doing,
                source: error.into(),
            }
        }
        error => Failure::refused(&error),
    }
}

/// The text of a file that the operator names.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    text.map_err(|error| Failure::CouldNot {
        doing: "read a file",
        source: format!("{}: {error}", path.display()).into(),
    })
}

/// A private key from a file, unlocked where it is locked.
pub(super) fn read_key(path: &Path, passphrase: Option<&Path>) -> Result<PrivateKey, Failure> {
    let text = zeroize::Zeroizing::new(read(path)?);
    let key = match passphrase {
        None => PrivateKey::from_pem(&text),
        Some(file) => {
            let secret = read_secret(file).map_err(Failure::could_not("read the passphrase"))?;
            PrivateKey::from_encrypted_pem(&text, &secret)
        }
    };
    key.map_err(|error| Failure::refused(&error))
}
