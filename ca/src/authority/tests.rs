//! Tries how roots and signing certificates come, take turns and go, in a whole CA that is stopped in between.

use std::sync::Mutex;

use ferrule_identity::{Bundles, Revocations, verify};

use super::slots::SlotRefusal;
use super::*;
use crate::config::Profile;
use crate::instance::{Instance, InstanceError};
use crate::lab::{Lab, WEB};
use crate::ledger::event::Step;

/// What the directory would report.
struct Reported(Mutex<Vec<String>>);

impl Reported {
    fn all() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn lagging(who: &str) -> Self {
        Self(Mutex::new(vec![who.to_owned()]))
    }
}

impl Acknowledgements for Reported {
    fn lagging(&self, _sequence: u64) -> Lagging<'_> {
        let who = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(who) })
    }
}

struct Broken;

impl Acknowledgements for Broken {
    fn lagging(&self, _sequence: u64) -> Lagging<'_> {
        Box::pin(async { Err("the directory does not answer".to_owned()) })
    }
}

fn states(lab: &Lab) -> Vec<(Role, Step)> {
    lab.ca
        .authorities
        .view()
        .all()
        .map(|listed| (listed.slot.role, listed.slot.state))
        .collect()
}

fn refusal(error: AuthorityError) -> SlotRefusal {
    match error {
        AuthorityError::NotNow(refusal) => refusal,
        other => panic!("refused in another way: {other:?}"),
    }
}

/// Five refresh hints of five minutes.
const PUBLISHED: u64 = 1500;

#[tokio::test]
async fn a_new_ca_has_a_root_and_signs() {
    let lab = Lab::new().await;
    assert_eq!(
        states(&lab),
        [(Role::Root, Step::Active), (Role::Signing, Step::Active)]
    );
    assert_eq!(lab.bundle().anchors().len(), 1);
    assert_eq!(lab.ca.ledger.bundle().await.unwrap().sequence, 1);
    let again = lab.ca.authorities.found_new("test").await.unwrap_err();
    assert!(matches!(refusal(again), SlotRefusal::RootExists { .. }));
}

#[tokio::test]
async fn a_restart_finds_the_same_certificates_and_keys() {
    let lab = Lab::new().await;
    let before = lab.ca.authorities.active_signer().unwrap().authority().to_owned();
    let old = lab.issue(WEB).await.unwrap();
    let lab = lab.restarted().await;
    assert_eq!(lab.ca.authorities.active_signer().unwrap().authority(), before);
    let new = lab.issue(WEB).await.unwrap();
    let bundles = Bundles::from_iter([lab.bundle()]);
    for issued in [old, new] {
        verify(&issued.chain, &bundles, &Revocations::empty(), lab.now()).unwrap();
    }
}

/// The whole rotation of a root, the CA being stopped after every step.
#[tokio::test]
async fn a_root_rotates_and_every_certificate_is_valid_all_the_way() {
    let lab = Lab::new().await;
    let by_old = lab.issue(WEB).await.unwrap();
    let old_root = lab.ca.authorities.view().slots().active_root().unwrap().id;
    let new_root = lab
        .ca
        .authorities
        .prepare_root(RootSource::New, "test")
        .await
        .unwrap();

    let lab = lab.restarted().await;
    assert_eq!(lab.ca.ledger.bundle().await.unwrap().sequence, 2);
    assert_eq!(lab.bundle().anchors().len(), 2);
    let still_old = lab.issue(WEB).await.unwrap();
    assert_eq!(still_old.issuer, by_old.issuer);
    lab.advance(PUBLISHED);
    lab.ca
        .authorities
        .activate_root(Some(&Reported::all()), "test")
        .await
        .unwrap();

    let lab = lab.restarted().await;
    let by_new = lab.issue(WEB).await.unwrap();
    assert_ne!(by_new.issuer, by_old.issuer);
    assert_eq!(
        lab.ca.authorities.view().slots().active_root().unwrap().id,
        new_root
    );
    let bundles = Bundles::from_iter([lab.bundle()]);
    for issued in [&by_old, &still_old, &by_new] {
        verify(&issued.chain, &bundles, &Revocations::empty(), lab.now()).unwrap();
    }
    let early = lab.ca.authorities.retire_root(None, "test").await.unwrap_err();
    assert!(matches!(refusal(early), SlotRefusal::LiveLeaves { .. }));
    lab.advance(12 * 3600);
    assert_eq!(
        lab.ca.authorities.retire_root(None, "test").await.unwrap(),
        old_root
    );

    let lab = lab.restarted().await;
    assert_eq!(lab.ca.ledger.bundle().await.unwrap().sequence, 3);
    assert_eq!(lab.bundle().anchors().len(), 1);
    assert_eq!(
        states(&lab),
        [(Role::Root, Step::Active), (Role::Signing, Step::Active)]
    );
    let last = lab.issue(WEB).await.unwrap();
    let bundles = Bundles::from_iter([lab.bundle()]);
    verify(&last.chain, &bundles, &Revocations::empty(), lab.now()).unwrap();
    assert!(
        lab.ca
            .ledger
            .sealed(old_root.to_string())
            .await
            .unwrap()
            .is_none(),
        "the old root's key is gone"
    );
}

