//! Looks at a service-account token's own words before a call to the API server is spent on it.
//!
//! Nothing here trusts the token: it is only refused early, each fault under its own word. Whether it is genuine
//! is for the API server to say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ferrule_identity::Timestamp;
use serde::Deserialize;

/// Refuses a token that cannot be one for us, whatever its signature.
///
/// # Errors
/// Names the first fault. No error quotes the token, except for the name of an algorithm.
pub fn precheck(token: &str, audience: &str, now: Timestamp) -> Result<(), TokenFault> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenFault::TooLong { bytes: token.len() });
    }
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenFault::Malformed { part: "form" });
    };
    let header: Header = part(header, "header")?;
    check_header(&header, signature)?;
    let claims: Claims = part(claims, "claims")?;
    check_claims(&claims, audience, now)
}

/// The parts of a JWS header that matter here (RFC 7515 §4.1).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// The claims that matter here (RFC 7519 §4.1).
#[derive(Deserialize)]
struct Claims {
    aud: Option<Audience>,
    exp: Option<serde_json::Number>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

fn part<T: serde::de::DeserializeOwned>(text: &str, part: &'static str) -> Result<T, TokenFault> {
    let malformed = TokenFault::Malformed { part };
    let Ok(json) = URL_SAFE_NO_PAD.decode(text) else {
        return Err(malformed);
    };
    serde_json::from_slice(&json).map_err(|_| malformed)
}

fn check_header(header: &Header, signature: &str) -> Result<(), TokenFault> {
    match header.alg.as_str() {
        "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" | "ES256" | "ES384" | "ES512" | "EdDSA" => {
        }
        none if none.eq_ignore_ascii_case("none") => return Err(TokenFault::AlgorithmNone),
        "HS256" | "HS384" | "HS512" => return Err(TokenFault::AlgorithmSymmetric),
        other => {
            let name = other
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .take(20)
                .collect();
            return Err(TokenFault::AlgorithmUnknown { name });
        }
    }
    // A key's name that is a path or a URL has made verifiers fetch the attacker's key. Ours never looks it up,
    // and no API server writes one.
    let plain = |kid: &String| {
        kid.len() <= 128
            && kid
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'='))
    };
    if !header.kid.as_ref().is_none_or(plain) {
        return Err(TokenFault::KeyName);
    }
    if header.crit.is_some() || signature.is_empty() {
        return Err(TokenFault::Malformed { part: "header" });
    }
    Ok(())
}

fn check_claims(claims: &Claims, audience: &str, now: Timestamp) -> Result<(), TokenFault> {
    let ours = match &claims.aud {
        None => false,
        Some(Audience::One(one)) => one == audience,
        Some(Audience::Several(several)) => several.iter().any(|one| one == audience),
    };
    if !ours {
        return Err(TokenFault::Audience {
            wanted: audience.to_owned(),
        });
    }
    let Some(expires) = &claims.exp else {
        return Err(TokenFault::NoExpiry);
    };
    let expires = expires
        .as_i64()
        .map(Timestamp::from_unix)
        .ok_or(TokenFault::Malformed { part: "claims" })?;
    if expires <= now {
        return Err(TokenFault::Expired { expires, now });
    }
    Ok(())
}

/// Why a token is refused without asking the API server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Longer than any API server makes them.
    #[error("the token is {bytes} bytes long, more than {MAX_TOKEN_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not a signed JWT.
    #[error("the token's {part} is not that of a signed JWT")]
    Malformed {
        /// Which part: `form`, `header` or `claims`.
        part: &'static str,
    },
    /// Not signed at all.
    #[error("the token is not signed (its algorithm is \"none\")")]
    AlgorithmNone,
    /// "Signed" with a key that whoever checks it would have to hold too.
    #[error("the token's algorithm is symmetric; service-account tokens are signed with a private key")]
    AlgorithmSymmetric,
    /// An algorithm that no API server uses.
    #[error("the token's algorithm {name:?} is not known")]
    AlgorithmUnknown {
        /// Its name, letters and digits alone.
        name: String,
    },
    /// The key's name is no plain name.
    #[error("the token names its key by something other than letters, digits, '-' and '_'")]
    KeyName,
    /// Made for somebody else, or for nobody in particular.
    #[error("the token is not for the audience {wanted:?}; project one with that audience into the pod")]
    Audience {
        /// The audience that this CA takes.
        wanted: String,
    },
    /// Good for ever, so good for a thief too.
    #[error(
        "the token has no expiry; a legacy token from a Secret is not accepted, project one into the pod"
    )]
    NoExpiry,
    /// Over.
    #[error("the token ended at {expires}, and it is {now} by this CA's clock")]
    Expired {
        /// Its end.
        expires: Timestamp,
        /// The CA's clock.
        now: Timestamp,
    },
}

