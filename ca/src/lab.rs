//! Makes whole CAs for tests, in folders that go away by themselves, with a clock that stands still.

use std::path::Path;

use ferrule_daemon::clock::{Clock, Hand};
use ferrule_identity::{KeyAlgorithm, PrivateKey, SigningRequest, SpiffeId, Timestamp, TrustBundle};

use crate::attest::{Attested, Caller, CallerKind, Entitlement, IdPattern};
use crate::config::{self, Config};
use crate::instance::{Instance, InstanceError};
use crate::issue::{IssueError, Issued, Wanted};
use crate::ledger::event::{Event, Refused};
use crate::ledger::{Ledger, RowFilter};

/// When tests begin.
pub(crate) const START: i64 = 1_800_000_000;

/// A CA of the trust domain `shop.local`.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
    pub(crate) hand: Hand,
    pub(crate) clock: Clock,
    pub(crate) ca: Instance,
}

impl Lab {
    /// One with a root of its own.
    pub(crate) async fn new() -> Self {
        Self::configured(|_| {}).await
    }

    /// One with a root of its own, and other settings than the defaults.
    pub(crate) async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let lab = Self::rootless(change).await;
        lab.ca.authorities.found_new("test").await.unwrap();
        lab
    }

    /// One without a root.
    pub(crate) async fn rootless(change: impl FnOnce(&mut Config)) -> Self {
        Self::try_rootless(change).await.unwrap()
    }

    pub(crate) async fn try_rootless(change: impl FnOnce(&mut Config)) -> Result<Self, InstanceError> {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = config::load::<&str, &str>(None, []).unwrap().config;
        settings.trust_domain = Some("shop.local".parse().unwrap());
        settings.data = folder.path().join("data");
        change(&mut settings);
        let (clock, hand) = Clock::manual(START);
        let ca = Instance::open(settings, clock.clone(), true).await?;
        Ok(Self {
            folder,
            hand,
            clock,
            ca,
        })
    }

    /// A new process with the same folder, after the first one has ended without any ceremony.
    pub(crate) async fn restarted(self) -> Self {
        let Self {
            folder,
            hand,
            clock,
            ca,
        } = self;
        let settings = ca.config.clone();
        ca.close().await.unwrap();
        drop(ca);
        let ca = Instance::open(settings, clock.clone(), false).await.unwrap();
        Self {
            folder,
            hand,
            clock,
            ca,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ca.now()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.hand.advance(std::time::Duration::from_secs(seconds));
    }

    /// Issues for a fresh key to the workload that `id` names.
    pub(crate) async fn issue(&self, id: &str) -> Result<Issued, IssueError> {
        self.ca
            .issuer
            .issue(&caller(&[id]), &request(), &Wanted::default())
            .await
    }

    /// What a peer would verify by now.
    pub(crate) fn bundle(&self) -> TrustBundle {
        let view = self.ca.authorities.view();
        let domain = self.ca.trust_domain.clone();
        TrustBundle::new(
            domain,
            view.slots().sequence(),
            None,
            &view.trusted_roots(),
            self.now(),
        )
        .unwrap()
    }

    /// The refusals on record, the oldest first.
    pub(crate) async fn refusals(&self) -> Vec<Refused> {
        let filter = RowFilter {
            kinds: vec!["refused".into()],
            ..RowFilter::default()
        };
        let rows = self.ca.ledger.rows(filter, 0, 100).await.unwrap();
        rows.iter()
            .map(|row| match row.event().unwrap() {
                Event::Refused(refused) => refused,
                other => panic!("asked for refusals, got {other:?}"),
            })
            .collect()
    }
}

/// A service account that may have exactly these identities, or patterns of them.
pub(crate) fn caller(patterns: &[&str]) -> Attested {
    let patterns = patterns.iter().map(|text| text.parse::<IdPattern>().unwrap());
    Attested {
        caller: Caller::new(CallerKind::ServiceAccount, "shop/web pod web-1"),
        entitlement: Entitlement::new(patterns),
        host: None,
    }
}

/// A request that names nobody, for a fresh P-256 key.
pub(crate) fn request() -> SigningRequest {
    request_with(KeyAlgorithm::EcdsaP256)
}

pub(crate) fn request_with(algorithm: KeyAlgorithm) -> SigningRequest {
    let key = PrivateKey::generate(algorithm).unwrap();
    SigningRequest::from_der(&SigningRequest::build(&key).unwrap()).unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// An identity that tests use.
pub(crate) const WEB: &str = "spiffe://shop.local/ns/shop/sa/web";
