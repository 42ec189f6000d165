//! Finds a path from a certificate to a trust anchor, every certificate of it within RFC 5280.
//!
//! webpki builds the path: signatures, dates, lengths, name constraints, purposes. What it leaves to its caller
//! is checked here on each path that it proposes, before the path counts, so that it goes on to look for another.

mod error;
pub(crate) mod reading;
pub(crate) mod rules;
pub(crate) mod signatures;

use std::cell::RefCell;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

pub use error::{PathError, Place};
pub use rules::CertificateFault;
pub(crate) use signatures::SIGNATURE_ALGORITHMS;

use crate::bundle::{Anchor, Anchors};
use crate::revocation::Revocations;
use crate::{Fingerprint, Lifetime, PublicKey, SerialNumber, Timestamp};
use reading::{Extensions, Reading};
use rules::Role;

/// What a certificate is to be used for. A certificate without extended key usage may be used for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Either end of a mutual handshake: serverAuth and clientAuth, both (X509-SVID.md §4.4).
    Peer,
    /// A server: serverAuth.
    Server,
    /// A client: clientAuth.
    Client,
}

/// A path that was found and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// From the leaf to the last certificate below the anchor: each certificate by its issuer's key and its serial.
    pub links: Vec<Link>,
    /// The SHA-256 of the anchor's certificate.
    pub anchor: Fingerprint,
    /// When every certificate of the path is valid, the anchor's included.
    pub valid: Lifetime,
}

/// One certificate of a path, as a revocation names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// The SHA-256 of the public key that signed it.
    pub issuer: Fingerprint,
    /// Its serial number.
    pub serial: SerialNumber,
}

