//! Writes certificates, requests for them and revocation lists in DER, signed.
//!
//! Every field comes from the caller; nothing is copied from a request. Names of issuers are kept as the octets
//! that they were read as, because peers compare them so.

use std::time::Duration;

use ferrule_identity::{KeyAlgorithm, Lifetime, PublicKey, Timestamp};
use rustls_pki_types::{CertificateDer, ServerName};
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::der::asn1::{
    Any, BitString, GeneralizedTime, Ia5String, Null, OctetString, SetOfVec, Uint, UtcTime, Utf8StringRef,
};
use x509_cert::der::oid::{AssociatedOid, ObjectIdentifier};
use x509_cert::der::{self, Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlNumber, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RelativeDistinguishedName};
use x509_cert::request::{CertReq, CertReqInfo};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use crate::authority::signer::{Signer, SignerError};
use crate::ledger::Serial;

/// A distinguished name, in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject(Name);

impl Subject {
    /// Nobody: the subject of leaves, whose name is in the subject alternative name alone.
    pub(crate) fn empty() -> Self {
        Self(Name::default())
    }

    /// An organisation and a common name below it.
    pub(crate) fn new(organisation: &str, common_name: &str) -> Result<Self, X509Error> {
        let part = |oid, text: &str| -> der::Result<RelativeDistinguishedName> {
            let value = Any::encode_from(&Utf8StringRef::new(text)?)?;
            let attribute = x509_cert::attr::AttributeTypeAndValue { oid, value };
            Ok(RelativeDistinguishedName(SetOfVec::try_from([attribute])?))
        };
        let name = || -> der::Result<Name> {
            Ok(x509_cert::name::RdnSequence(vec![
                part(ORGANISATION, organisation)?,
                part(COMMON_NAME, common_name)?,
            ]))
        };
        name().map(Self).map_err(|source| X509Error::Encode {
            what: "subject",
            source,
        })
    }

    /// Takes the name as it stands in a certificate. Written again it is the same octets, or it is refused.
    pub(crate) fn from_der(raw: &[u8]) -> Result<Self, X509Error> {
        let unreadable = |source| X509Error::Encode {
            what: "subject",
            source,
        };
        let name = Name::from_der(raw).map_err(unreadable)?;
        if name.to_der().map_err(unreadable)? != raw {
            return Err(X509Error::NameNotDer);
        }
        Ok(Self(name))
    }
}

/// Whoever signs: its key, its name and its key identifier as they stand in its certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IssuedBy<'a> {
    pub(crate) signer: &'a dyn Signer,
    pub(crate) name: &'a Subject,
    pub(crate) key_id: &'a [u8],
}

/// Everything that a certificate says.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) serial: Serial,
    pub(crate) subject: Subject,
    pub(crate) key: &'a PublicKey,
    pub(crate) lifetime: Lifetime,
    pub(crate) extensions: Vec<Extension>,
}

/// Writes a certificate and has it signed. The authority key identifier is added to the extensions.
pub(crate) fn certificate(
    fields: Fields<'_>,
    by: IssuedBy<'_>,
) -> Result<CertificateDer<'static>, X509Error> {
    let algorithm = signature_algorithm(by.signer.public_key().algorithm());
    let build = || -> der::Result<TbsCertificate> {
        let mut extensions = fields.extensions;
        extensions.push(authority_key_id(by.key_id)?);
        Ok(TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(fields.serial.as_be_bytes())?,
            signature: algorithm.clone(),
            issuer: by.name.0.clone(),
            validity: Validity {
                not_before: time(fields.lifetime.not_before())?,
                not_after: time(fields.lifetime.not_after())?,
            },
            subject: fields.subject.0,
            subject_public_key_info: spki(fields.key)?,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions),
        })
    };
    let unwritable = |source| X509Error::Encode {
        what: "certificate",
        source,
    };
    let tbs_certificate = build().map_err(unwritable)?;
    let signature = by.signer.sign(&tbs_certificate.to_der().map_err(unwritable)?)?;
    let signed = || -> der::Result<Vec<u8>> {
        Certificate {
            tbs_certificate,
            signature_algorithm: algorithm,
            signature: BitString::from_bytes(&signature)?,
        }
        .to_der()
    };
    Ok(signed().map_err(unwritable)?.into())
}

