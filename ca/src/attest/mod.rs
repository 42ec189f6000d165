//! Says who is asking for a certificate, by evidence instead of by claim.

pub mod bound_token;
pub mod certificate;
pub mod enroll;
pub mod host_key;
pub mod kube_api;
mod recent;
pub mod statements;
pub mod token_review;

use std::fmt;
use std::str::FromStr;

use ferrule_identity::{SpiffeId, SpiffeIdError, TrustDomain};

/// A caller whose evidence was checked. Everything that issues takes one, so nothing issues without evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// Who it is, for the ledger and for messages.
    pub caller: Caller,
    /// Which identities it may have.
    pub entitlement: Entitlement,
    /// The enrolled host on whose evidence the certificate is issued; revoking that host revokes it too.
    pub host: Option<String>,
}

impl Attested {
    /// Whoever runs a command on the CA's own machine: every identity of the trust domain.
    pub fn operator(trust_domain: &TrustDomain) -> Self {
        Self {
            caller: Caller::new(CallerKind::Operator, "local"),
            entitlement: Entitlement::everything(trust_domain),
            host: None,
        }
    }
}

/// What sort of evidence a caller showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerKind {
    /// A statement signed with an enrolled host key.
    Host,
    /// A Kubernetes service-account token, bound to a pod.
    ServiceAccount,
    /// A certificate of ours that is still valid.
    Certificate,
    /// A command on the CA's own machine.
    Operator,
}

impl CallerKind {
    /// The word for it in the ledger, in messages and as a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServiceAccount => "serviceaccount",
            Self::Certificate => "certificate",
            Self::Operator => "operator",
        }
    }
}

/// Who is asking, as the ledger names it: `host web-1`, `serviceaccount shop/web pod web-abc`,
/// `certificate spiffe://shop.local/ns/shop/sa/web`, `operator local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    kind: CallerKind,
    name: String,
}

impl Caller {
    /// A caller of a kind with a name. Control characters in the name become `?`, and what lies beyond 2,100
    /// characters is cut, because the name goes into logs; the longest SPIFFE ID fits.
    pub fn new(kind: CallerKind, name: &str) -> Self {
        let name = name
            .chars()
            .take(MAX_CALLER_CHARS)
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        Self { kind, name }
    }

    /// What sort of evidence it showed.
    pub const fn kind(&self) -> CallerKind {
        self.kind
    }

    /// The name without its kind.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// The identities that a caller may have. Empty means none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entitlement {
    items: Vec<IdPattern>,
}

impl Entitlement {
    /// Exactly these.
    pub fn new(items: impl IntoIterator<Item = IdPattern>) -> Self {
        let mut entitlement = Self::default();
        for item in items {
            if !entitlement.items.contains(&item) {
                entitlement.items.push(item);
            }
        }
        entitlement
    }

    /// One identity.
    pub fn exactly(id: SpiffeId) -> Self {
        Self::new([IdPattern::Exact(id)])
    }

    /// Every identity of a trust domain.
    pub fn everything(trust_domain: &TrustDomain) -> Self {
        Self::new([IdPattern::Below {
            prefix: format!("{}/", trust_domain.id()),
        }])
    }

    /// Whether `id` is among them.
    pub fn allows(&self, id: &SpiffeId) -> bool {
        self.items.iter().any(|item| item.matches(id))
    }

    /// The identity, when there is only one that the caller can mean.
    pub fn only(&self) -> Option<&SpiffeId> {
        match self.items.as_slice() {
            [IdPattern::Exact(id)] => Some(id),
            _ => None,
        }
    }

    /// The patterns, in the order in which they were given.
    pub fn patterns(&self) -> &[IdPattern] {
        &self.items
    }
}

impl fmt::Display for Entitlement {
    /// The patterns separated by commas, cut after eight; `nothing` when there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items.is_empty() {
            return f.write_str("nothing");
        }
        for (at, item) in self.items.iter().take(MAX_SHOWN).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{item}")?;
        }
        match self.items.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// One item of an [`Entitlement`]: an exact SPIFFE ID, or everything below a path, such as
