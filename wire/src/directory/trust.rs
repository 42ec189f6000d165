//! Converts whom to trust, and whom not, between message and checked form.

use ferrule_identity::path::Link;
use ferrule_identity::{
    BundleError, DenyList, Fingerprint, SerialError, SpiffeId, SpiffeIdError, Timestamp, TrustBundle,
    TrustDomain,
};

use super::{BUNDLE, DENY_LIST, UnpackError, pack, unpack};
use crate::proto::ferrule::v1 as message;
use crate::proto::google::protobuf::Any;

/// The message about a trust bundle.
pub fn write_bundle(bundle: &TrustBundle) -> Any {
    let bundle = message::Bundle {
        jwks: bundle.to_jwks(),
        sequence: bundle.sequence(),
    };
    pack(BUNDLE, &bundle)
}

/// The trust bundle of `trust_domain` in a message, its anchors checked.
///
/// # Errors
/// When it is no bundle, or one of its anchors breaks a rule.
pub fn read_bundle(
    packed: Option<&Any>,
    trust_domain: TrustDomain,
    now: Timestamp,
) -> Result<TrustBundle, TrustMessageError> {
    let bundle: message::Bundle =
        unpack(BUNDLE, packed).map_err(|source| TrustMessageError::Message { source })?;
    TrustBundle::from_jwks(trust_domain, &bundle.jwks, now)
        .map_err(|source| TrustMessageError::Bundle { source })
}

/// The message about a deny list, sorted, so that equal lists are equal bytes.
pub fn write_deny_list(list: &DenyList, generation: u64) -> Any {
    let mut identities: Vec<String> = list.identities.iter().map(ToString::to_string).collect();
    let mut certificates: Vec<(Fingerprint, String)> = list
        .certificates
        .iter()
        .map(|link| (link.issuer, link.serial.to_string()))
        .collect();
    let mut authorities: Vec<Fingerprint> = list.authorities.iter().copied().collect();
    identities.sort_unstable();
    certificates.sort_unstable();
    authorities.sort_unstable();
    let octets = |print: Fingerprint| print.as_bytes().to_vec().into();
    let list = message::DenyList {
        generation,
        identities,
        certificates: certificates
            .into_iter()
            .map(|(issuer, serial)| message::DeniedCertificate {
                issuer: octets(issuer),
                serial,
            })
            .collect(),
        authorities: authorities.into_iter().map(octets).collect(),
    };
    pack(DENY_LIST, &list)
}

/// The deny list in a message, with its number.
///
/// # Errors
/// Names the first entry that is none. The list is taken whole or not at all: one that lacks an entry would let
/// somebody in.
pub fn read_deny_list(packed: Option<&Any>) -> Result<(u64, DenyList), TrustMessageError> {
    let list: message::DenyList =
        unpack(DENY_LIST, packed).map_err(|source| TrustMessageError::Message { source })?;
    let mut denied = DenyList::default();
    for (at, id) in list.identities.iter().enumerate() {
        let id = SpiffeId::parse(id).map_err(|source| TrustMessageError::Identity { at, source })?;
        denied.identities.insert(id);
    }
    for (at, certificate) in list.certificates.iter().enumerate() {
        let issuer = fingerprint(&certificate.issuer).ok_or(TrustMessageError::Key {
            list: "certificates",
            at,
        })?;
        let serial = certificate
            .serial
            .parse()
            .map_err(|source| TrustMessageError::Serial { at, source })?;
        denied.certificates.insert(Link { issuer, serial });
    }
    for (at, key) in list.authorities.iter().enumerate() {
        let key = fingerprint(key).ok_or(TrustMessageError::Key {
            list: "authorities",
            at,
        })?;
        denied.authorities.insert(key);
    }
    Ok((list.generation, denied))
}

fn fingerprint(octets: &[u8]) -> Option<Fingerprint> {
    let octets: [u8; 32] = octets.try_into().ok()?;
    Some(Fingerprint::from_bytes(octets))
}

/// Why news of trust is not taken. Entries are counted from 0.
#[derive(Debug, thiserror::Error)]
pub enum TrustMessageError {
    /// The message cannot be read.
    #[error("the message cannot be read")]
    Message {
        /// Why.
        source: UnpackError,
    },
    /// The bundle is no good.
    #[error("the bundle is refused")]
    Bundle {
        /// Why.
        source: BundleError,
    },
    /// An identity is no SPIFFE ID.
    #[error("identities[{at}] is no SPIFFE ID")]
    Identity {
        /// Which entry.
        at: usize,
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// A serial number is none.
    #[error("the serial of certificates[{at}] is no serial number")]
    Serial {
        /// Which entry.
        at: usize,
        /// What is wrong.
        source: SerialError,
    },
    /// The name of a key is no SHA-256.
    #[error("{list}[{at}] does not name a key")]
    Key {
        /// Which list.
        list: &'static str,
        /// Which entry.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deny_list_is_read_as_it_was_written() {
        let list = DenyList {
            identities: ["spiffe://a.test/b", "spiffe://a.test/a"]
                .iter()
                .map(|id| id.parse().unwrap())
                .collect(),
            certificates: [Link {
                issuer: Fingerprint::of(b"issuer"),
                serial: "0b".parse().unwrap(),
            }]
            .into(),
            authorities: [Fingerprint::of(b"lost")].into(),
        };
        let packed = write_deny_list(&list, 7);
        assert_eq!(read_deny_list(Some(&packed)).unwrap(), (7, list));
    }

    #[test]
    fn one_bad_entry_spoils_the_list() {
        let list = message::DenyList {
            identities: vec!["spiffe://a.test/a".to_owned(), "spiffe://a.test".to_owned()],
            ..Default::default()
        };
        let error = read_deny_list(Some(&pack(DENY_LIST, &list))).unwrap_err();
        assert_eq!(error.to_string(), "identities[1] is no SPIFFE ID");
    }
}
