//! Names which keys a profile allows, for the whole CA in one place.

use std::fmt;
use std::str::FromStr;

use ferrule_identity::KeyAlgorithm;

/// Which algorithms are allowed; chosen at install by the setting `crypto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CryptoProfile {
    /// What every TLS stack of today speaks: ECDSA on P-256 or P-384 for workloads.
    #[default]
    Standard,
    /// CNSA 1.0 (RFC 9151 names its TLS profile): P-384 with SHA-384, from the root down to the leaf.
    Cnsa1,
}

impl CryptoProfile {
    /// The name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Cnsa1 => "cnsa1",
        }
    }

    /// The keys that workloads may have. ECDSA alone: several TLS stacks that must be able to meet us do not
    /// verify Ed25519, and RSA costs a server fifty times as much for each handshake.
    pub const fn leaf_keys(self) -> &'static [KeyAlgorithm] {
        match self {
            Self::Standard => &[KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384],
            Self::Cnsa1 => &[KeyAlgorithm::EcdsaP384],
        }
    }

    /// The keys that sign workloads' certificates. Not RSA, which takes milliseconds for each.
    pub const fn signing_keys(self) -> &'static [KeyAlgorithm] {
        match self {
            Self::Standard => &[
                KeyAlgorithm::EcdsaP256,
                KeyAlgorithm::EcdsaP384,
                KeyAlgorithm::Ed25519,
            ],
            Self::Cnsa1 => &[KeyAlgorithm::EcdsaP384],
        }
    }

    /// The keys that a root may have.
    pub const fn root_keys(self) -> &'static [KeyAlgorithm] {
        match self {
            Self::Standard => &[
                KeyAlgorithm::EcdsaP256,
                KeyAlgorithm::EcdsaP384,
                KeyAlgorithm::Ed25519,
                KeyAlgorithm::Rsa3072,
                KeyAlgorithm::Rsa4096,
            ],
            Self::Cnsa1 => &[KeyAlgorithm::EcdsaP384],
        }
    }

    /// The key that is made where nobody names one.
    pub const fn default_key(self) -> KeyAlgorithm {
        match self {
            Self::Standard => KeyAlgorithm::EcdsaP256,
            Self::Cnsa1 => KeyAlgorithm::EcdsaP384,
        }
    }
}

impl fmt::Display for CryptoProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CryptoProfile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        [Self::Standard, Self::Cnsa1]
            .into_iter()
            .find(|profile| profile.as_str() == name)
            .ok_or(UnknownProfile)
    }
}

/// The names of algorithms as a sentence lists them: `p256, p384`.
pub(crate) fn listed(algorithms: &[KeyAlgorithm]) -> String {
    let names: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
    names.join(", ")
}

/// A name that is no profile's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such crypto profile, only standard and cnsa1")]
pub struct UnknownProfile;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_never_mixes_in_what_it_forbids() {
        let profile: CryptoProfile = "cnsa1".parse().unwrap();
        for keys in [profile.leaf_keys(), profile.signing_keys(), profile.root_keys()] {
            assert_eq!(keys, [KeyAlgorithm::EcdsaP384]);
        }
        assert_eq!("fips".parse::<CryptoProfile>(), Err(UnknownProfile));
    }

    #[test]
    fn the_default_key_is_allowed_everywhere() {
        for profile in [CryptoProfile::Standard, CryptoProfile::Cnsa1] {
            for keys in [profile.leaf_keys(), profile.signing_keys(), profile.root_keys()] {
                assert!(keys.contains(&profile.default_key()));
            }
        }
    }
}