#[tokio::test]
async fn a_new_root_waits_for_its_time_and_for_whoever_lags() {
    let lab = Lab::new().await;
    let authorities = &lab.ca.authorities;
    authorities.prepare_root(RootSource::New, "test").await.unwrap();
    let soon = authorities
        .activate_root(Some(&Reported::all()), "test")
        .await
        .unwrap_err();
    assert!(matches!(refusal(soon), SlotRefusal::TooSoon { .. }));
    lab.advance(PUBLISHED);
    let lagging = Reported::lagging("web-1 on node-3");
    let error = authorities
        .activate_root(Some(&lagging), "test")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("web-1 on node-3"), "{error}");
    for blind in [None, Some(&Broken as &dyn Acknowledgements)] {
        let error = authorities.activate_root(blind, "test").await.unwrap_err();
        assert_eq!(refusal(error), SlotRefusal::NoAcknowledgements);
    }
    assert_eq!(lab.bundle().anchors().len(), 2, "refused steps change nothing");
    authorities.withdraw_root("test").await.unwrap();
    assert_eq!(lab.bundle().anchors().len(), 1);
    assert_eq!(lab.ca.ledger.bundle().await.unwrap().sequence, 3);
}

#[tokio::test]
async fn a_root_that_turns_out_wrong_is_rolled_back() {
    let lab = Lab::new().await;
    let authorities = &lab.ca.authorities;
    let old = authorities.view().slots().active_root().unwrap().id;
    let new = authorities.prepare_root(RootSource::New, "test").await.unwrap();
    lab.advance(PUBLISHED);
    authorities
        .activate_root(Some(&Reported::all()), "test")
        .await
        .unwrap();
    let by_new = lab.issue(WEB).await.unwrap();
    authorities.roll_back_root("test").await.unwrap();
    assert_eq!(authorities.view().slots().active_root().unwrap().id, old);
    let by_old = lab.issue(WEB).await.unwrap();
    let bundles = Bundles::from_iter([lab.bundle()]);
    for issued in [&by_new, &by_old] {
        verify(&issued.chain, &bundles, &Revocations::empty(), lab.now()).unwrap();
    }
    lab.advance(12 * 3600 + 1);
    assert_eq!(
        authorities
            .retire_root(Some(&new.to_string()[..8]), "test")
            .await
            .unwrap(),
        new
    );
}

/// Another process, such as a command on this machine, takes the step.
#[tokio::test]
async fn a_step_of_another_process_is_seen_and_not_taken_twice() {
    let lab = Lab::new().await;
    let other = Instance::open(lab.ca.config.clone(), lab.clock.clone(), false)
        .await
        .unwrap();
    other
        .authorities
        .prepare_root(RootSource::New, "command")
        .await
        .unwrap();
    let error = lab
        .ca
        .authorities
        .prepare_root(RootSource::New, "test")
        .await
        .unwrap_err();
    assert!(matches!(refusal(error), SlotRefusal::AlreadyPrepared { .. }));
    assert_eq!(lab.bundle().anchors().len(), 2);
}

#[tokio::test]
async fn signing_certificates_rotate_by_themselves() {
    let lab = Lab::new().await;
    let authorities = &lab.ca.authorities;
    let first = lab.issue(WEB).await.unwrap();
    assert_eq!(
        authorities.tend().await.unwrap(),
        lab.now().plus(Duration::from_secs(60))
    );
    lab.advance(45 * 86_400);
    authorities.tend().await.unwrap();
    let second = lab.issue(WEB).await.unwrap();
    assert_ne!(second.issuer, first.issuer);
    assert_eq!(
        states(&lab),
        [
            (Role::Root, Step::Active),
            (Role::Signing, Step::Retired),
            (Role::Signing, Step::Active)
        ]
    );
    // Its last leaf is long over; it goes once nothing can be on its way.
    lab.advance(300);
    authorities.tend().await.unwrap();
    assert_eq!(
        states(&lab),
        [(Role::Root, Step::Active), (Role::Signing, Step::Active)]
    );
    let gone = first.issuer.parse().unwrap();
    assert!(!authorities.keys().has(gone), "its key is deleted");
}

/// The signing key is lost: a disk that was not in the backup.
#[tokio::test]
async fn a_lost_signing_key_is_replaced_below_the_same_root() {
    let lab = Lab::new().await;
    let lost = lab.ca.authorities.active_signer().unwrap().authority().to_owned();
    let root = lab.bundle().fingerprint();
    lab.ca.authorities.keys().forget(lost.parse().unwrap()).unwrap();
    let lab = lab.restarted().await;
    assert_eq!(lab.issue(WEB).await.unwrap_err().word(), "no_signer");
    lab.ca.authorities.tend().await.unwrap();
    let issued = lab.issue(WEB).await.unwrap();
    assert_ne!(issued.issuer, lost);
    assert_eq!(lab.bundle().fingerprint(), root);
}

#[tokio::test]
async fn the_production_profile_takes_no_root_that_is_online() {
    let passphrase = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(passphrase.path(), "correct horse").unwrap();
    let production = |config: &mut crate::config::Config| {
        config.profile = Profile::Production;
        config.passphrase_file = Some(passphrase.path().to_owned());
    };
    let lab = Lab::rootless(production).await;
    let error = lab.ca.authorities.found_new("test").await.unwrap_err();
    assert!(matches!(error, AuthorityError::OnlineRoot { .. }));
    assert!(error.to_string().contains("--csr-only"), "{error}");

    let beside = Lab::try_rootless(|config| config.profile = Profile::Production)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(
            &beside,
            InstanceError::Authorities {
                source: AuthorityError::SecretBesideData { .. }
            }
        ),
        "{beside:?}"
    );

    let mut lab = Lab::configured(|config| config.passphrase_file = Some(passphrase.path().to_owned())).await;
    lab.ca.config.profile = Profile::Production;
    let config = lab.ca.config.clone();
    let refused = Instance::open(config, lab.clock.clone(), false)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, InstanceError::Authorities { source: AuthorityError::OnlineRoot { root } } if !root.is_empty()),
        "{refused:?}"
    );
}