/// Finds a path from `chain`'s first certificate, through any of the others, to one of `anchors`, that is
/// valid at `now`, fit for `purpose` and not revoked. Knows no SPIFFE rule.
///
/// # Errors
/// When `chain` is empty, has more than 40 certificates, more than 64 KiB or more than four of one subject
/// (each before anything is verified), or when no such path exists; then the most telling reason.
pub fn verify_path(
    chain: &[CertificateDer<'_>],
    anchors: &Anchors,
    purpose: Purpose,
    revocations: &Revocations,
    now: Timestamp,
) -> Result<Path, PathError> {
    check_size(chain, MAX_PATH_CERTIFICATES)?;
    let [leaf, others @ ..] = chain else {
        return Err(PathError::Empty);
    };
    check_namesakes(others)?;
    let reading = Reading::new(leaf).map_err(|source| PathError::at(Place::Leaf, source))?;
    rules::check(&reading, Role::Leaf).map_err(|source| PathError::at(Place::Leaf, source))?;
    build(&reading, chain, anchors, purpose, revocations, now)
}

/// [`verify_path`] of a chain that is small enough, and whose leaf was read.
///
/// # Errors
/// As [`verify_path`].
pub(crate) fn verify_read(
    leaf: &Leaf<'_, '_>,
    chain: &[CertificateDer<'_>],
    anchors: &Anchors,
    purpose: Purpose,
    revocations: &Revocations,
    now: Timestamp,
) -> Result<Path, PathError> {
    check_namesakes(chain.get(1..).unwrap_or_default())?;
    leaf.check()
        .map_err(|source| PathError::at(Place::Leaf, source))?;
    build(leaf.reading, chain, anchors, purpose, revocations, now)
}

/// A leaf that was read, with its extensions.
pub(crate) struct Leaf<'c, 'a> {
    pub(crate) reading: &'c Reading<'a>,
    pub(crate) extensions: &'c Extensions<'c, 'a>,
    /// The key that it was made for, where that is known: reading it again would tell nothing new.
    pub(crate) made_for: Option<&'c PublicKey>,
}

impl Leaf<'_, '_> {
    /// [`rules::check`], step by step.
    fn check(&self) -> Result<(), CertificateFault> {
        rules::check_fields(self.reading)?;
        match self.made_for {
            None => self.reading.public_key().map(drop)?,
            Some(key) if self.reading.spki_der() == key.spki_der() => {}
            Some(_) => return Err(CertificateFault::OtherKey),
        }
        rules::check_extensions(self.reading, self.extensions, Role::Leaf)
    }
}

/// Has webpki look for a path, and judges each that it proposes.
fn build(
    leaf_reading: &Reading<'_>,
    chain: &[CertificateDer<'_>],
    anchors: &Anchors,
    purpose: Purpose,
    revocations: &Revocations,
    now: Timestamp,
) -> Result<Path, PathError> {
    let [leaf, others @ ..] = chain else {
        return Err(PathError::Empty);
    };
    let end_entity =
        EndEntityCert::try_from(leaf).map_err(|source| PathError::from_webpki(source, chain, now))?;

    // webpki's closure returns webpki's errors; ours wait here. The first one stays: it belongs to the path
    // that webpki liked best.
    let accepted = RefCell::new(None);
    let objection = RefCell::new(None);
    let judge = |candidate: &webpki::VerifiedPath<'_>| match check_candidate(
        candidate,
        leaf_reading,
        chain,
        anchors,
        revocations,
        now,
    ) {
        Ok(path) => {
            accepted.replace(Some(path));
            Ok(())
        }
        Err(error) => {
            objection.borrow_mut().get_or_insert(error);
            Err(webpki::Error::UnknownIssuer)
        }
    };
    let seconds = u64::try_from(now.unix()).map_err(|_| PathError::BeforeEpoch { now })?;
    let built = end_entity.verify_for_usage(
        &anchors.known_keys().algorithms(),
        anchors.trusted(),
        others,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        purpose,
        None,
        Some(&judge),
    );
    let found = accepted.take();
    match (built, found, objection.take()) {
        (Ok(_), Some(path), _) => Ok(path),
        (_, _, Some(objection)) => Err(objection),
        (Err(source), ..) => Err(PathError::from_webpki(source, chain, now)),
        // webpki takes no path without asking the closure.
        (Ok(_), None, None) => Err(PathError::UnknownIssuer),
    }
}

/// Refuses what is too much to look at, before it is looked at.
pub(crate) fn check_size(chain: &[CertificateDer<'_>], most: usize) -> Result<(), PathError> {
    if chain.len() > most {
        return Err(PathError::TooMany {
            count: chain.len(),
            most,
        });
    }
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    if bytes > MAX_CHAIN_BYTES {
        return Err(PathError::TooLarge { bytes });
    }
    Ok(())
}

/// Bounds the search: at each step it tries all certificates whose subject is the issuer that it looks for, and
/// webpki's own limit of 200,000 steps is seconds of work for a chain that nobody signed.
fn check_namesakes(others: &[CertificateDer<'_>]) -> Result<(), PathError> {
    let subjects: Vec<Vec<u8>> = others
        .iter()
        .filter_map(|der| Some(EndEntityCert::try_from(der).ok()?.subject().to_vec()))
        .collect();
    let most = subjects
        .iter()
        .map(|subject| subjects.iter().filter(|other| *other == subject).count())
        .max()
        .unwrap_or(0);
    if most > MAX_NAMESAKES {
        return Err(PathError::Namesakes { count: most });
    }
    Ok(())
}

/// Checks what webpki did not, on a path that it found.
fn check_candidate(
    candidate: &webpki::VerifiedPath<'_>,
    leaf: &Reading<'_>,
    chain: &[CertificateDer<'_>],
    anchors: &Anchors,
    revocations: &Revocations,
    now: Timestamp,
) -> Result<Path, PathError> {
    let anchor = anchors
        .behind(candidate.anchor())
        .ok_or(PathError::UnknownIssuer)?;
    check_anchor_dates(anchor, now)?;
    let mut below = Step {
        place: Place::Leaf,
        serial: serial_at(leaf, Place::Leaf)?,
        valid: leaf
            .lifetime()
            .map_err(|source| PathError::at(Place::Leaf, source))?,
    };
    let mut valid = anchor.lifetime();
    let mut links = Vec::new();
    for certificate in candidate.intermediate_certificates() {
        let der = certificate.der();
        let place = Place::of(&der, chain);
        let fault = |source| PathError::at(place, source);
        let reading = Reading::new(&der).map_err(fault)?;
        rules::check(&reading, Role::Intermediate).map_err(fault)?;
        valid = overlap(valid, below.valid).ok_or(PathError::NeverValid)?;
        links.push(below.judged(reading.key_fingerprint(), revocations)?);
        below = Step {
            place,
            serial: serial_at(&reading, place)?,
            valid: reading.lifetime().map_err(fault)?,
        };
    }
    valid = overlap(valid, below.valid).ok_or(PathError::NeverValid)?;
    links.push(below.judged(anchor.key_fingerprint(), revocations)?);
    Ok(Path {
        links,
        anchor: anchor.fingerprint(),
        valid,
    })
}

/// A certificate of the path whose issuer is not known yet.
struct Step {
    place: Place,
    serial: SerialNumber,
    valid: Lifetime,
}

impl Step {
    /// Its link, now that its issuer's key is known, unless that revoked it.
    fn judged(self, issuer: Fingerprint, revocations: &Revocations) -> Result<Link, PathError> {
        let link = Link {
            issuer,
            serial: self.serial,
        };
        match revocations.judge(&link) {
            None => Ok(link),
            Some(how) => Err(PathError::Revoked {
                place: self.place,
                link,
                how,
            }),
        }
    }
}

fn serial_at(reading: &Reading<'_>, place: Place) -> Result<SerialNumber, PathError> {
    reading.serial().map_err(|source| PathError::at(place, source))
}

/// webpki does not look at an anchor's dates, and the bundle may have been read long ago.
fn check_anchor_dates(anchor: &Anchor, now: Timestamp) -> Result<(), PathError> {
    let life = anchor.lifetime();
    if now < life.not_before() {
        return Err(PathError::NotYetValid {
            place: Place::Anchor,
            not_before: life.not_before(),
            now,
        });
    }
    if now > life.not_after() {
        return Err(PathError::Expired {
            place: Place::Anchor,
            not_after: life.not_after(),
            now,
        });
    }
    Ok(())
}

fn overlap(a: Lifetime, b: Lifetime) -> Option<Lifetime> {
    Lifetime::new(
        a.not_before().max(b.not_before()),
        a.not_after().min(b.not_after()),
    )
}

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, present: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let (mut any, mut server, mut client) = (false, false, false);
        for id in present {
            any = true;
            match id?.to_decoded_oid().as_slice() {
                webpki::KeyUsage::SERVER_AUTH_REPR => server = true,
                webpki::KeyUsage::CLIENT_AUTH_REPR => client = true,
                _ => {}
            }
        }
        let fit = match self {
            Self::Peer => server && client,
            Self::Server => server,
            Self::Client => client,
        };
        if fit || !any {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(
            webpki::RequiredEkuNotFoundContext {
                required: if server {
                    webpki::KeyUsage::client_auth()
                } else {
                    webpki::KeyUsage::server_auth()
                },
                present: Vec::new(),
            },
        ))
    }
}

/// The most certificates that are searched for a path. A peer may send fewer: see [`verify`](mod@crate::verify).
pub const MAX_PATH_CERTIFICATES: usize = 40;

/// The most bytes that a chain may have, as in TLS with rustls.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// The most certificates of one subject that a chain may have: with the six authorities that webpki allows in
/// one path, the search then ends within 4^6 steps.
pub const MAX_NAMESAKES: usize = 4;
