//! Decides whether a caller may have the certificate that it asks for.

use std::time::Duration;

use ferrule_identity::{AskedNames, PublicKey, SpiffeId, TrustDomain};

use super::Refusal;
use crate::attest::Attested;
use crate::crypto::CryptoProfile;

/// What a caller asks for beside the key in its request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The identity; may be left out where the evidence stands for exactly one.
    pub id: Option<SpiffeId>,
    /// The life in seconds; the default when left out.
    pub lifetime: Option<i64>,
}

/// What the CA issues to workloads at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafPolicy {
    /// The only trust domain that it vouches for.
    pub trust_domain: TrustDomain,
    /// The life of a certificate when nobody asks for another.
    pub default_lifetime: Duration,
    /// The shortest life that may be asked for.
    pub min_lifetime: Duration,
    /// The longest life that may be asked for.
    pub max_lifetime: Duration,
    /// Which keys are accepted.
    pub crypto: CryptoProfile,
}

/// What a caller gets, as far as the caller is concerned: the signer's own end may still shorten it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The identity.
    pub id: SpiffeId,
    /// How long the certificate should last from now on.
    pub lifetime: Duration,
}

/// Judges a request for `key` that `asked` for names of its own.
///
/// Of a request only the key and the proof of possession are taken. What else it asks for never reaches the
/// certificate; a request that asks for a name or a power that the certificate will not have is refused, so that
/// nobody believes to have got it.
///
/// # Errors
/// The first reason to refuse; entitlement is judged before anything else.
pub fn admit(
    caller: &Attested,
    key: &PublicKey,
    asked: &AskedNames,
    wanted: &Wanted,
    policy: &LeafPolicy,
) -> Result<Admitted, Refusal> {
    let id = admit_id(caller, wanted, policy)?;
    let accepted = policy.crypto.leaf_keys();
    if !accepted.contains(&key.algorithm()) {
        return Err(Refusal::Key {
            algorithm: key.algorithm(),
            accepted,
        });
    }
    if let Some(what) = beyond(asked, &id) {
        return Err(Refusal::AsksForMore { what, id });
    }
    let lifetime = admit_lifetime(wanted.lifetime, policy)?;
    Ok(Admitted { id, lifetime })
}

fn admit_id(caller: &Attested, wanted: &Wanted, policy: &LeafPolicy) -> Result<SpiffeId, Refusal> {
    let id = match (&wanted.id, caller.entitlement.only()) {
        (Some(id), _) | (None, Some(id)) => id.clone(),
        (None, None) => {
            return Err(Refusal::IdMissing {
                caller: caller.caller.clone(),
                entitlement: caller.entitlement.clone(),
            });
        }
    };
    if !id.is_in(&policy.trust_domain) {
        return Err(Refusal::ForeignTrustDomain {
            id,
            trust_domain: policy.trust_domain.clone(),
        });
    }
    if !caller.entitlement.allows(&id) {
        return Err(Refusal::NotEntitled {
            caller: caller.caller.clone(),
            id,
            entitlement: caller.entitlement.clone(),
        });
    }
    Ok(id)
}

fn admit_lifetime(asked: Option<i64>, policy: &LeafPolicy) -> Result<Duration, Refusal> {
    let Some(asked) = asked else {
        return Ok(policy.default_lifetime);
    };
    u64::try_from(asked)
        .ok()
        .map(Duration::from_secs)
        .filter(|lifetime| (policy.min_lifetime..=policy.max_lifetime).contains(lifetime))
        .ok_or(Refusal::Lifetime {
            asked,
            min: policy.min_lifetime,
            max: policy.max_lifetime,
        })
}

/// The first thing that a request asks for and that a certificate for `id` alone does not have.
fn beyond(asked: &AskedNames, id: &SpiffeId) -> Option<String> {
    let AskedNames {
        uris,
        dns,
        ips,
        emails,
        other_names,
        common_names,
        authority,
        key_usages,
        extended_key_usages,
        extensions,
        // The rest of the subject names an organisation, and attributes such as a challenge password are for
        // other authorities: neither is a claim to be somebody.
        ..
    } = asked;
    if *authority {
        return Some("the powers of an authority (CA:TRUE)".into());
    }
    let quoted = |kind: &str, value: &str| {
        format!(
            "the {kind} {}",
            value.escape_debug().take(MAX_QUOTED).collect::<String>()
        )
    };
    let is_other = |name: &&String| name.as_str() != id.as_str();
    let first = |kind: &str, values: &[String]| values.first().map(|value| quoted(kind, value));
    uris.iter()
        .find(is_other)
        // The same name twice would still be two names.
        .or_else(|| uris.get(1))
        .map(|uri| quoted("URI", uri))
        .or_else(|| first("DNS name", dns))
        .or_else(|| ips.first().map(|ip| quoted("address", &ip.to_string())))
        .or_else(|| first("mail address", emails))
        .or_else(|| first("name", other_names))
        .or_else(|| {
            // Any text may stand there, and none is taken; but another identity is no accident.
            let ids = |name: &&String| name.to_ascii_lowercase().starts_with("spiffe:");
            let name = common_names.iter().filter(ids).find(is_other)?;
            Some(quoted("common name", name))
        })
        .or_else(|| {
            let usage = key_usages
                .iter()
                .find(|usage| !HARMLESS_USAGES.contains(&usage.as_str()))?;
            Some(quoted("key usage", usage))
        })
        .or_else(|| {
            let given = |usage: &&String| !["serverAuth", "clientAuth"].contains(&usage.as_str());
            let usage = extended_key_usages.iter().find(given)?;
            Some(quoted("extended key usage", usage))
        })
        .or_else(|| {
            let extension = extensions.iter().find(|number| *number != SUBJECT_KEY_ID)?;
            Some(quoted("extension", extension))
        })
}

/// Usages that tools ask for by habit, and that give no power over others. The certificate has the first alone.
const HARMLESS_USAGES: [&str; 5] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
];

/// The key's identifier follows from the key; whatever a request says it is, the certificate says the truth.
const SUBJECT_KEY_ID: &str = "2.5.29.14";

/// How many characters of a foreign name a message repeats.
const MAX_QUOTED: usize = 200;

#[cfg(test)]
mod tests;
