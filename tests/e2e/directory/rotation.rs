//! A new root is signed with once every live proxy holds it, and not before.

use std::collections::BTreeMap;
use std::time::Duration;

use ferrule_ca::acknowledged::Reported;
use ferrule_ca::authority::{Acknowledgements, AuthorityError, RootSource};
use ferrule_ca::config::DirectoryConfig;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_identity::Timestamp;
use ferrule_wire::directory::BUNDLE;

use super::mesh::{Mesh, PLACES};
use super::raw::Raw;
use crate::kept::until;

// F4: prepared, then active, then retired; a proxy that does not answer holds it up, and is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_proxy_holds_up_a_rotation_and_is_named() {
    let (clock, hand) = Clock::manual(1_800_000_000);
    let mesh = Mesh::start(&clock, &[("places.yaml", PLACES)]).await;
    let web = mesh.workload("web").await;
    let mut raw = Raw::connect(&mesh, &web, "shop/web-1", BUNDLE, BTreeMap::new())
        .await
        .unwrap();
    let first = raw.next().await.unwrap();
    raw.answer(&first, None).await;
    let sequence = || {
        let listed = mesh.proxies().list(Timestamp::from_unix(clock.unix()));
        listed
            .proxies
            .iter()
            .map(|proxy| proxy.bundle_sequence)
            .min()
            .unwrap_or(0)
    };
    until(|| sequence() == 1).await;

    let ca = mesh.authority.instance().await;
    ca.authorities
        .prepare_root(RootSource::New, "test")
        .await
        .unwrap();
    let second = raw.next().await.unwrap();
    // It has the new root, and says nothing: it is paused.
    hand.advance(Duration::from_secs(26 * 60));
    let config = DirectoryConfig {
        addresses: vec![mesh.address().to_string()],
        id: None,
    };
    let reported = Reported::new(&ca, &config).await.unwrap();
    let reported: &dyn Acknowledgements = &reported;
    let refused = ca
        .authorities
        .activate_root(Some(reported), "test")
        .await
        .unwrap_err();
    let refused = Chain(&refused).to_string();
    assert!(
        refused.contains("spiffe://shop.test/ns/shop/sa/web (shop/web-1 at"),
        "{refused}"
    );

    raw.answer(&second, None).await;
    until(|| sequence() == 2).await;
    ca.authorities
        .activate_root(Some(reported), "test")
        .await
        .unwrap();
    let early = ca.authorities.retire_root(None, "test").await.unwrap_err();
    assert!(matches!(early, AuthorityError::NotNow(_)), "{early}");
    ca.close().await.unwrap();
}

// A directory that was started anew knows nobody; the CA knows who has a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_the_directory_has_never_seen_holds_it_up_too() {
    let (clock, hand) = Clock::manual(1_800_000_000);
    let mesh = Mesh::start(&clock, &[("places.yaml", PLACES)]).await;
    let web = mesh.workload("web").await;
    web.credentials().await;
    let ca = mesh.authority.instance().await;
    ca.authorities
        .prepare_root(RootSource::New, "test")
        .await
        .unwrap();
    hand.advance(Duration::from_secs(26 * 60));
    let config = DirectoryConfig {
        addresses: vec![mesh.address().to_string()],
        id: None,
    };
    let reported = Reported::new(&ca, &config).await.unwrap();
    let refused = ca
        .authorities
        .activate_root(Some(&reported), "test")
        .await
        .unwrap_err();
    let refused = Chain(&refused).to_string();
    assert!(
        refused.contains("spiffe://shop.test/ns/shop/sa/web (has a live certificate"),
        "{refused}"
    );
    ca.close().await.unwrap();
}
