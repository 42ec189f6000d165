//! Makes, takes in and judges roots, signing certificates and chains from elsewhere.

use std::time::Duration;

use ferrule_identity::certificate::{read_chain, write_chain};
use ferrule_identity::{
    BundleError, Bundles, CertificateError, KeyAlgorithm, Lifetime, PrivateKey, Revocations, SpiffeId,
    Timestamp, TrustBundle, TrustDomain, VerifyError, pem, verify,
};
use rustls_pki_types::CertificateDer;

use super::certificate::{AuthorityCertificate, AuthorityFault};
use super::signer::{FileSigner, Signer};
use crate::crypto::{CryptoProfile, listed};
use crate::issue::random_serial;
use crate::x509::{self, Fields, IssuedBy, Subject, Use, X509Error};

/// A certificate that begins five minutes before it is made, for peers whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// A root certificate for a new `key`, signed by itself.
pub(crate) fn make_root(
    trust_domain: &TrustDomain,
    key: &FileSigner,
    life: Duration,
    now: Timestamp,
) -> Result<AuthorityCertificate, RootError> {
    let public = key.public_key();
    let subject = subject(trust_domain, "root", public)?;
    let lifetime = life_from(now, life, Timestamp::from_unix(i64::MAX))?;
    let mut extensions = x509::use_extensions(Use::Authority { path_length: None }, public)?;
    extensions.push(x509::uri_name(&trust_domain.id(), false)?);
    let fields = Fields {
        serial: random_serial().ok_or(RootError::Random)?,
        subject: subject.clone(),
        key: public,
        lifetime,
        extensions,
    };
    let key_id = public.fingerprint();
    let by = IssuedBy {
        signer: key,
        name: &subject,
        key_id: key_id.as_bytes(),
    };
    read(&x509::certificate(fields, by)?, "root")
}

/// A signing certificate for `key` below `root`, whose key is `root_key`. Nothing may be below it but leaves.
pub(crate) fn make_signing(
    trust_domain: &TrustDomain,
    key: &dyn Signer,
    root: &AuthorityCertificate,
    root_key: &dyn Signer,
    life: Duration,
    now: Timestamp,
) -> Result<AuthorityCertificate, RootError> {
    let public = key.public_key();
    let fields = Fields {
        serial: random_serial().ok_or(RootError::Random)?,
        subject: subject(trust_domain, "signing", public)?,
        key: public,
        lifetime: life_from(now, life, root.lifetime.not_after())?,
        extensions: signing_extensions(trust_domain, key)?,
    };
    let by = IssuedBy {
        signer: root_key,
        name: &root.subject,
        key_id: &root.key_id,
    };
    read(&x509::certificate(fields, by)?, "signing certificate")
}

/// A request in PEM for the signing certificate of `key`, for an authority that is not here.
pub(crate) fn request_signing(trust_domain: &TrustDomain, key: &dyn Signer) -> Result<String, RootError> {
    let subject = subject(trust_domain, "signing", key.public_key())?;
    let der = x509::request(subject, signing_extensions(trust_domain, key)?, key)?;
    Ok(pem::write(pem::CERTIFICATE_REQUEST, &der).to_string())
}

/// Reads the one root in `text`, and checks that a CA of this profile may trust it now.
pub(crate) fn read_root(
    text: &str,
    crypto: CryptoProfile,
    now: Timestamp,
) -> Result<AuthorityCertificate, RootError> {
    let chain = read_chain(text)?;
    let [der] = chain.as_slice() else {
        return Err(RootError::NotOneRoot { count: chain.len() });
    };
    let root = read(der, "root")?;
    check_algorithm("root", root.key.algorithm(), crypto.root_keys())?;
    check_dates("root", &root, now)?;
    if root.path_length == Some(0) {
        return Err(RootError::PathLength {
            what: "root",
            needed: 1,
        });
    }
    Ok(root)
}

/// A root from elsewhere together with its key.
pub(crate) fn read_root_with_key(
    certificate: &str,
    key: &PrivateKey,
    crypto: CryptoProfile,
    now: Timestamp,
) -> Result<AuthorityCertificate, RootError> {
    let root = read_root(certificate, crypto, now)?;
    if root.key != *key.public_key() {
        return Err(RootError::OtherKey { what: "root" });
    }
    if !root.is_self_issued() {
        return Err(RootError::NotSelfIssued { name: root.name });
    }
    Ok(root)
}

/// A signing certificate that an authority elsewhere has made, with those between it and the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportedChain {
    /// The signing certificate.
    pub(crate) signing: AuthorityCertificate,
    /// The signing certificate and those above it, without the root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

