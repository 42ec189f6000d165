//! Lists everything that a foreign request asks for besides its key.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certification_request::X509CertificationRequestInfo;
use x509_parser::cri_attributes::{ParsedCriAttribute, X509CriAttribute};
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension, X509Extension};
use x509_parser::x509::X509Name;

use super::RequestError;

/// Everything that a request asks for, across its subject, its attributes and its extensions.
///
/// Names are as they were written: not checked to be well formed, and possibly with control characters, which
/// [`Display`](fmt::Display) escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AskedNames {
    /// URIs of the subject alternative name, SPIFFE IDs among them.
    pub uris: Vec<String>,
    /// DNS names of the subject alternative name.
    pub dns: Vec<String>,
    /// IP addresses of the subject alternative name.
    pub ips: Vec<IpAddr>,
    /// Mail addresses of the subject alternative name.
    pub emails: Vec<String>,
    /// Alternative names of every other kind, each as its kind and number, such as `otherName 1.3.6.1.4.1.1`.
    pub other_names: Vec<String>,
    /// Common names of the subject.
    pub common_names: Vec<String>,
    /// What else the subject says, each as a dotted number and a value, such as `2.5.4.10=Example`.
    pub subject_fields: Vec<String>,
    /// Whether it asks to be a certificate authority.
    pub authority: bool,
    /// Key usages (RFC 5280 §4.2.1.3), such as `keyCertSign`.
    pub key_usages: Vec<String>,
    /// Extended key usages (RFC 5280 §4.2.1.12): `serverAuth`, `clientAuth`, or a dotted number.
    pub extended_key_usages: Vec<String>,
    /// Other extensions, as dotted numbers.
    pub extensions: Vec<String>,
    /// Attributes other than the extension request, as dotted numbers.
    pub attributes: Vec<String>,
}

impl AskedNames {
    /// The most things that a request may ask for.
    pub const MAX: usize = 64;