/// Writes a request (RFC 2986) for a certificate with `subject`, `extensions` and the signer's own key.
pub(crate) fn request(
    subject: Subject,
    extensions: Vec<Extension>,
    signer: &dyn Signer,
) -> Result<Vec<u8>, X509Error> {
    let unwritable = |source| X509Error::Encode {
        what: "request",
        source,
    };
    let algorithm = signature_algorithm(signer.public_key().algorithm());
    let build = || -> der::Result<CertReqInfo> {
        let wanted = x509_cert::attr::Attribute {
            oid: EXTENSION_REQUEST,
            values: SetOfVec::try_from([Any::encode_from(&extensions)?])?,
        };
        Ok(CertReqInfo {
            version: x509_cert::request::Version::V1,
            subject: subject.0,
            public_key: spki(signer.public_key())?,
            attributes: SetOfVec::try_from([wanted])?,
        })
    };
    let info = build().map_err(unwritable)?;
    let signature = signer.sign(&info.to_der().map_err(unwritable)?)?;
    let signed = || -> der::Result<Vec<u8>> {
        CertReq {
            info,
            algorithm,
            signature: BitString::from_bytes(&signature)?,
        }
        .to_der()
    };
    signed().map_err(unwritable)
}

/// Everything that a revocation list says (RFC 5280 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListFields {
    /// Grows with every list of an issuer; big-endian, at most 20 octets.
    pub(crate) number: Vec<u8>,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    /// What is revoked, and since when.
    pub(crate) revoked: Vec<(Serial, Timestamp)>,
}

/// Writes a revocation list and has it signed.
pub(crate) fn revocation_list(fields: ListFields, by: IssuedBy<'_>) -> Result<Vec<u8>, X509Error> {
    let unwritable = |source| X509Error::Encode {
        what: "revocation list",
        source,
    };
    let algorithm = signature_algorithm(by.signer.public_key().algorithm());
    let build = || -> der::Result<TbsCertList> {
        let entry = |(serial, since): &(Serial, Timestamp)| -> der::Result<RevokedCert> {
            Ok(RevokedCert {
                serial_number: SerialNumber::new(serial.as_be_bytes())?,
                revocation_date: time(*since)?,
                crl_entry_extensions: None,
            })
        };
        let revoked = fields
            .revoked
            .iter()
            .map(entry)
            .collect::<der::Result<Vec<_>>>()?;
        let number = CrlNumber(Uint::new(&fields.number)?);
        Ok(TbsCertList {
            version: Version::V2,
            signature: algorithm.clone(),
            issuer: by.name.0.clone(),
            this_update: time(fields.this_update)?,
            next_update: Some(time(fields.next_update)?),
            // RFC 5280 §5.1.2.6: absent when nothing is revoked.
            revoked_certificates: (!revoked.is_empty()).then_some(revoked),
            crl_extensions: Some(vec![
                authority_key_id(by.key_id)?,
                extension(CrlNumber::OID, false, &number)?,
            ]),
        })
    };
    let tbs_cert_list = build().map_err(unwritable)?;
    let signature = by.signer.sign(&tbs_cert_list.to_der().map_err(unwritable)?)?;
    let signed = || -> der::Result<Vec<u8>> {
        CertificateList {
            tbs_cert_list,
            signature_algorithm: algorithm,
            signature: BitString::from_bytes(&signature)?,
        }
        .to_der()
    };
    signed().map_err(unwritable)
}

/// What the holder of a certificate's key may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Sign certificates and revocation lists, with at most this many authorities below it.
    Authority { path_length: Option<u8> },
    /// Authenticate as a peer: serverAuth and clientAuth.
    Peer,
    /// Authenticate as a server alone.
    Server,
}

/// The extensions that say what a key may be used for, and which key it is.
pub(crate) fn use_extensions(used_for: Use, key: &PublicKey) -> Result<Vec<Extension>, X509Error> {
    let build = || -> der::Result<Vec<Extension>> {
        let (constraints, usage, purposes) = match used_for {
            Use::Authority { path_length } => (
                BasicConstraints {
                    ca: true,
                    path_len_constraint: path_length,
                },
                KeyUsages::KeyCertSign | KeyUsages::CRLSign,
                vec![],
            ),
            Use::Peer => (
                NO_AUTHORITY,
                KeyUsages::DigitalSignature.into(),
                vec![SERVER_AUTH, CLIENT_AUTH],
            ),
            Use::Server => (
                NO_AUTHORITY,
                KeyUsages::DigitalSignature.into(),
                vec![SERVER_AUTH],
            ),
        };
        let key_id = SubjectKeyIdentifier(OctetString::new(key.fingerprint().as_bytes().as_slice())?);
        let mut extensions = vec![
            extension(BasicConstraints::OID, true, &constraints)?,
            extension(KeyUsage::OID, true, &KeyUsage(usage))?,
        ];
        if !purposes.is_empty() {
            extensions.push(extension(
                ExtendedKeyUsage::OID,
                false,
                &ExtendedKeyUsage(purposes),
            )?);
        }
        // RFC 7093 §2, method 4: the hash of the whole SubjectPublicKeyInfo, so that the identifier in the
        // certificate, the name of the key's file and the issuer in a revocation are one and the same.
        extensions.push(extension(SubjectKeyIdentifier::OID, false, &key_id)?);
        Ok(extensions)
    };
    build().map_err(|source| X509Error::Encode {
        what: "extensions",
        source,
    })
}