/// Reads the chain in `text`, the signing certificate first, and judges each certificate of it. The root may be in
/// it, and is left out.
pub(crate) fn read_signing_chain(
    text: &str,
    root: &AuthorityCertificate,
    crypto: CryptoProfile,
    now: Timestamp,
) -> Result<ImportedChain, RootError> {
    let mut chain = read_chain(text)?;
    chain.retain(|der| *der != root.der);
    if chain.is_empty() {
        return Err(RootError::NoSigning);
    }
    let mut read_all = Vec::new();
    for (above, der) in chain.iter().enumerate() {
        let what = if above == 0 {
            "signing certificate"
        } else {
            "intermediate certificate"
        };
        let certificate = read(der, what)?;
        check_dates(what, &certificate, now)?;
        let needed = u32::try_from(above).unwrap_or(u32::MAX);
        if certificate.path_length.is_some_and(|most| most < needed) {
            return Err(RootError::PathLength { what, needed });
        }
        if crypto == CryptoProfile::Cnsa1 {
            check_algorithm(what, certificate.key.algorithm(), crypto.signing_keys())?;
        }
        read_all.push(certificate);
    }
    let needed = u32::try_from(chain.len()).unwrap_or(u32::MAX);
    if root.path_length.is_some_and(|most| most < needed) {
        return Err(RootError::PathLength { what: "root", needed });
    }
    let links = read_all.iter().zip(read_all.iter().skip(1).chain([root]));
    for (below, above) in links {
        if !below.names_as_issuer(above) {
            return Err(RootError::Gap {
                below: below.name.clone(),
                above: above.name.clone(),
            });
        }
    }
    let signing = read_all.swap_remove(0);
    check_algorithm(
        "signing certificate",
        signing.key.algorithm(),
        crypto.signing_keys(),
    )?;
    if !signing.signs_lists {
        return Err(RootError::NoListSigning);
    }
    Ok(ImportedChain { signing, chain })
}

