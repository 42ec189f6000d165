//! A workload's certificate is kept fresh through renewals, outages, wrong clocks, revocations.

use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::Credentials;
use ferrule_credentials::join::{Host, join};
use ferrule_credentials::keeper::{Health, Keeper, Kept, Wanted};
use ferrule_daemon::clock::{Clock, Hand};
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{KeyAlgorithm, SpiffeId, Timestamp, WorkloadCertificate};
use tokio::task::JoinHandle;

use crate::authority::{Authority, PATIENCE};

/// Noon of some day.
const START: i64 = 1_800_000_000;
/// The default life of a leaf.
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// A keeper at work, with the hand of its clock.
struct Workload {
    kept: Kept,
    trust: Arc<TrustCell>,
    clock: Clock,
    hand: Hand,
    task: JoinHandle<()>,
}

impl Workload {
    /// Joins, and keeps a certificate for `web`, by a clock of its own that shows `now`.
    async fn start(authority: &Authority, now: i64) -> Self {
        let (clock, hand) = Clock::manual(now);
        let host = join(&authority.token().await, &clock).await.unwrap();
        Self::keep(&host, clock, hand)
    }

    fn keep(host: &Host, clock: Clock, hand: Hand) -> Self {
        let wanted = Wanted {
            id: SpiffeId::workload(&host.trust_domain, "shop", "web").unwrap(),
            algorithm: KeyAlgorithm::EcdsaP256,
            lifetime: None,
            evidence: host.evidence(),
        };
        let trust = Arc::new(host.trust());
        let (keeper, kept) = Keeper::new(wanted, host.addresses.clone(), Arc::clone(&trust), clock.clone());
        #[allow(clippy::disallowed_methods, reason = "aborted when the test is over")]
        let task = tokio::spawn(async move {
            keeper.run().await;
        });
        Self {
            kept,
            trust,
            clock,
            hand,
            task,
        }
    }

    /// The certificate once there is one other than `old`; the clock goes on meanwhile, a second at a time.
    async fn next(&mut self, old: Option<&WorkloadCertificate>) -> WorkloadCertificate {
        let old = old.map(|old| old.serial().clone());
        let newer = |held: &Option<Arc<Credentials>>| {
            held.as_ref()
                .is_some_and(|held| Some(held.certificate.serial()) != old.as_ref())
        };
        let mut credentials = self.kept.credentials.clone();
        let held = ticking(&self.hand, credentials.wait_for(newer)).await.unwrap();
        held.as_ref().unwrap().certificate.clone()
    }

    /// The keeper's health once it is as `wanted`.
    async fn health(&mut self, wanted: impl FnMut(&Health) -> bool) -> Health {
        let mut health = self.kept.health.clone();
        ticking(&self.hand, health.wait_for(wanted))
            .await
            .unwrap()
            .clone()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for `state` while the clock goes on: a keeper that waits before its next try waits by that clock.
async fn ticking<T>(hand: &Hand, state: impl Future<Output = T>) -> T {
    let ticks = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            hand.advance(Duration::from_secs(1));
        }
    };
    tokio::select! {
        state = state => state,
        () = ticks => unreachable!(),
        () = tokio::time::sleep(PATIENCE) => panic!("the state did not come"),
    }
}

#[tokio::test]
async fn a_host_joins_and_its_workload_renews_with_a_fresh_key() {
    let (clock, hand) = Clock::manual(START);
    let authority = Authority::start(&clock).await;
    let mut web = Workload::start(&authority, START).await;
    let first = web.next(None).await;
    assert_eq!(first.id().as_str(), "spiffe://shop.test/ns/shop/sa/web");
    let third = LIFE / 3 + LIFE / 20;
    hand.advance(third);
    web.hand.advance(third);
    let second = web.next(Some(&first)).await;
    assert_ne!(first.key().public_key(), second.key().public_key());
    assert_eq!(web.kept.health.borrow().failures, 0);
}

