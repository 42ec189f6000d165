//! Reads and writes join tokens: the one line of text that a new host needs to find, trust and enter a mesh.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ferrule_identity::{Fingerprint, SpiffeIdError, Timestamp, TrustDomain};
use serde::{Deserialize, Serialize};

/// What a join token says. Its text is `ferrule-join-1.` and the base64url of a JSON document.
///
/// Whoever holds the text can enrol one host, once, until `expires`. The roots let the holder trust the CA's
/// first answer: it is refused unless the CA's certificate chains to a root with one of these fingerprints.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Where the CA listens: each a host name or an IP address with a port, such as `ca.shop.local:15010`.
    pub addresses: Vec<String>,
    /// The trust domain that the holder is about to enter.
    pub trust_domain: TrustDomain,
    /// SHA-256 of the DER of each root certificate that the CA's certificate may chain to.
    pub roots: Vec<Fingerprint>,
    /// The token's public name, for listing and revoking it.
    pub name: String,
    /// What proves to the CA that the holder was given this token; see [`JoinSecret`].
    pub secret: JoinSecret,
    /// What the enrolled host will be entitled to: exact SPIFFE IDs, or patterns that end in `/*`. For the
    /// reader's eyes; the CA goes by its own record.
    pub identities: Vec<String>,
    /// The last second in which the token can be used, by the CA's clock.
    pub expires: Timestamp,
}

/// 32 random bytes that only the CA's operator and the new host see. Compare what is derived from them, never
/// the bytes: there is no `==` here.
#[derive(Clone)]
pub struct JoinSecret([u8; Self::BYTES]);

impl JoinSecret {
    /// The length in bytes.
    pub const BYTES: usize = 32;

    /// A secret made from `bytes`, which must come from the system's randomness.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to send them or to hash them.
    pub const fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The secret as it is sent in [`EnrollRequest::token`](crate::ca::EnrollRequest::token): 43 characters of
    /// base64url.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What the CA keeps in place of the secret: its SHA-256.
    pub fn hash(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

impl FromStr for JoinSecret {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| JoinTokenError::Field { field: "secret" })?;
        let bytes = bytes
            .try_into()
            .map_err(|_| JoinTokenError::Field { field: "secret" })?;
        Ok(Self(bytes))
    }
}

impl PartialEq for JoinSecret {
    /// Compares digests, so that the time it takes says nothing about the bytes.
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for JoinSecret {}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "JoinToken({} for {}, [redacted])",
            self.name, self.trust_domain
        )
    }
}

/// The JSON inside the text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    ca: Vec<String>,
    trust_domain: String,
    roots: Vec<String>,
    name: String,
    secret: String,
    identities: Vec<String>,
    expires: i64,
}

impl JoinToken {
    /// What every token begins with; the digit is the format's version.
    pub const PREFIX: &'static str = "ferrule-join-1.";

    /// The longest text that is read, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The one line to hand to the new host. It is a secret.
    pub fn to_text(&self) -> String {
        let document = Document {
            ca: self.addresses.clone(),
            trust_domain: self.trust_domain.to_string(),
            roots: self.roots.iter().map(Fingerprint::to_string).collect(),
            name: self.name.clone(),
            secret: self.secret.to_text(),
            identities: self.identities.clone(),
            expires: self.expires.unix(),
        };
        let json = serde_json::to_vec(&document).expect("strings and numbers are always JSON");
        format!("{}{}", Self::PREFIX, URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    /// Reads a token's text. White space around it is allowed, because people paste it.
    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let text = text.trim();
        if text.len() > Self::MAX_BYTES {
            return Err(JoinTokenError::TooLong { bytes: text.len() });
        }
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(JoinTokenError::Prefix)?;
        let json = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| JoinTokenError::Encoding)?;
        // The cause may quote the secret, so it is dropped.
        let document: Document = serde_json::from_slice(&json).map_err(|_| JoinTokenError::Document)?;
        document.check()
    }
}

impl Document {
    fn check(self) -> Result<JoinToken, JoinTokenError> {
        let refuse = |field| JoinTokenError::Field { field };
        if self.ca.is_empty() || !self.ca.iter().all(|address| is_host_and_port(address)) {
            return Err(refuse("ca"));
        }
        if !is_name(&self.name) {
            return Err(refuse("name"));
        }
        let roots: Result<Vec<Fingerprint>, _> = self.roots.iter().map(|root| root.parse()).collect();
        let roots = roots
            .ok()
            .filter(|roots| !roots.is_empty())
            .ok_or(refuse("roots"))?;
        Ok(JoinToken {
            trust_domain: TrustDomain::parse(&self.trust_domain)
                .map_err(|source| JoinTokenError::TrustDomain { source })?,
            roots,
            addresses: self.ca,
            name: self.name,
            secret: self.secret.parse()?,
            identities: self.identities,
            expires: Timestamp::from_unix(self.expires),
        })
    }
}