impl TokenFault {
    /// The stable word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Malformed { .. } => "token_malformed",
            Self::AlgorithmNone => "token_algorithm_none",
            Self::AlgorithmSymmetric => "token_algorithm_symmetric",
            Self::AlgorithmUnknown { .. } => "token_algorithm_unknown",
            Self::KeyName => "token_key_name",
            Self::Audience { .. } => "token_audience",
            Self::NoExpiry => "token_no_expiry",
            Self::Expired { .. } => "token_expired",
        }
    }
}

/// A token of an API server has 1 to 2 KiB; one with many audiences somewhat more.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn token(header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{claims}.c2ln")
    }

    fn check(header: &Value, claims: &Value) -> Result<(), &'static str> {
        precheck(&token(header, claims), "ferrule-ca", NOW).map_err(|fault| fault.word())
    }

    fn good() -> (Value, Value) {
        (
            json!({ "alg": "RS256", "kid": "Ab_-1" }),
            json!({ "aud": ["ferrule-ca"], "exp": 1_800_000_600 }),
        )
    }

    #[test]
    fn a_projected_token_passes() {
        let (header, claims) = good();
        assert_eq!(check(&header, &claims), Ok(()));
        assert_eq!(
            check(
                &header,
                &json!({ "aud": "ferrule-ca", "exp": 1_800_000_001, "sub": "x" })
            ),
            Ok(())
        );
    }

    #[test]
    fn each_fault_has_its_own_word() {
        // A6
        let (header, claims) = good();
        let headers = [
            (json!({ "alg": "none" }), "token_algorithm_none"),
            (json!({ "alg": "nOnE" }), "token_algorithm_none"),
            (json!({ "alg": "HS256" }), "token_algorithm_symmetric"),
            (json!({ "alg": "XX\n" }), "token_algorithm_unknown"),
            (
                json!({ "alg": "RS256", "kid": "../../dev/null" }),
                "token_key_name",
            ),
            (
                json!({ "alg": "RS256", "kid": "http://169.254.169.254/k" }),
                "token_key_name",
            ),
            (json!({ "alg": "RS256", "crit": ["b64"] }), "token_malformed"),
            (json!({ "kid": "a" }), "token_malformed"),
            (json!([]), "token_malformed"),
        ];
        for (header, word) in headers {
            assert_eq!(check(&header, &claims), Err(word), "{header}");
        }
        let claims = [
            (json!({ "exp": 1_800_000_600 }), "token_audience"),
            (
                json!({ "aud": "https://kubernetes.default.svc", "exp": 1_800_000_600 }),
                "token_audience",
            ),
            (
                json!({ "aud": ["ferrule-ca2"], "exp": 1_800_000_600 }),
                "token_audience",
            ),
            (json!({ "aud": ["ferrule-ca"] }), "token_no_expiry"),
            (json!({ "aud": ["ferrule-ca"], "exp": null }), "token_no_expiry"),
            (
                json!({ "aud": ["ferrule-ca"], "exp": 1_800_000_000 }),
                "token_expired",
            ),
            (json!({ "aud": ["ferrule-ca"], "exp": -1 }), "token_expired"),
            (
                json!({ "aud": ["ferrule-ca"], "exp": "never" }),
                "token_malformed",
            ),
            (json!({ "aud": ["ferrule-ca"], "exp": 1e300 }), "token_malformed"),
            (json!({ "aud": 5, "exp": 1_800_000_600 }), "token_malformed"),
        ];
        for (claims, word) in claims {
            assert_eq!(check(&header, &claims), Err(word), "{claims}");
        }
    }

    #[test]
    fn what_is_no_jwt_is_refused() {
        let (header, claims) = good();
        let whole = token(&header, &claims);
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        let unsigned = whole.strip_suffix("c2ln").unwrap();
        for text in [
            "",
            "a",
            "..",
            "a.b.c",
            &whole[1..],
            &format!("{whole}.x"),
            unsigned,
            &long,
            "é.é.é",
        ] {
            let fault = precheck(text, "ferrule-ca", NOW).unwrap_err();
            assert_eq!(fault.word(), "token_malformed", "{text:.20}");
        }
    }

    #[test]
    fn no_message_quotes_the_token() {
        // A14
        let claims = json!({ "aud": "secret-audience", "exp": "secret-expiry" });
        let text = token(&json!({ "alg": "RS256", "kid": "secret/kid" }), &claims);
        let fault = precheck(&text, "ferrule-ca", NOW).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("secret"));
    }
}