/// `spiffe://shop.local/ns/shop/*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdPattern {
    /// This ID alone.
    Exact(SpiffeId),
    /// Every ID that continues `prefix`.
    Below {
        /// The start of the ID, up to its last `/`, that slash included.
        prefix: String,
    },
}

impl IdPattern {
    /// Whether `id` fits.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exact(exact) => exact == id,
            Self::Below { prefix } => id.as_str().starts_with(prefix.as_str()),
        }
    }

    /// Whether everything that fits belongs to `trust_domain`.
    pub fn is_in(&self, trust_domain: &TrustDomain) -> bool {
        match self {
            Self::Exact(id) => id.is_in(trust_domain),
            Self::Below { prefix } => prefix.starts_with(&format!("{}/", trust_domain.id())),
        }
    }
}

impl FromStr for IdPattern {
    type Err = SpiffeIdError;

    /// Reads a SPIFFE ID, or one whose last segment is `*`. A `*` elsewhere is refused.
    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let Some(prefix) = text.strip_suffix('*').filter(|prefix| prefix.ends_with('/')) else {
            return SpiffeId::parse(text).map(Self::Exact);
        };
        // What the star stands for is at least one character, and the shortest such ID must be valid.
        SpiffeId::parse(&format!("{prefix}x"))?;
        Ok(Self::Below {
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => write!(f, "{id}"),
            Self::Below { prefix } => write!(f, "{prefix}*"),
        }
    }
}

/// Room for the longest SPIFFE ID with a word or two beside it.
const MAX_CALLER_CHARS: usize = 2100;

/// How many patterns a message lists.
const MAX_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    fn pattern(text: &str) -> IdPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_reaches_below_its_slash_alone() {
        let shop = pattern("spiffe://shop.local/ns/shop/*");
        assert!(shop.matches(&id("spiffe://shop.local/ns/shop/sa/web")));
        assert!(!shop.matches(&id("spiffe://shop.local/ns/shop")));
        assert!(!shop.matches(&id("spiffe://shop.local/ns/shop2/sa/web")));
        assert!(!shop.matches(&id("spiffe://shop.local.evil/ns/shop/sa/web")));
        assert!(shop.is_in(&"shop.local".parse().unwrap()));
        assert!(!shop.is_in(&"shop.loca".parse().unwrap()));
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for text in [
            "spiffe://shop.local/ns/*/sa/web",
            "spiffe://shop.local/ns/shop*",
            "spiffe://*/ns/shop",
            "spiffe://*",
            "*",
            "spiffe://shop.local/../*",
            "spiffe://shop.local//*",
        ] {
            assert!(text.parse::<IdPattern>().is_err(), "{text}");
        }
        let all = pattern("spiffe://shop.local/*");
        assert_eq!(all.to_string(), "spiffe://shop.local/*");
    }

    #[test]
    fn nobody_is_entitled_to_anything_by_default() {
        let none = Entitlement::default();
        assert!(!none.allows(&id("spiffe://shop.local/ns/shop/sa/web")));
        assert_eq!(none.only(), None);
        assert_eq!(none.to_string(), "nothing");
    }

    #[test]
    fn a_pattern_leaves_open_which_identity_is_meant() {
        let web = id("spiffe://shop.local/ns/shop/sa/web");
        assert_eq!(Entitlement::exactly(web.clone()).only(), Some(&web));
        let several = Entitlement::new([IdPattern::Exact(web), pattern("spiffe://shop.local/ns/shop/*")]);
        assert_eq!(several.only(), None);
    }

    #[test]
    fn a_caller_cannot_break_a_log_line() {
        let caller = Caller::new(CallerKind::Host, "web-1\n{\"event\":\"issue\"}\u{1b}[31m");
        assert_eq!(caller.to_string(), "host web-1?{\"event\":\"issue\"}?[31m");
    }
}
