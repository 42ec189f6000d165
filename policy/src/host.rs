//! Names of hosts beyond the mesh, and the patterns that rules match them with.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The name of a host as a client says it in TLS SNI or the HTTP Host field: ASCII labels in lower case,
/// without the dot at the end, never an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Box<str>);

impl HostName {
    /// Reads a name. Upper case is folded and one dot at the end dropped, as DNS does (RFC 4343, RFC 1034
    /// §3.1); a port must have been taken off before.
    ///
    /// # Errors
    /// When the text is an address or breaks the rules of names of hosts (RFC 1123 §2.1).
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(HostError::TooLong);
        }
        // `192.0.2` and `0x7f000001` are addresses to some readers.
        let is_number = |label: &str| {
            label.starts_with(|c: char| c.is_ascii_digit())
                && (label.bytes().all(|byte| byte.is_ascii_digit()) || label.starts_with("0x"))
        };
        if name.parse::<IpAddr>().is_ok() || name.rsplit('.').next().is_some_and(is_number) {
            return Err(HostError::Address);
        }
        for label in name.split('.') {
            check_label(label)?;
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label, where something is left.
    pub(crate) fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, parent)| parent)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a rule says of names of hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name.
    Exact(HostName),
    /// Any one label in front of this name: `*.example.com` is `a.example.com`, but neither `example.com` nor
    /// `a.b.example.com`, as in certificates (RFC 9525 §6.3).
    OneLabelUnder(HostName),
}

impl HostPattern {
    /// Whether `host` is one of those that the pattern means.
    pub fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::OneLabelUnder(parent) => host.parent() == Some(parent.as_str()),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match text.strip_prefix("*.") {
            Some(parent) if parent.contains('*') => Err(HostError::Wildcard),
            Some(parent) => HostName::parse(parent).map(Self::OneLabelUnder),
            None if text.contains('*') => Err(HostError::Wildcard),
            None => HostName::parse(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::OneLabelUnder(parent) => write!(f, "*.{parent}"),
        }
    }
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError::EmptyLabel);
    }
    if label.len() > MAX_LABEL {
        return Err(HostError::LabelTooLong);
    }
    // Underscores are no part of host names by the letter, but of many names in use.
    match label
        .chars()
        .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')))
    {
        Some(found) => Err(HostError::Char { found }),
        None if label.starts_with('-') || label.ends_with('-') => Err(HostError::Hyphen),
        None => Ok(()),
    }
}

/// Why a text is no name of a host, or no pattern of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing at all.
    #[error("the name is empty")]
    Empty,
    /// More than 253 bytes.
    #[error("the name is longer than {MAX_NAME} bytes")]
    TooLong,
    /// An address, or something that some readers take for one.
    #[error("the name is an address or ends in a number; addresses belong in `cidrs`")]
    Address,
    /// Two dots in a row, or one in front.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A label of more than 63 bytes.
    #[error("a label of the name is longer than {MAX_LABEL} bytes")]
    LabelTooLong,
    /// A character that no name has; names in other scripts are written in their ASCII form (`xn--…`).
    #[error("{found:?} is not allowed in a name, only letters, digits, '-' and '_'")]
    Char {
        /// The character.
        found: char,
    },
    /// A label that begins or ends with a hyphen.
    #[error("a label of the name begins or ends with '-'")]
    Hyphen,
    /// A wildcard that is not the whole first label.
    #[error("`*` can only be the whole first label of a name, such as `*.example.com`")]
    Wildcard,
}

/// The longest name in bytes (RFC 1035 §2.3.4: 255 with the lengths of the labels).
const MAX_NAME: usize = 253;
/// The longest label in bytes (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    #[test]
    fn names_are_compared_as_names_not_as_text() {
        assert_eq!(host("API.Example.COM."), host("api.example.com"));
        for (text, error) in [
            ("", HostError::Empty),
            (".", HostError::Empty),
            ("a..b", HostError::EmptyLabel),
            (".a", HostError::EmptyLabel),
            ("a.b..", HostError::EmptyLabel),
            ("192.0.2.1", HostError::Address),
            ("192.0.2", HostError::Address),
            ("0x7f000001", HostError::Address),
            ("::1", HostError::Address),
            ("a.example:443", HostError::Char { found: ':' }),
            ("bücher.example", HostError::Char { found: 'ü' }),
            ("a b.example", HostError::Char { found: ' ' }),
            ("-a.example", HostError::Hyphen),
        ] {
            assert_eq!(HostName::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(HostName::parse(&"a.".repeat(130)), Err(HostError::TooLong));
        assert_eq!(HostName::parse(&"a".repeat(64)), Err(HostError::LabelTooLong));
    }

    #[test]
    fn a_wildcard_is_exactly_one_label() {
        let pattern: HostPattern = "*.example.com".parse().unwrap();
        assert!(pattern.matches(&host("a.example.com")));
        for other in [
            "example.com",
            "a.b.example.com",
            "aexample.com",
            "a.example.com.evil.org",
            "a.exampleXcom",
        ] {
            assert!(!pattern.matches(&host(other)), "{other}");
        }
        for text in [
            "*",
            "a*.example.com",
            "*a.example.com",
            "a.*.com",
            "*.*.com",
            "**.com",
        ] {
            assert_eq!(text.parse::<HostPattern>(), Err(HostError::Wildcard), "{text}");
        }
        assert_eq!("*.".parse::<HostPattern>(), Err(HostError::Empty));
    }
}
