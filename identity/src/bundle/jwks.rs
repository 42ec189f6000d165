//! Turns a bundle into a SPIFFE JWK set, or back.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use x509_parser::public_key::PublicKey as RawKey;

use super::{Anchor, BundleError, TrustBundle};
use crate::path::reading::Reading;
use crate::{KeyAlgorithm, Timestamp, TrustDomain};

/// Reads the JWK set `document`.
pub(super) fn read(
    trust_domain: TrustDomain,
    document: &Value,
    now: Timestamp,
) -> Result<TrustBundle, BundleError> {
    let object = document
        .as_object()
        .ok_or_else(|| BundleError::shape("document", "an object"))?;
    let keys = object
        .get("keys")
        .and_then(Value::as_array)
        .ok_or_else(|| BundleError::shape("keys", "a list"))?;
    let mut certificates = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        certificates.extend(certificate(index, key)?);
    }
    let sequence = whole_number(object, "spiffe_sequence")?.unwrap_or(0);
    let refresh_hint = whole_number(object, "spiffe_refresh_hint")?.map(Duration::from_secs);
    TrustBundle::new(trust_domain, sequence, refresh_hint, &certificates, now)
}

/// The certificate of entry `index`, or nothing when the entry is not for us.
fn certificate(index: usize, key: &Value) -> Result<Option<CertificateDer<'static>>, BundleError> {
    let key = key
        .as_object()
        .ok_or_else(|| BundleError::shape(format!("entry {index} of keys"), "an object"))?;
    let text = |name| key.get(name).and_then(Value::as_str);
    let known = text("kty").is_some_and(|kty| KEY_TYPES.contains(&kty));
    if !known || text("use") != Some(X509_USE) {
        return Ok(None);
    }
    let Some(chain) = key.get("x5c") else {
        return Ok(None);
    };
    let expected = "a list of certificates in Base64";
    let malformed = || BundleError::shape(format!("x5c of entry {index} of keys"), expected);
    let Some(first) = chain.as_array().ok_or_else(malformed)?.first() else {
        return Ok(None);
    };
    let der = STANDARD
        .decode(first.as_str().ok_or_else(malformed)?)
        .map_err(|_| malformed())?;
    Ok(Some(der.into()))
}

fn whole_number(object: &Map<String, Value>, name: &str) -> Result<Option<u64>, BundleError> {
    match object.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| BundleError::shape(name, "a whole number of at most 64 bits")),
    }
}

/// Writes the JWK set of `bundle`.
pub(super) fn write(bundle: &TrustBundle) -> String {
    let keys: Vec<Value> = bundle.anchors().iter().map(entry).collect();
    let mut document = json!({ "keys": keys, "spiffe_sequence": bundle.sequence() });
    if let Some(hint) = bundle.refresh_hint() {
        document["spiffe_refresh_hint"] = hint.as_secs().into();
    }
    document.to_string()
}

/// One anchor. The parameters of the key repeat what the certificate says; readers of JWK demand them.
fn entry(anchor: &Anchor) -> Value {
    let mut entry = parameters(anchor).unwrap_or_default();
    entry.insert("use".into(), X509_USE.into());
    entry.insert("x5c".into(), json!([STANDARD.encode(anchor.der())]));
    Value::Object(entry)
}

/// The key in the members of RFC 7518 §6.2 and §6.3, or RFC 8037 §2. `None` would need an anchor whose key changed
/// after it was checked.
fn parameters(anchor: &Anchor) -> Option<Map<String, Value>> {
    let reading = Reading::new(anchor.der()).ok()?;
    let spki = reading.certificate.public_key();
    let encode = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
    let members = match (reading.public_key().ok()?.algorithm(), spki.parsed().ok()?) {
        (KeyAlgorithm::Ed25519, _) => vec![
            ("kty", "OKP".into()),
            ("crv", "Ed25519".into()),
            ("x", encode(&spki.subject_public_key.data)),
        ],
        (_, RawKey::RSA(key)) => vec![
            ("kty", "RSA".into()),
            ("n", encode(significant(key.modulus))),
            ("e", encode(significant(key.exponent))),
        ],
        (algorithm, RawKey::EC(point)) => {
            // An uncompressed point: 4, then both coordinates at full length.
            let (x, y) = point.data().get(1..)?.split_at_checked(point.data().len() / 2)?;
            let curve = match algorithm {
                KeyAlgorithm::EcdsaP384 => "P-384",
                _ => "P-256",
            };
            vec![
                ("kty", "EC".into()),
                ("crv", curve.into()),
                ("x", encode(x)),
                ("y", encode(y)),
            ]
        }
        _ => return None,
    };
    Some(
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    &number[zeros..]
}

/// The `use` of entries that hold anchors for X509-SVIDs (X509-SVID.md §6.1).
const X509_USE: &str = "x509-svid";

/// The key types that RFC 7518 and RFC 8037 define for public keys.
const KEY_TYPES: [&str; 3] = ["EC", "RSA", "OKP"];