// F1, and rows 20 and 21 of what users ask for: an outage of the CA within the life is not felt; beyond it the
// certificate runs out, and comes back without anybody's help.
#[tokio::test]
async fn an_outage_is_survived_and_expiry_is_healed() {
    let (clock, hand) = Clock::manual(START);
    let mut authority = Authority::start(&clock).await;
    let mut web = Workload::start(&authority, START).await;
    let first = web.next(None).await;
    authority.stop().await;

    web.hand.advance(LIFE * 9 / 10);
    web.health(|health| health.failures >= 2).await;
    let held = web
        .kept
        .credentials
        .borrow()
        .as_ref()
        .unwrap()
        .certificate
        .clone();
    assert_eq!(held.serial(), first.serial());

    web.hand.advance(LIFE);
    let health = web.health(|health| health.failures >= 4).await;
    assert!(health.problem.unwrap().contains("cannot be reached"));

    hand.set(web.clock.unix());
    authority.resume().await;
    let healed = web.next(Some(&first)).await;
    assert!(healed.lifetime().contains(Timestamp::from_unix(clock.unix())));
    web.health(|health| health.failures == 0 && health.problem.is_none())
        .await;
}

// B13, G13: three minutes either way do not matter at the default life; where they would, both times are named.
#[tokio::test]
async fn a_wrong_clock_is_tolerated_or_named() {
    let (clock, hand) = Clock::manual(START);
    let authority = Authority::start(&clock).await;
    for off in [-180, 180] {
        let mut web = Workload::start(&authority, START + off).await;
        web.next(None).await;
        let skew = web.kept.health.borrow().skew;
        assert!(
            (skew + off).abs() < 60,
            "behind by {skew} where the clock is off by {off}"
        );
    }
    // An hour later the CA's serving certificate is old enough for a clock that is ten minutes behind; a leaf that
    // is made now is not.
    hand.set(START + 3600);
    let mut behind = Workload::start(&authority, START + 3000).await;
    let health = behind.health(|health| health.failures > 0).await;
    let problem = health.problem.unwrap();
    assert!(problem.contains("our clock shows 2027-01-15T08:50"), "{problem}");
    assert!(problem.contains("the CA's 2027-01-15T09:00:00Z"), "{problem}");
    assert!(behind.kept.credentials.borrow().is_none());
}

// B13: a clock that jumps, as after a suspend, loses nothing; one that was wrong and is set right needs no other help.
#[tokio::test]
async fn a_clock_that_jumps_is_lived_with_and_one_that_is_set_right_heals() {
    let (clock, hand) = Clock::manual(START);
    let authority = Authority::start(&clock).await;
    let mut web = Workload::start(&authority, START).await;
    let first = web.next(None).await;
    let hour = Duration::from_secs(3600);
    let third = LIFE / 3 + LIFE / 20;

    // An hour ahead, it renews an hour early.
    web.hand.advance(hour + third);
    hand.advance(third);
    let second = web.next(Some(&first)).await;
    assert!(second.lifetime().contains(Timestamp::from_unix(web.clock.unix())));

    // An hour behind what it was made at, it keeps what it has, and renews once the time has come again.
    let made = second.lifetime().not_before();
    web.hand.set(made.unix() - 3600);
    // It hears of the CA by that clock, too.
    let id = second.id().clone();
    authority
        .revoke("spiffe://shop.test/ns/shop/sa/other", false)
        .await;
    let other = SpiffeId::parse("spiffe://shop.test/ns/shop/sa/other").unwrap();
    let trust = Arc::clone(&web.trust);
    let hears = async { until(|| trust.load().revocations.revokes(&other)).await };
    ticking(&web.hand, hears).await;
    assert!(!web.trust.load().revocations.revokes(&id));
    let held = web.kept.credentials.borrow().clone().unwrap();
    assert_eq!(held.certificate.serial(), second.serial());
    hand.advance(third);
    web.hand.set(clock.unix());
    let third = web.next(Some(&second)).await;
    assert!(third.lifetime().contains(Timestamp::from_unix(clock.unix())));
    let healthy = |health: &Health| health.failures == 0 && health.problem.is_none();
    web.health(healthy).await;

    // Behind from its start, it gets nothing; then it is set right.
    let host = join(&authority.token().await, &clock).await.unwrap();
    let (late, hand) = Clock::manual(clock.unix() - 3600);
    let mut behind = Workload::keep(&host, late, hand);
    behind.health(|health| health.failures > 1).await;
    assert!(behind.kept.credentials.borrow().is_none());
    behind.hand.set(clock.unix());
    let healed = behind.next(None).await;
    assert!(healed.lifetime().contains(Timestamp::from_unix(clock.unix())));
    behind.health(healthy).await;
}