/// Signs a leaf that nobody will hold, and verifies it as a peer would: the whole chain against the roots. Tells
/// when all certificates above a leaf are valid.
///
/// The rehearsal is held at `now`, or, when that is outside of this time, at the nearest end of it: a chain that is
/// not valid now is still known to be in order.
///
/// # Errors
/// What a peer would say. Nothing that cannot pass here is ever taken into use.
pub(crate) fn rehearse(
    trust_domain: &TrustDomain,
    by: IssuedBy<'_>,
    chain: &[CertificateDer<'static>],
    root: &AuthorityCertificate,
    now: Timestamp,
) -> Result<Lifetime, RootError> {
    let mut life = root.lifetime;
    for der in chain {
        let above = read(der, "chain")?.lifetime;
        life = Lifetime::new(
            life.not_before().max(above.not_before()),
            life.not_after().min(above.not_after()),
        )
        .ok_or(RootError::Never)?;
    }
    let at = now.clamp(life.not_before(), life.not_after());
    let id = SpiffeId::parse(&format!("{}/{REHEARSAL_PATH}", trust_domain.id()))
        .map_err(|_| RootError::LongTrustDomain)?;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let mut extensions = x509::use_extensions(Use::Peer, key.public_key())?;
    extensions.push(x509::uri_name(id.as_str(), true)?);
    let fields = Fields {
        serial: random_serial().ok_or(RootError::Random)?,
        subject: Subject::empty(),
        key: key.public_key(),
        lifetime: Lifetime::new(at, at).ok_or(RootError::Never)?,
        extensions,
    };
    let mut whole = vec![x509::certificate(fields, by)?];
    whole.extend_from_slice(chain);
    let roots = TrustBundle::new(trust_domain.clone(), 0, None, std::slice::from_ref(&root.der), at)
        .map_err(|source| RootError::Bundle { source })?;
    verify(&whole, &Bundles::from_iter([roots]), &Revocations::empty(), at)?;
    Ok(life)
}

/// The certificate, and those between it and the root, as the ledger keeps them.
pub(crate) fn chain_text(chain: &[CertificateDer<'_>]) -> String {
    write_chain(chain)
}

/// The chain as the ledger kept it, with its first certificate read.
pub(crate) fn read_kept(
    text: &str,
) -> Result<(AuthorityCertificate, Vec<CertificateDer<'static>>), RootError> {
    let chain = read_chain(text)?;
    let first = chain.first().ok_or(RootError::NoSigning)?;
    Ok((read(first, "certificate")?, chain))
}

/// A name that no other authority of the trust domain has: two of one name would be one to a peer that looks for
/// the issuer by name.
fn subject(
    trust_domain: &TrustDomain,
    role: &str,
    key: &ferrule_identity::PublicKey,
) -> Result<Subject, X509Error> {
    let short: String = key.fingerprint().to_string().chars().take(SHORT_NAME).collect();
    // RFC 5280 appendix A limits both fields to 64 characters.
    let organisation: String = trust_domain.as_str().chars().take(MAX_NAME).collect();
    Subject::new(&organisation, &format!("Ferrule {role} {short}"))
}

fn signing_extensions(
    trust_domain: &TrustDomain,
    key: &dyn Signer,
) -> Result<Vec<x509_cert::ext::Extension>, X509Error> {
    let mut extensions = x509::use_extensions(Use::Authority { path_length: Some(0) }, key.public_key())?;
    // X509-SVID.md §3.2: an authority's own name is the trust domain's, without a path.
    extensions.push(x509::uri_name(&trust_domain.id(), false)?);
    Ok(extensions)
}

fn life_from(now: Timestamp, life: Duration, end: Timestamp) -> Result<Lifetime, RootError> {
    Lifetime::new(now.minus(BACKDATE), now.plus(life).min(end).min(LAST_DATE)).ok_or(RootError::Never)
}

fn read(der: &CertificateDer<'_>, what: &'static str) -> Result<AuthorityCertificate, RootError> {
    AuthorityCertificate::read(der).map_err(|source| RootError::Unfit { what, source })
}

fn check_dates(
    what: &'static str,
    certificate: &AuthorityCertificate,
    now: Timestamp,
) -> Result<(), RootError> {
    if certificate.lifetime.contains(now) {
        Ok(())
    } else {
        Err(RootError::NotValid {
            what,
            lifetime: certificate.lifetime,
            now,
        })
    }
}

fn check_algorithm(
    what: &'static str,
    algorithm: KeyAlgorithm,
    accepted: &'static [KeyAlgorithm],
) -> Result<(), RootError> {
    if accepted.contains(&algorithm) {
        Ok(())
    } else {
        Err(RootError::Algorithm {
            what,
            algorithm,
            accepted,
        })
    }
}

/// Why a root or a signing certificate cannot be made or taken in.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The text is not PEM of certificates.
    #[error("cannot read the certificates")]
    Pem(#[from] CertificateError),
    /// More or less than one root.
    #[error("there must be exactly one root in the file, and there are {count} certificates")]
    NotOneRoot {
        /// How many.
        count: usize,
    },
    /// No signing certificate.
    #[error("there is no signing certificate in the file, only the root")]
    NoSigning,
    /// One of the certificates cannot be used.
    #[error("the {what} cannot be used")]
    Unfit {
        /// Which one.
        what: &'static str,
        /// The rule that it breaks.
        source: AuthorityFault,
    },
    /// A kind of key that the profile does not allow.
    #[error("the {what}'s key is {algorithm}; this CA takes {}", listed(accepted))]
    Algorithm {
        /// Whose key.
        what: &'static str,
        /// Its kind.
        algorithm: KeyAlgorithm,
        /// What is accepted.
        accepted: &'static [KeyAlgorithm],
    },
    /// Out of its life.
    #[error("the {what} is valid from {lifetime}, and now it is {now}")]
    NotValid {
        /// Which one.
        what: &'static str,
        /// Its life.
        lifetime: Lifetime,
        /// The CA's clock.
        now: Timestamp,
    },
    /// Too few authorities may be below it.
    #[error("the {what} allows too few authorities below it; its pathLen must be {needed} or more")]
    PathLength {
        /// Which one.
        what: &'static str,
        /// What its pathLen must be at least.
        needed: u32,
    },
    /// The key is another one's.
    #[error("the private key is not the one of the {what}")]
    OtherKey {
        /// Whose it should be.
        what: &'static str,
    },
    /// Not a root.
    #[error("{name} was issued by another authority, so it is no root; use --csr-only and --import instead")]
    NotSelfIssued {
        /// Its subject.
        name: String,
    },
    /// A certificate is missing, or in the wrong place.
    #[error(
        "{below} was not issued by {above}: the chain must go from the signing certificate up to the root"
    )]
    Gap {
        /// The lower one.
        below: String,
        /// The one that follows it.
        above: String,
    },
    /// The signing certificate's key usage lacks cRLSign.
    #[error("the signing certificate's key usage lacks cRLSign, which its revocation list needs")]
    NoListSigning,
    /// A peer would refuse what the chain signs.
    #[error("peers would refuse what this chain signs")]
    Refused(#[from] VerifyError),
    /// Peers would not take the root into their bundle.
    #[error("peers would refuse the root")]
    Bundle {
        /// For this reason.
        source: BundleError,
    },
    /// A trust domain whose name leaves no room for a path.
    #[error("the trust domain's name is too long")]
    LongTrustDomain,
    /// Dates that no instant is in.
    #[error("the certificates of the chain are never valid together")]
    Never,
    /// Nothing could be written or signed.
    #[error("cannot make the certificate")]
    Build(#[from] X509Error),
    /// No key could be made.
    #[error("cannot make a key")]
    Key(#[from] ferrule_identity::KeyError),
    /// The system has no randomness.
    #[error("no randomness for a serial number")]
    Random,
}

/// Sixteen hex digits are enough that two keys of one trust domain never share them.
const SHORT_NAME: usize = 16;

/// RFC 5280 appendix A: ub-common-name and ub-organization-name.
const MAX_NAME: usize = 64;

/// No workload can be called so: what is rehearsed never leaves.
const REHEARSAL_PATH: &str = "ferrule-ca/rehearsal";

/// 9999-12-31T23:59:59Z, the last date that a certificate can name (RFC 5280 §4.1.2.5).
const LAST_DATE: Timestamp = Timestamp::from_unix(253_402_300_799);

#[cfg(test)]
mod tests;
