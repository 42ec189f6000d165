//! Names workloads: SPIFFE IDs and the trust domains that they live in.
//!
//! Source: SPIFFE-ID.md §2. The rules are the specification's, except that upper case in the scheme or the
//! trust domain is refused instead of folded, so that two spellings never name one workload.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest SPIFFE ID that is read or made, in bytes (SPIFFE-ID.md §2.3).
pub const MAX_ID_BYTES: usize = 2048;

/// The longest trust domain name, in bytes (SPIFFE-ID.md §2.3).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

const SCHEME: &str = "spiffe://";

/// A trust domain: the name under which one authority vouches for workloads, such as `shop.local`.
///
/// One to 255 bytes of `a-z`, `0-9`, `.`, `-` and `_` (SPIFFE-ID.md §2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain's bare name, such as `shop.local`; a whole ID is refused.
    ///
    /// # Errors
    /// When the name is empty, longer than 255 bytes, or has a byte outside `a-z0-9.-_`.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        if name.is_empty() {
            return Err(SpiffeIdError::NoTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN_BYTES {
            return Err(SpiffeIdError::TrustDomainTooLong { bytes: name.len() });
        }
        match name.char_indices().find(|(_, c)| !is_domain_char(*c)) {
            None => Ok(Self(name.into())),
            Some((at, found)) => Err(SpiffeIdError::TrustDomainChar { found, at }),
        }
    }

    /// The bare name, such as `shop.local`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the trust domain itself, such as `spiffe://shop.local`: the name that its signing
    /// certificates may carry (X509-SVID.md §3.2). No workload has it.
    pub fn id(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(name: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(name)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Found by its name in ordered maps: both are compared byte by byte.
impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

/// The SPIFFE ID of a workload: a trust domain and a path of at least one segment, such as
/// `spiffe://shop.local/ns/shop/sa/web`. Equal IDs are equal bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// The whole ID, scheme included.
    whole: Arc<str>,
    /// Where in `whole` the path begins, at its `/`.
    path_at: usize,
}

impl SpiffeId {
    /// Reads a whole ID.
    ///
    /// # Errors
    /// Says which rule of SPIFFE-ID.md §2 the text breaks, and at which byte.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong { bytes: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let slash = rest.find('/').unwrap_or(rest.len());
        TrustDomain::parse(&rest[..slash]).map_err(|error| error.shifted(SCHEME.len()))?;
        let path_at = SCHEME.len() + slash;
        check_path(&text[path_at..]).map_err(|error| error.shifted(path_at))?;
        Ok(Self {
            whole: text.into(),
            path_at,
        })
    }

    /// The ID of a workload that runs as `service_account` in `namespace`:
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// When either name is no path segment, or the whole would be longer than 2,048 bytes.
    pub fn workload(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        // A name with a slash would move the borders between the parts.
        for name in [namespace, service_account] {
            if let Some(at) = name.find('/') {
                return Err(SpiffeIdError::PathChar { found: '/', at });
            }
        }
        Self::parse(&format!(
            "{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}"
        ))
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.trust_domain_name().into())
    }

    /// The name of the trust domain.
    pub(crate) fn trust_domain_name(&self) -> &str {
        &self.whole[SCHEME.len()..self.path_at]
    }

    /// Whether the ID belongs to `trust_domain`; compares without making a copy.
    pub fn is_in(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_name() == trust_domain.as_str()
    }

    /// The path with its leading slash, such as `/ns/shop/sa/web`.
    pub fn path(&self) -> &str {
        &self.whole[self.path_at..]
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// Namespace and service account, when the path is exactly `/ns/<namespace>/sa/<service account>`.
    pub fn namespace_and_account(&self) -> Option<(&str, &str)> {
        let (namespace, rest) = self.path().strip_prefix("/ns/")?.split_once('/')?;
        let account = rest.strip_prefix("sa/")?;
        (!account.contains('/')).then_some((namespace, account))
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.whole)
    }
}

/// Checks everything from the first `/` on; positions count from there.
fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    if path.is_empty() || path == "/" {
        return Err(SpiffeIdError::NoPath);
    }
    let mut at = 1;
    for segment in path[1..].split('/') {
        match segment {
            "" => return Err(SpiffeIdError::EmptySegment { at }),
            "." | ".." => return Err(SpiffeIdError::DotSegment { at }),
            _ => {}
        }
        if let Some((inside, found)) = segment.char_indices().find(|(_, c)| !is_path_char(*c)) {
            return Err(SpiffeIdError::PathChar {
                found,
                at: at + inside,
            });
        }
        at += segment.len() + 1;
    }
    Ok(())
}

fn is_domain_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_')
}

fn is_path_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// Why a text is no SPIFFE ID or no trust domain. Positions are byte offsets in the text that was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Longer than [`MAX_ID_BYTES`].
    #[error("the ID is {bytes} bytes long, more than {MAX_ID_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Does not begin with `spiffe://` in lower case.
    #[error("the ID does not begin with \"{SCHEME}\" in lower case")]
    Scheme,
    /// Nothing where the trust domain belongs.
    #[error("the trust domain is empty")]
    NoTrustDomain,
    /// A trust domain longer than [`MAX_TRUST_DOMAIN_BYTES`].
    #[error("the trust domain is {bytes} bytes long, more than {MAX_TRUST_DOMAIN_BYTES}")]
    TrustDomainTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that no trust domain has: upper case, a port's colon, an `@`, a percent sign.
    #[error("{found:?} at byte {at} is not allowed in a trust domain, only a-z, 0-9, '.', '-' and '_'")]
    TrustDomainChar {
        /// The character.
        found: char,
        /// Its offset in bytes.
        at: usize,
    },
    /// A trust domain alone, which names no workload.
    #[error("the ID has no path, so it names a trust domain and no workload")]
    NoPath,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty segment at byte {at}")]
    EmptySegment {
        /// Its offset in bytes.
        at: usize,
    },
    /// A segment `.` or `..`.
    #[error("the path has a relative segment at byte {at}")]
    DotSegment {
        /// Its offset in bytes.
        at: usize,
    },
    /// A character that no path has: a percent sign, a query, a fragment, a NUL.
    #[error("{found:?} at byte {at} is not allowed in a path, only a-z, A-Z, 0-9, '.', '-' and '_'")]
    PathChar {
        /// The character.
        found: char,
        /// Its offset in bytes.
        at: usize,
    },
}

impl SpiffeIdError {
    /// The same error with its position counted from `by` bytes earlier.
    fn shifted(self, by: usize) -> Self {
        match self {
            Self::TrustDomainChar { found, at } => Self::TrustDomainChar { found, at: at + by },
            Self::EmptySegment { at } => Self::EmptySegment { at: at + by },
            Self::DotSegment { at } => Self::DotSegment { at: at + by },
            Self::PathChar { found, at } => Self::PathChar { found, at: at + by },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
