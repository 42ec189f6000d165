//! Connections outlast their peer's certificate for as long as they should.

use ferrule_credentials::Credentials;
use ferrule_daemon::clock::Hand;
use ferrule_identity::tls::TrustSnapshot;
use ferrule_identity::{
    Bundles, PrivateKey, Revocations, TrustBundle, WorkloadCertificate, read_chain, verify,
};
use ferrule_tests::pki::Authority;

use super::*;
use crate::knowledge::map::Map;

const WEB: &str = "spiffe://shop.local/ns/shop/sa/web";
const GRACE: Duration = Duration::from_secs(60);
/// How much longer a later certificate lives, in seconds.
const LIFE: i64 = 3600;

pub(super) struct Stage {
    pub(super) gate: Gate,
    pub(super) teller: Teller,
    hand: Hand,
    pub(super) grounds: Grounds,
    /// When the certificate ends.
    end: i64,
}

fn address() -> std::net::IpAddr {
    "10.1.0.7".parse().unwrap()
}

/// A connection of `web`, whose certificate lives for an hour.
pub(super) fn stage(grace: Duration) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().files(folder.path(), "web", WEB, Duration::from_secs(3600));
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let (clock, hand) = Clock::manual(Clock::system().unix());
    let now = Timestamp::from_unix(clock.unix());
    let domain = TrustDomain::parse("shop.local").unwrap();
    let bundle = TrustBundle::from_pem(domain, &read(&files.bundle), now).unwrap();
    let key = PrivateKey::from_pem(&read(&files.key)).unwrap();
    let leaf = read(&files.chain);
    let certificate = WorkloadCertificate::from_pem(&leaf, key, &bundle, now).unwrap();
    let trust = TrustSnapshot {
        bundles: Bundles::from_iter([bundle]),
        revocations: Revocations::empty(),
    };
    let chain = read_chain(&leaf).unwrap();
    let peer = verify(&chain, &trust.bundles, &trust.revocations, now).unwrap();
    let end = peer.lifetime().not_after().unix();
    let trust = Arc::new(trust);
    let own = Own {
        namespace: "shop".to_owned(),
        name: "api".to_owned(),
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        node: String::new(),
        zone: String::new(),
    };
    let (teller, news) = news();
    let (_, credentials) = watch::channel(Some(Arc::new(Credentials { certificate, trust })));
    let id = SpiffeId::parse("spiffe://shop.local/ns/shop/sa/api").unwrap();
    let gate = Gate::new(Arc::new(own), id, news, credentials, clock, grace);
    rules(&teller, ALLOW_ITSELF);
    let grounds = Grounds::Caller {
        peer,
        address: address(),
        port: 8080,
    };
    Stage {
        gate,
        teller,
        hand,
        grounds,
        end,
    }
}

impl Stage {
    /// Whether the connection may go on `after` seconds after the end of its certificate, and why not.
    fn at(&self, after: i64) -> Result<(), CloseReason> {
        self.hand.set(self.end + after);
        let judged = self.gate.judge(&self.grounds);
        judged.map(drop).map_err(|denied| denied.closed.reason)
    }

    /// Reports that the workload `id` at `web`'s address has a certificate that ends `after` seconds later.
    fn report(&self, id: &str, after: i64) {
        let id = SpiffeId::parse(id).unwrap();
        let end = Timestamp::from_unix(self.end + after);
        let map = Map::new(&[]).reporting([(address(), id, end)]);
        self.teller.map.send_replace(Arc::new(map));
    }
}

// B12: what nobody renews ends a minute after its certificate.
#[test]
fn a_connection_ends_a_minute_after_its_peers_certificate() {
    let stage = stage(GRACE);
    assert_eq!(stage.at(60), Ok(()));
    assert_eq!(stage.at(61), Err(CloseReason::Expired));
}

#[test]
fn a_connection_outlives_the_certificate_of_a_peer_that_has_a_later_one() {
    let stage = stage(GRACE);
    stage.report(WEB, LIFE);
    assert_eq!(stage.at(LIFE + 60), Ok(()));
    assert_eq!(stage.at(LIFE + 61), Err(CloseReason::Expired));
}

#[test]
fn a_later_certificate_of_somebody_else_at_the_address_does_not_count() {
    let stage = stage(GRACE);
    stage.report("spiffe://shop.local/ns/shop/sa/thief", LIFE);
    assert_eq!(stage.at(61), Err(CloseReason::Expired));
}

// `connection.max_age: leaf`.
#[test]
fn a_connection_without_grace_ends_with_the_very_certificate() {
    let stage = stage(Duration::ZERO);
    stage.report(WEB, LIFE);
    assert_eq!(stage.at(0), Ok(()));
    assert_eq!(stage.at(1), Err(CloseReason::Expired));
}

#[tokio::test(start_paused = true)]
async fn an_open_connection_is_ended_when_its_time_is_over() {
    let stage = stage(GRACE);
    let permit = stage.gate.admit(stage.grounds.clone()).unwrap();
    stage.hand.set(stage.end + 61);
    assert_eq!(revoked(&stage.gate, &permit).await.reason, CloseReason::Expired);
}