#[tokio::test]
async fn a_revocation_reaches_the_verifier_and_is_lifted() {
    let (clock, _hand) = Clock::manual(START);
    let authority = Authority::start(&clock).await;
    let mut web = Workload::start(&authority, START).await;
    let id = web.next(None).await.id().clone();
    for revoked in [true, false] {
        authority.revoke(id.as_str(), !revoked).await;
        let mut credentials = web.kept.credentials.clone();
        let state = credentials.wait_for(|held| {
            held.as_ref()
                .is_some_and(|held| held.trust.revocations.revokes(&id) == revoked)
        });
        ticking(&web.hand, state).await.unwrap();
        assert_eq!(web.trust.load().revocations.revokes(&id), revoked);
    }
}

// However long the CA was away, a second later it is known what was revoked meanwhile.
#[tokio::test]
async fn after_an_outage_revocations_are_heard_of_within_a_second() {
    let (clock, _hand) = Clock::manual(START);
    let mut authority = Authority::start(&clock).await;
    let mut web = Workload::start(&authority, START).await;
    web.next(None).await;
    let host = join(&authority.token().await, &clock).await.unwrap();
    authority.stop().await;
    // Somebody whose failures can be seen, by the same clock.
    let (_, idle) = Clock::manual(START);
    let other = Workload::keep(&host, web.clock.clone(), idle);
    let mut health = other.kept.health.clone();
    let many = health.wait_for(|health| health.failures >= 8);
    ticking(&web.hand, many).await.unwrap();

    let revoked = SpiffeId::parse("spiffe://shop.test/ns/shop/sa/other").unwrap();
    authority.revoke(revoked.as_str(), false).await;
    authority.resume().await;
    assert!(!web.trust.load().revocations.revokes(&revoked));
    web.hand.advance(Duration::from_secs(1));
    until(|| web.trust.load().revocations.revokes(&revoked)).await;
}

#[tokio::test]
async fn another_ca_at_the_same_place_is_not_believed() {
    let (clock, _hand) = Clock::manual(START);
    let authority = Authority::start(&clock).await;
    let impostor = Authority::start(&clock).await;
    let mut token = authority.token().await;
    token.addresses = impostor.token().await.addresses;
    let error = join(&token, &clock).await.unwrap_err();
    let chain = ferrule_daemon::logging::Chain(&error).to_string();
    assert!(chain.contains("is not the CA that is trusted here"), "{chain}");
    // The token is still good where it belongs.
    token.addresses = authority.token().await.addresses;
    join(&token, &clock).await.unwrap();
    let again = join(&token, &clock).await.unwrap_err();
    let chain = ferrule_daemon::logging::Chain(&again).to_string();
    assert!(chain.contains("used"), "{chain}");
}

#[tokio::test]
async fn a_host_is_kept_on_disk_and_comes_back() {
    let (clock, _hand) = Clock::manual(START);
    let authority = Authority::start(&clock).await;
    let host = join(&authority.token().await, &clock).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    host.write(folder.path()).unwrap();
    let back = Host::read(folder.path(), Timestamp::from_unix(START)).unwrap();
    assert_eq!((&back.name, &back.addresses), (&host.name, &host.addresses));
    let (clock, hand) = Clock::manual(START);
    let mut web = Workload::keep(&back, clock, hand);
    let certificate = web.next(None).await;
    let bundle = web.trust.load().bundles.of(&authority.domain).unwrap().clone();
    ferrule_credentials::store::write(folder.path(), &certificate, &bundle).unwrap();
    assert!(folder.path().join("svid.pem").exists());
}

/// Waits until `state` holds.
pub(crate) async fn until(mut state: impl FnMut() -> bool) {
    let waiting = async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("the state comes");
}
