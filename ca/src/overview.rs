//! Sums up how the CA is: its certificates, what hangs on them, what an operator should look at.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ferrule_identity::Timestamp;
use ferrule_wire::ca::{AuthorityStatus, StatusReply};

use crate::authority::{Authorities, Listed};
use crate::config::Profile;
use crate::keystore::SecretKind;
use crate::ledger::event::{Role, Step};
use crate::ledger::{Ledger, LedgerError};

/// Reads the state of the CA for whoever asks.
#[derive(Clone)]
pub struct Overview {
    authorities: Arc<Authorities>,
    ledger: Arc<dyn Ledger>,
}

impl Overview {
    /// Reads `ledger` and what `authorities` knows.
    pub fn new(authorities: Arc<Authorities>, ledger: Arc<dyn Ledger>) -> Self {
        Self { authorities, ledger }
    }

    /// How the CA is at `now`.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn read(&self, now: Timestamp) -> Result<StatusReply, LedgerError> {
        let live = self.ledger.live().await?;
        let generations = *self.ledger.watch().borrow();
        let bundle = self.ledger.bundle().await?;
        let view = self.authorities.view();
        let mut warnings = Vec::new();
        if let Err(error) = view.active() {
            warnings.push(format!(
                "it issues nothing: {}",
                ferrule_daemon::logging::Chain(error)
            ));
        }
        let mut ends: Vec<(Timestamp, String)> =
            view.all().filter_map(|listed| ending(&listed, now)).collect();
        ends.sort();
        warnings.extend(ends.into_iter().map(|(_, warning)| warning));
        Ok(StatusReply {
            trust_domain: self.authorities.settings().trust_domain.to_string(),
            server_time: now.unix(),
            bundle_sequence: bundle.sequence,
            revocation_generation: generations.revocations,
            authorities: view.all().map(|listed| authority(&listed)).collect(),
            live_certificates: live.certificates,
            warnings,
            notes: self.risks(),
        })
    }

    /// What the profile lets pass and an operator should know.
    fn risks(&self) -> Vec<String> {
        let mut risks = Vec::new();
        let online = |listed: &Listed<'_>| listed.slot.role == Role::Root && listed.key_here;
        if self.authorities.settings().profile == Profile::Standard
            && self.authorities.view().all().any(|l| online(&l))
        {
            risks.push(
                "the root's key is online, in this CA; for production use a root that is kept elsewhere \
                 (ferrule-ca init --csr-only)"
                    .to_owned(),
            );
        }
        if self.authorities.keys().kind() == SecretKind::BesideData {
            risks.push(format!(
                "the key-encryption key {} lies beside the keys that it protects; give one with \
                 --passphrase-file",
                self.authorities.keys().source().display()
            ));
        }
        risks
    }
}

impl fmt::Debug for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Overview")
    }
}

fn authority(listed: &Listed<'_>) -> AuthorityStatus {
    AuthorityStatus {
        role: listed.slot.role.as_str().to_owned(),
        state: listed.slot.state.as_str().to_owned(),
        fingerprint: listed.certificate.to_string(),
        not_before: listed.slot.lifetime.not_before().unix(),
        not_after: listed.slot.lifetime.not_after().unix(),
    }
}

/// The warning that a certificate in use is near its end: 30, 14 and 7 days before. A signing certificate that is
/// replaced by itself is near its end only when that has not happened.
fn ending(listed: &Listed<'_>, now: Timestamp) -> Option<(Timestamp, String)> {
    let end = listed.slot.lifetime.not_after();
    let what = match (listed.slot.role, listed.slot.state) {
        (Role::Root, Step::Active | Step::Retired) => "root",
        (Role::Signing, Step::Active) => "signing certificate",
        _ => return None,
    };
    let left = end.since(now);
    // Lives shorter than a few months never have 30 days left; a fifth of them is as good a sign.
    let whole = listed.slot.lifetime.length();
    let near = WARN_DAYS
        .iter()
        .map(|days| Duration::from_secs(days * DAY))
        .filter(|near| left <= *near)
        .min()?;
    if left > whole / 5 {
        return None;
    }
    let fingerprint = listed.certificate.to_string();
    let short = &fingerprint[..16];
    let warning = match left.as_secs() {
        0 => format!("the {what} {short} has ended, at {end}"),
        seconds if seconds < DAY => format!("the {what} {short} ends today, at {end}"),
        seconds => format!(
            "the {what} {short} ends in {} days, at {end} (within {} days)",
            seconds / DAY,
            near.as_secs() / DAY
        ),
    };
    Some((end, warning))
}

const DAY: u64 = 86_400;

const WARN_DAYS: [u64; 3] = [30, 14, 7];