    /// Whether the request asks for nothing but a certificate over its key.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn read(info: &X509CertificationRequestInfo<'_>) -> Result<Self, RequestError> {
        let mut asked = Self::default();
        asked.read_subject(&info.subject)?;
        let mut seen = BTreeSet::new();
        for attribute in info.iter_attributes() {
            let number = attribute.oid.to_id_string();
            // A second block of extensions is where readers that stop at the first one do not look.
            if !seen.insert(number.clone()) {
                return Err(RequestError::Repeated {
                    what: format!("attribute {number}"),
                });
            }
            asked.read_attribute(attribute, number)?;
        }
        Ok(asked)
    }

    fn read_subject(&mut self, subject: &X509Name<'_>) -> Result<(), RequestError> {
        for field in subject.iter_attributes() {
            let number = field.attr_type().to_id_string();
            let value = field.as_str().map_err(|_| RequestError::Asked {
                what: format!("the subject field {number}"),
            })?;
            if number == COMMON_NAME {
                self.common_names.push(value.to_owned());
            } else {
                self.subject_fields.push(format!("{number}={value}"));
            }
            self.check_count()?;
        }
        Ok(())
    }

    fn read_attribute(
        &mut self,
        attribute: &X509CriAttribute<'_>,
        number: String,
    ) -> Result<(), RequestError> {
        let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else {
            self.attributes.push(number);
            return self.check_count();
        };
        // The reader takes the first value of the set. A second would make the set longer than what was read.
        if !is_one_value(attribute.value) {
            return Err(RequestError::Repeated {
                what: "value of the extension request".into(),
            });
        }
        let mut seen = BTreeSet::new();
        for extension in &request.extensions {
            let number = extension.oid.to_id_string();
            if !seen.insert(number.clone()) {
                return Err(RequestError::Repeated {
                    what: format!("extension {number}"),
                });
            }
            if !is_one_value(extension.value) {
                return Err(unreadable(&number));
            }
            self.read_extension(extension, number)?;
        }
        Ok(())
    }

    fn read_extension(&mut self, extension: &X509Extension<'_>, number: String) -> Result<(), RequestError> {
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } | ParsedExtension::Unparsed => {
                return Err(unreadable(&number));
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    self.read_name(name).ok_or_else(|| unreadable(&number))?;
                    self.check_count()?;
                }
            }
            ParsedExtension::BasicConstraints(constraints) => self.authority |= constraints.ca,
            ParsedExtension::KeyUsage(usage) => {
                let bits = (0..u16::BITS).filter(|bit| (usage.flags >> bit) & 1 == 1);
                self.key_usages.extend(bits.map(|bit| {
                    let known = KEY_USAGES.iter().zip(0..).find(|(_, at)| *at == bit);
                    known.map_or_else(|| format!("bit {bit}"), |(name, _)| (*name).to_owned())
                }));
            }
            ParsedExtension::ExtendedKeyUsage(usage) => self.read_extended_usage(usage),
            _ => self.extensions.push(number),
        }
        self.check_count()
    }

    /// Files one alternative name, or says `None` when it is not what its tag promises.
    fn read_name(&mut self, name: &GeneralName<'_>) -> Option<()> {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => self.dns.push((*dns).to_owned()),
            GeneralName::RFC822Name(email) => self.emails.push((*email).to_owned()),
            GeneralName::IPAddress(bytes) => self.ips.push(address(bytes)?),
            GeneralName::OtherName(oid, _) => self.other_names.push(format!("otherName {oid}")),
            GeneralName::RegisteredID(oid) => self.other_names.push(format!("registeredID {oid}")),
            GeneralName::DirectoryName(_) => self.other_names.push("directoryName".into()),
            GeneralName::X400Address(_) => self.other_names.push("x400Address".into()),
            GeneralName::EDIPartyName(_) => self.other_names.push("ediPartyName".into()),
            GeneralName::Invalid(..) => return None,
        }
        Some(())
    }

    fn read_extended_usage(&mut self, usage: &ExtendedKeyUsage<'_>) {
        let named = [
            (usage.any, "anyExtendedKeyUsage"),
            (usage.server_auth, "serverAuth"),
            (usage.client_auth, "clientAuth"),
            (usage.code_signing, "codeSigning"),
            (usage.email_protection, "emailProtection"),
            (usage.time_stamping, "timeStamping"),
            (usage.ocsp_signing, "OCSPSigning"),
        ];
        let known = named.into_iter().filter(|(asked, _)| *asked);
        self.extended_key_usages
            .extend(known.map(|(_, name)| name.to_owned()));
        let other = usage.other.iter().map(|oid| oid.to_id_string());
        self.extended_key_usages.extend(other);
    }

    fn check_count(&self) -> Result<(), RequestError> {
        let lists = [
            &self.uris,
            &self.dns,
            &self.emails,
            &self.other_names,
            &self.common_names,
            &self.subject_fields,
            &self.key_usages,
            &self.extended_key_usages,
            &self.extensions,
            &self.attributes,
        ];
        let count = self.ips.len() + lists.into_iter().map(Vec::len).sum::<usize>();
        if count > Self::MAX {
            return Err(RequestError::TooMuchAsked);
        }
        Ok(())
    }
}

impl fmt::Display for AskedNames {
    /// One line for a log, such as `uri "spiffe://shop.local/ns/a/sa/b", dns "b.shop", authority`; `nothing` for
    /// an empty list. Control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let lists = [
            ("uri", &self.uris),
            ("dns", &self.dns),
            ("email", &self.emails),
            ("name", &self.other_names),
            ("common name", &self.common_names),
            ("subject", &self.subject_fields),
            ("key usage", &self.key_usages),
            ("extended key usage", &self.extended_key_usages),
            ("extension", &self.extensions),
            ("attribute", &self.attributes),
        ];
        let ips = self.ips.iter().map(|ip| format!("ip {ip}"));
        let authority = self.authority.then(|| "authority".to_owned());
        let parts: Vec<String> = lists
            .into_iter()
            .flat_map(|(kind, values)| values.iter().map(move |value| format!("{kind} {value:?}")))
            .chain(ips)
            .chain(authority)
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// Whether `der` is one DER value with nothing after it.
fn is_one_value(der: &[u8]) -> bool {
    Any::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn unreadable(number: &str) -> RequestError {
    RequestError::Asked {
        what: format!("the extension {number}"),
    }
}

const COMMON_NAME: &str = "2.5.4.3";

/// RFC 5280 §4.2.1.3, in the order of the bits.
const KEY_USAGES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];
