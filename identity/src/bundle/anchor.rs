//! Checks trust anchors, which the path builder takes on faith.

use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::extensions::GeneralName;

use crate::path::CertificateFault;
use crate::path::reading::{Reading, printable};
use crate::path::rules::{self, Role};
use crate::path::signatures::KnownKeys;
use crate::{Fingerprint, Lifetime, PublicKey, SpiffeId};

/// A certificate that is trusted as the end of a path, after its own rules were checked.
#[derive(Debug, Clone)]
pub struct Anchor {
    der: CertificateDer<'static>,
    trusted: TrustAnchor<'static>,
    lifetime: Lifetime,
    key: PublicKey,
    key_fingerprint: Fingerprint,
    subject: String,
}

impl Anchor {
    /// Reads an authority's certificate and checks it by the rules for one (RFC 5280 §4): version, serial
    /// number, key strength, extensions, cA, keyCertSign; if it has a SPIFFE ID, then one without path
    /// (X509-SVID.md §3.2). Its dates are left to whoever knows the time.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self, CertificateFault> {
        let reading = Reading::new(der)?;
        let key = rules::check(&reading, Role::Anchor)?;
        refuse_workload(&reading)?;
        // Our rules are the stricter ones; what webpki still cannot read is of no use as an anchor.
        let trusted = webpki::anchor_from_trusted_cert(der).map_err(|_| CertificateFault::Unreadable)?;
        Ok(Self {
            trusted: trusted.to_owned(),
            lifetime: reading.lifetime()?,
            key_fingerprint: key.fingerprint(),
            key,
            subject: printable(&reading.certificate.subject().to_string()),
            der: der.clone().into_owned(),
        })
    }

    /// The certificate.
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// From its first second to its last.
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The SHA-256 of its public key.
    pub const fn key_fingerprint(&self) -> Fingerprint {
        self.key_fingerprint
    }

    /// The SHA-256 of the whole certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// The subject's name, as text for people.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// An authority vouches for a trust domain; with a workload's ID it would be both.
fn refuse_workload(reading: &Reading<'_>) -> Result<(), CertificateFault> {
    let extensions = reading.extensions()?;
    let names = extensions.alternative_names.iter().flat_map(|names| names.value);
    for name in names {
        if let GeneralName::URI(text) = name
            && let Ok(id) = SpiffeId::parse(text)
        {
            return Err(CertificateFault::AuthorityWithPath { id });
        }
    }
    Ok(())
}

/// Anchors in the two forms in which they are needed, in one order.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    checked: Vec<Anchor>,
    trusted: Vec<TrustAnchor<'static>>,
    known: KnownKeys,
}

impl Anchors {
    /// Takes anchors for use in [`verify_path`](crate::path::verify_path). The same certificate twice counts once.
    pub fn new(all: impl IntoIterator<Item = Anchor>) -> Self {
        let mut checked: Vec<Anchor> = Vec::new();
        for anchor in all {
            if checked.iter().all(|earlier| earlier.der != anchor.der) {
                checked.push(anchor);
            }
        }
        let trusted = checked.iter().map(|anchor| anchor.trusted.clone()).collect();
        let known = KnownKeys::new(checked.iter().map(|anchor| anchor.key.clone()));
        Self {
            checked,
            trusted,
            known,
        }
    }

    /// The anchors.
    pub fn as_slice(&self) -> &[Anchor] {
        &self.checked
    }

    /// The anchors in webpki's form.
    pub(crate) fn trusted(&self) -> &[TrustAnchor<'static>] {
        &self.trusted
    }

    /// The anchors' keys, read once for all signatures.
    pub(crate) const fn known_keys(&self) -> &KnownKeys {
        &self.known
    }

    /// The anchor that `trusted`, one of [`trusted`](Self::trusted), was made from.
    pub(crate) fn behind(&self, trusted: &TrustAnchor<'_>) -> Option<&Anchor> {
        // By place, not by content: two certificates of one authority may differ in nothing but their dates.
        let found = std::ptr::from_ref(trusted).cast::<u8>();
        let place = |own: &TrustAnchor<'static>| std::ptr::from_ref(own).cast::<u8>() == found;
        self.checked.get(self.trusted.iter().position(place)?)
    }
}
