//! `ferrule-ca issue`: writes a certificate, its key and the trust bundle to a folder.

use std::process::ExitCode;

use ferrule_credentials::store;
use ferrule_identity::{KeyAlgorithm, PrivateKey, SigningRequest, TrustBundle};
use serde_json::json;

use super::cli::{Common, Issue};
use super::init::read;
use super::print::{Format, distance};
use super::{Failure, open, print_json, print_line};
use crate::crypto::CryptoProfile;
use crate::instance::Instance;
use crate::issue::{IssueError, Issued, Wanted};

pub(super) async fn run(issue: &Issue, common: &Common) -> Result<ExitCode, Failure> {
    let ca = open(common).await?;
    // A CA that was not served for a while, or was restored, may need another signing certificate first.
    if let Err(error) = ca.authorities.tend().await {
        super::tell(&format!("note: {}", ferrule_daemon::logging::Chain(&error)));
    }
    let (key, request) = match &issue.csr {
        Some(file) => (
            None,
            SigningRequest::from_pem(&read(file)?).map_err(|error| Failure::refused(&error))?,
        ),
        None => {
            let key = new_key(&ca)?;
            let request = SigningRequest::build_pem(&key).map_err(Failure::could_not("make a request"))?;
            let request =
                SigningRequest::from_pem(&request).map_err(Failure::could_not("read the request"))?;
            (Some(key), request)
        }
    };
    let lifetime = issue
        .lifetime
        .map(|lifetime| i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
    let wanted = Wanted {
        id: Some(issue.id.clone()),
        lifetime,
    };
    let issued = match ca.issuer.issue(&ca.operator(), &request, &wanted).await {
        Ok(issued) => issued,
        Err(error @ IssueError::Refused(_)) => return Err(Failure::refused(&error)),
        Err(error) => return Err(Failure::could_not("issue")(error)),
    };
    let bundle = bundle(&ca)?;
    write(issue, &issued, key.as_ref(), &bundle)?;
    ca.close().await.map_err(Failure::could_not("close the ledger"))?;
    let out = issue.out.display();
    match common.output {
        Format::Json => print_json(&json!({
            "id": issued.name,
            "serial": issued.serial.to_string(),
            "not_before": issued.lifetime.not_before().unix(),
            "not_after": issued.lifetime.not_after().unix(),
            "svid": issue.out.join(store::CHAIN_FILE),
            "key": key.is_some().then(|| issue.out.join(store::KEY_FILE)),
            "bundle": issue.out.join(store::BUNDLE_FILE),
        }))?,
        Format::Table => print_line(&format!(
            "{}\n  serial {}, until {} ({})\n  {out}/svid.pem, {out}/bundle.pem{}",
            issued.name,
            issued.serial,
            issued.lifetime.not_after(),
            distance(issued.lifetime.not_after(), ca.now()),
            if key.is_some() {
                format!(", {out}/svid_key.pem")
            } else {
                String::new()
            },
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn new_key(ca: &Instance) -> Result<PrivateKey, Failure> {
    let algorithm = match ca.config.crypto {
        CryptoProfile::Standard => KeyAlgorithm::EcdsaP256,
        CryptoProfile::Cnsa1 => KeyAlgorithm::EcdsaP384,
    };
    PrivateKey::generate(algorithm).map_err(Failure::could_not("make a key"))
}

fn bundle(ca: &Instance) -> Result<TrustBundle, Failure> {
    let view = ca.authorities.view();
    let (sequence, roots) = (view.slots().sequence(), view.trusted_roots());
    TrustBundle::new(ca.trust_domain.clone(), sequence, None, &roots, ca.now())
        .map_err(Failure::could_not("make the trust bundle"))
}

/// The key first, so that no reader finds a certificate without it.
fn write(
    issue: &Issue,
    issued: &Issued,
    key: Option<&PrivateKey>,
    bundle: &TrustBundle,
) -> Result<(), Failure> {
    let failed = Failure::could_not("write what was issued");
    let written = store::make_folder(&issue.out)
        .and_then(|()| match key {
            Some(key) => store::replace(
                &issue.out.join(store::KEY_FILE),
                key.to_pem().as_bytes(),
                store::PRIVATE,
            ),
            None => Ok(()),
        })
        .and_then(|()| {
            store::replace(
                &issue.out.join(store::CHAIN_FILE),
                issued.chain_pem.as_bytes(),
                store::PUBLIC,
            )
        })
        .and_then(|()| {
            store::replace(
                &issue.out.join(store::BUNDLE_FILE),
                bundle.to_pem().as_bytes(),
                store::PUBLIC,
            )
        });
    written.map_err(failed)
}
