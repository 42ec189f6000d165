//! Keeps the bundle of each trust domain apart from every other's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{BundleError, TrustBundle, json, jwks};
use crate::{SpiffeId, Timestamp, TrustDomain};

/// The bundles in use, one for each trust domain, never merged (SPIFFE_Federation.md §4): the anchors of one
/// domain say nothing about another. A value: cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Bundles(Arc<BTreeMap<TrustDomain, Arc<TrustBundle>>>);

impl Bundles {
    /// No bundle: nobody is trusted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `bundle` in the place of the one of the same trust domain, as a whole.
    ///
    /// # Errors
    /// When it is older than the one in place, or has the same number (other than 0) and different anchors.
    /// The one in place then stays.
    pub fn insert(&mut self, bundle: TrustBundle) -> Result<(), BundleError> {
        if let Some(held) = self.of(bundle.trust_domain()) {
            check_succession(held, &bundle)?;
        }
        Arc::make_mut(&mut self.0).insert(bundle.trust_domain().clone(), Arc::new(bundle));
        Ok(())
    }

    /// Forgets the bundle of `trust_domain`, whose workloads are trusted no more; tells whether there was one.
    pub fn remove(&mut self, trust_domain: &TrustDomain) -> bool {
        Arc::make_mut(&mut self.0).remove(trust_domain).is_some()
    }

    /// The bundle of `trust_domain`.
    pub fn of(&self, trust_domain: &TrustDomain) -> Option<&Arc<TrustBundle>> {
        self.0.get(trust_domain)
    }

    /// The bundle of the trust domain that `id` belongs to.
    pub fn about(&self, id: &SpiffeId) -> Option<&Arc<TrustBundle>> {
        self.0.get(id.trust_domain_name())
    }

    /// All bundles, in the order of their trust domains' names.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.0.values().map(AsRef::as_ref)
    }

    /// Reads a SPIFFE bundle map, `{"trust_domains": {"<name>": <JWK set>, …}}`, as a whole: one bad bundle
    /// refuses the map. Refresh hints inside are ignored, since the map is refreshed as one
    /// (SPIFFE_Trust_Domain_and_Bundle.md §6).
    ///
    /// # Errors
    /// As [`TrustBundle::from_jwks`], naming the trust domain; when a key is there twice, or is no trust domain.
    pub fn from_map(text: &str, now: Timestamp) -> Result<Self, BundleError> {
        let document = json::read(text)?;
        let domains = document
            .get("trust_domains")
            .and_then(Value::as_object)
            .ok_or_else(|| BundleError::shape("trust_domains", "an object"))?;
        let mut all = BTreeMap::new();
        for (name, bundle) in domains {
            let trust_domain = TrustDomain::parse(name).map_err(|source| BundleError::Name {
                name: name.chars().take(MAX_NAME_CHARS).collect(),
                source,
            })?;
            let bundle =
                jwks::read(trust_domain.clone(), bundle, now).map_err(|source| BundleError::InMap {
                    trust_domain: trust_domain.clone(),
                    source: Box::new(source),
                })?;
            all.insert(trust_domain, Arc::new(bundle.without_hint()));
        }
        Ok(Self(Arc::new(all)))
    }
}

impl FromIterator<TrustBundle> for Bundles {
    /// Of two bundles of one trust domain, the later one counts.
    fn from_iter<I: IntoIterator<Item = TrustBundle>>(bundles: I) -> Self {
        let keyed = bundles
            .into_iter()
            .map(|bundle| (bundle.trust_domain().clone(), Arc::new(bundle)));
        Self(Arc::new(keyed.collect()))
    }
}

/// A publisher counts upwards (SPIFFE_Trust_Domain_and_Bundle.md §4.1.1): a lower number is an old document that
/// someone kept, perhaps with an authority that has been retired since.
fn check_succession(held: &TrustBundle, offered: &TrustBundle) -> Result<(), BundleError> {
    if offered.sequence() < held.sequence() {
        return Err(BundleError::Rollback {
            trust_domain: held.trust_domain().clone(),
            held: held.sequence(),
            offered: offered.sequence(),
        });
    }
    let numbered = offered.sequence() != 0 && offered.sequence() == held.sequence();
    // Expired anchors drop out of a bundle without its publisher doing anything.
    let news = |anchor: &super::Anchor| !held.anchors().iter().any(|old| old.der() == anchor.der());
    if numbered && offered.anchors().iter().any(news) {
        return Err(BundleError::Renumber {
            trust_domain: held.trust_domain().clone(),
            sequence: held.sequence(),
        });
    }
    Ok(())
}

/// How much of a bad name an error repeats.
const MAX_NAME_CHARS: usize = 64;
