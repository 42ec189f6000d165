//! Sorts what is revoked by the issuer whose list it belongs on.

use std::collections::{BTreeMap, HashMap};

use ferrule_identity::Timestamp;

use crate::ledger::event::Subject;
use crate::ledger::{LiveCertificate, RevocationList, Serial};

/// One certificate on a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub(super) serial: Serial,
    /// When its trust was taken away.
    pub(super) since: Timestamp,
    /// When it runs out by itself.
    pub(super) not_after: Timestamp,
}

/// The certificates that `revoked` amounts to, by their issuer's key identifier, each list sorted by serial number.
///
/// A foreign verifier knows neither identities nor hosts, so those stand for their live certificates.
pub(super) fn by_issuer(revoked: &RevocationList) -> BTreeMap<String, Vec<Listed>> {
    let mut lists: BTreeMap<String, BTreeMap<Serial, Listed>> = BTreeMap::new();
    let mut list = |issuer: &str, listed: Listed| {
        let on = lists.entry(issuer.to_owned()).or_default();
        // Revoked twice over counts from the first time.
        let entry = on.entry(listed.serial).or_insert_with(|| listed.clone());
        entry.since = entry.since.min(listed.since);
    };
    let mut identities = HashMap::new();
    let mut hosts = HashMap::new();
    for entry in &revoked.entries {
        match &entry.subject {
            Subject::Identity(id) => drop(identities.insert(id.as_str(), entry.time)),
            Subject::Host(host) => drop(hosts.insert(host.as_str(), entry.time)),
            Subject::Serial(serial) => {
                // Without an issuer it is not on record as ours, and nobody's list can name it.
                if let (Some(issuer), Some(not_after)) = (&entry.issuer, entry.not_after) {
                    list(
                        issuer,
                        Listed {
                            serial: *serial,
                            since: entry.time,
                            not_after,
                        },
                    );
                }
            }
        }
    }
    let mut live = |certificate: &LiveCertificate, since: Option<&Timestamp>| {
        if let Some(since) = since {
            let listed = Listed {
                serial: certificate.serial,
                since: *since,
                not_after: certificate.not_after,
            };
            list(&certificate.issuer, listed);
        }
    };
    for certificate in &revoked.host_certificates {
        live(
            certificate,
            certificate.host.as_deref().and_then(|host| hosts.get(host)),
        );
    }
    for certificate in &revoked.identity_certificates {
        live(certificate, identities.get(certificate.id.as_str()));
    }
    lists
        .into_iter()
        .map(|(issuer, listed)| (issuer, listed.into_values().collect()))
        .collect()
}