/// Whether `text` is a host name or an IP address, then a colon and a port; an IPv6 address in brackets.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    host && port
}

/// Whether `text` is 1 to 253 letters, digits, dots, hyphens and underscores.
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Why a text is no join token. Never quotes the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// Longer than [`JoinToken::MAX_BYTES`].
    #[error("the join token is {bytes} bytes long, more than {}", JoinToken::MAX_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Does not begin with [`JoinToken::PREFIX`].
    #[error(
        "the join token does not begin with \"{}\"; was it copied whole?",
        JoinToken::PREFIX
    )]
    Prefix,
    /// What follows the prefix is not base64url without padding.
    #[error("the join token is damaged: what follows its first dot is not base64url; was it copied whole?")]
    Encoding,
    /// The decoded bytes are not the JSON document of this version.
    #[error("the join token is damaged: it holds no document of version 1")]
    Document,
    /// A field holds what it may not.
    #[error("the join token's {field} cannot be used")]
    Field {
        /// The field's name.
        field: &'static str,
    },
    /// The trust domain is no trust domain.
    #[error("the join token names no trust domain")]
    TrustDomain {
        /// The rule that its name breaks.
        source: SpiffeIdError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            addresses: vec!["ca.shop.local:15010".to_owned(), "[2001:db8::1]:15010".to_owned()],
            trust_domain: TrustDomain::parse("shop.local").unwrap(),
            roots: vec![Fingerprint::of(b"root")],
            name: "web-1".to_owned(),
            secret: JoinSecret::from_bytes([7; 32]),
            identities: vec!["spiffe://shop.local/ns/shop/*".to_owned()],
            expires: Timestamp::from_unix(1_800_000_000),
        }
    }

    fn with(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let text = token().to_text();
        let json = URL_SAFE_NO_PAD.decode(&text[JoinToken::PREFIX.len()..]).unwrap();
        let mut document = serde_json::from_slice(&json).unwrap();
        change(&mut document);
        format!(
            "{}{}",
            JoinToken::PREFIX,
            URL_SAFE_NO_PAD.encode(document.to_string())
        )
    }

    /// The text with its end missing, still whole groups of base64.
    fn truncated(text: &str) -> String {
        let encoded = &text[JoinToken::PREFIX.len()..];
        format!("{}{}", JoinToken::PREFIX, &encoded[..encoded.len() / 8 * 4])
    }

    #[test]
    fn what_is_written_is_read() {
        let text = token().to_text();
        assert_eq!(text.parse::<JoinToken>().unwrap(), token());
        assert_eq!(format!("  {text}\r\n").parse::<JoinToken>().unwrap(), token());
        assert!(!text.contains(char::is_whitespace));
    }

    #[test]
    fn the_secret_is_never_printed() {
        // A14
        let token = token();
        let secret = token.secret.to_text();
        assert!(!format!("{token:?} {:?}", token.secret).contains(&secret));
        let damaged = with(|d| d["secret"] = serde_json::json!({ "kept": secret.clone() }));
        let error = damaged.parse::<JoinToken>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&secret));
    }

    #[test]
    fn a_damaged_token_says_what_is_wrong() {
        let text = token().to_text();
        let cases = [
            (String::new(), JoinTokenError::Prefix),
            (text[1..].to_owned(), JoinTokenError::Prefix),
            (format!("{text}="), JoinTokenError::Encoding),
            (truncated(&text), JoinTokenError::Document),
            (with(|d| d["more"] = 1.into()), JoinTokenError::Document),
            (
                with(|d| d["ca"] = serde_json::json!([])),
                JoinTokenError::Field { field: "ca" },
            ),
            (
                with(|d| d["roots"] = serde_json::json!([])),
                JoinTokenError::Field { field: "roots" },
            ),
            (
                with(|d| d["roots"] = serde_json::json!(["00"])),
                JoinTokenError::Field { field: "roots" },
            ),
            (
                with(|d| d["secret"] = "AAAA".into()),
                JoinTokenError::Field { field: "secret" },
            ),
            (
                with(|d| d["name"] = "a\nb".into()),
                JoinTokenError::Field { field: "name" },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<JoinToken>().unwrap_err(), expected);
        }
        let long = format!("{}{}", JoinToken::PREFIX, "A".repeat(JoinToken::MAX_BYTES));
        assert!(matches!(
            long.parse::<JoinToken>().unwrap_err(),
            JoinTokenError::TooLong { .. }
        ));
    }

    #[test]
    fn addresses_are_checked() {
        for good in ["a:1", "192.0.2.1:15010", "[::1]:65535", "ca.shop.local:15010"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in [
            "", "a", "a:0", "a:+1", "a:65536", "::1:1", "[::g]:1", "a b:1", "user@a:1", "a/b:1", ":1",
        ] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }
}