/// One URI as the subject alternative name.
pub(crate) fn uri_name(uri: &str, critical: bool) -> Result<Extension, X509Error> {
    let build = || {
        let name = GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?);
        extension(SubjectAltName::OID, critical, &SubjectAltName(vec![name]))
    };
    build().map_err(|source| X509Error::Encode {
        what: "URI name",
        source,
    })
}

/// DNS names and addresses as the subject alternative name, critical because there is no subject.
pub(crate) fn server_names(names: &[ServerName<'_>]) -> Result<Extension, X509Error> {
    let one = |name: &ServerName<'_>| -> der::Result<GeneralName> {
        Ok(match name {
            ServerName::DnsName(dns) => GeneralName::DnsName(Ia5String::new(dns.as_ref())?),
            ServerName::IpAddress(address) => {
                let octets = match std::net::IpAddr::from(*address) {
                    std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                    std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                GeneralName::IpAddress(OctetString::new(octets)?)
            }
            _ => return Err(der::ErrorKind::Failed.into()),
        })
    };
    let build = || {
        let names = names.iter().map(one).collect::<der::Result<Vec<_>>>()?;
        extension(SubjectAltName::OID, true, &SubjectAltName(names))
    };
    build().map_err(|source| X509Error::Encode {
        what: "server names",
        source,
    })
}

fn authority_key_id(key_id: &[u8]) -> der::Result<Extension> {
    let value = AuthorityKeyIdentifier {
        key_identifier: Some(OctetString::new(key_id)?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    };
    extension(AuthorityKeyIdentifier::OID, false, &value)
}

fn extension(extn_id: ObjectIdentifier, critical: bool, value: &impl Encode) -> der::Result<Extension> {
    Ok(Extension {
        extn_id,
        critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

fn spki(key: &PublicKey) -> der::Result<SubjectPublicKeyInfoOwned> {
    SubjectPublicKeyInfoOwned::from_der(key.spki_der())
}

/// RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on.
fn time(at: Timestamp) -> der::Result<Time> {
    let seconds = u64::try_from(at.unix()).map_err(|_| der::ErrorKind::DateTime)?;
    let since_epoch = Duration::from_secs(seconds);
    if at < YEAR_2050 {
        UtcTime::from_unix_duration(since_epoch).map(Time::UtcTime)
    } else {
        GeneralizedTime::from_unix_duration(since_epoch).map(Time::GeneralTime)
    }
}

/// How a certificate names the way in which its issuer's key signs.
fn signature_algorithm(key: KeyAlgorithm) -> AlgorithmIdentifierOwned {
    let (oid, parameters) = match key {
        KeyAlgorithm::EcdsaP256 => (ECDSA_SHA256, None),
        KeyAlgorithm::EcdsaP384 => (ECDSA_SHA384, None),
        KeyAlgorithm::Ed25519 => (ED25519, None),
        // RFC 4055 §5: for RSA the parameters are NULL, and not absent as everywhere else.
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            (RSA_SHA256, Some(Any::from(Null)))
        }
    };
    AlgorithmIdentifierOwned { oid, parameters }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum X509Error {
    /// A field has no encoding.
    #[error("cannot write the {what}")]
    Encode {
        /// What was being written.
        what: &'static str,
        /// What the writer reports.
        source: der::Error,
    },
    /// A certificate's subject that peers would not find again in what it issues.
    #[error("the subject of the authority's certificate is not in the one encoding that DER allows")]
    NameNotDer,
    /// The key could not be used.
    #[error("cannot sign")]
    Sign(#[from] SignerError),
}

const NO_AUTHORITY: BasicConstraints = BasicConstraints {
    ca: false,
    path_len_constraint: None,
};

/// 2050-01-01T00:00:00Z.
const YEAR_2050: Timestamp = Timestamp::from_unix(2_524_608_000);

const ORGANISATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

#[cfg(test)]
mod tests;
