//! Converts the deny list between its message and its checked form.

use ferrule_identity::path::Link;
use ferrule_identity::{DenyList, Fingerprint, KeyError, SerialError, SpiffeId, SpiffeIdError};

use super::{RevocationsReply, RevokedCertificate};

impl RevocationsReply {
    /// The message for `list`, number `generation`, sorted, so that equal lists are equal bytes.
    pub fn from_list(list: &DenyList, generation: u64, server_time: i64) -> Self {
        let mut identities: Vec<String> = list.identities.iter().map(SpiffeId::to_string).collect();
        let mut certificates: Vec<_> = list.certificates.iter().map(RevokedCertificate::from).collect();
        let mut authorities: Vec<String> = list.authorities.iter().map(Fingerprint::to_string).collect();
        identities.sort_unstable();
        certificates.sort_unstable_by(|a, b| (&a.issuer, &a.serial).cmp(&(&b.issuer, &b.serial)));
        authorities.sort_unstable();
        Self {
            generation,
            identities,
            certificates,
            authorities,
            server_time,
        }
    }

    /// The deny list that the message holds.
    ///
    /// # Errors
    /// Names the first entry that is none. The list is taken whole or not at all: one that lacks an entry would
    /// let somebody in.
    pub fn to_list(&self) -> Result<DenyList, RevocationsError> {
        let certificate = |(at, certificate): (usize, &RevokedCertificate)| {
            let key = |source| RevocationsError::Key {
                list: "certificates",
                at,
                source,
            };
            let issuer = certificate.issuer.parse().map_err(key)?;
            let serial = certificate
                .serial
                .parse()
                .map_err(|source| RevocationsError::Serial { at, source })?;
            Ok(Link { issuer, serial })
        };
        let identity = |(at, id): (usize, &String)| {
            SpiffeId::parse(id).map_err(|source| RevocationsError::Identity { at, source })
        };
        let authority = |(at, key): (usize, &String)| {
            key.parse().map_err(|source| RevocationsError::Key {
                list: "authorities",
                at,
                source,
            })
        };
        Ok(DenyList {
            identities: self
                .identities
                .iter()
                .enumerate()
                .map(identity)
                .collect::<Result<_, _>>()?,
            certificates: self
                .certificates
                .iter()
                .enumerate()
                .map(certificate)
                .collect::<Result<_, _>>()?,
            authorities: self
                .authorities
                .iter()
                .enumerate()
                .map(authority)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Link> for RevokedCertificate {
    fn from(link: &Link) -> Self {
        Self {
            issuer: link.issuer.to_string(),
            serial: link.serial.to_string(),
        }
    }
}

/// Why a message holds no deny list. Entries are counted from 0.
#[derive(Debug, thiserror::Error)]
pub enum RevocationsError {
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
        /// What is wrong.
        source: KeyError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> DenyList {
        let link = |serial: &str| Link {
            issuer: Fingerprint::of(b"issuer"),
            serial: serial.parse().unwrap(),
        };
        DenyList {
            identities: ["spiffe://a.test/b", "spiffe://a.test/a"]
                .iter()
                .map(|id| id.parse().unwrap())
                .collect(),
            certificates: [link("0b"), link("0a")].into(),
            authorities: [Fingerprint::of(b"lost")].into(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_sorted() {
        let reply = RevocationsReply::from_list(&list(), 7, 1_800_000_000);
        assert_eq!(reply.to_list().unwrap(), list());
        assert_eq!(reply.identities, ["spiffe://a.test/a", "spiffe://a.test/b"]);
        assert_eq!(reply.certificates[0].serial, "0a");
        assert_eq!(reply.generation, 7);
    }

    #[test]
    fn one_bad_entry_spoils_the_list() {
        let good = RevocationsReply::from_list(&list(), 1, 0);
        let mut bad = good.clone();
        bad.identities.push("spiffe://a.test".to_owned());
        assert_eq!(
            bad.to_list().unwrap_err().to_string(),
            "identities[2] is no SPIFFE ID"
        );
        let mut bad = good.clone();
        bad.certificates[1].serial = "0".to_owned();
        assert!(bad.to_list().unwrap_err().to_string().contains("certificates[1]"));
        let mut bad = good;
        bad.authorities[0].make_ascii_uppercase();
        assert!(bad.to_list().unwrap_err().to_string().contains("authorities[0]"));
    }
}
