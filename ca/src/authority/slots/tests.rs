//! Tries the turn of roots and signing certificates, by hand and in every order.

use std::collections::{HashMap, HashSet};

use ferrule_identity::Lifetime;
use proptest::prelude::*;

use super::*;

const HINT: Duration = Duration::from_secs(300);
const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_800_000_000 + seconds)
}

fn life(from: i64, to: i64) -> Lifetime {
    Lifetime::new(at(from), at(to)).unwrap()
}

fn id(number: u64) -> Fingerprint {
    Fingerprint::of(&number.to_be_bytes())
}

fn founded() -> Slots {
    let root = Slot::root(id(1), life(0, 3650 * DAY), at(0));
    let slots = Slots::default();
    slots.after(&slots.found(root, at(0)).unwrap())
}

/// A trust domain with an active root 1 and a root 2 that was published at second 0.
fn prepared() -> Slots {
    let slots = founded();
    let root = Slot::root(id(2), life(0, 3650 * DAY), at(0));
    slots.after(&slots.prepare_root(root, at(0)).unwrap())
}

/// Root 2 is active, root 1 retired.
fn rotated() -> Slots {
    let slots = prepared();
    slots.after(&slots.activate_root(HINT, Some(&[]), at(1500)).unwrap())
}

fn with_signer(slots: &Slots, number: u64, root: u64, now: i64) -> Slots {
    let signer = Slot::signing(id(number), life(0, 90 * DAY), id(root), "a", at(now));
    let slots = slots.after(&slots.prepare_signer(signer, at(now)).unwrap());
    slots.after(&slots.activate_signer("a", at(now)).unwrap())
}

#[test]
fn a_new_root_waits_for_five_refresh_hints() {
    let slots = prepared();
    let refusal = slots.activate_root(HINT, Some(&[]), at(1499)).unwrap_err();
    assert_eq!(
        refusal,
        SlotRefusal::TooSoon {
            root: id(2),
            due: at(1500),
            hint: HINT
        }
    );
    assert!(slots.activate_root(HINT, Some(&[]), at(1500)).is_ok());
}

#[test]
fn a_new_root_waits_for_every_live_proxy_and_names_who_lags() {
    let lagging = ["spiffe://shop.local/ns/shop/sa/web on node-3".to_owned()];
    let refusal = prepared()
        .activate_root(HINT, Some(&lagging), at(9000))
        .unwrap_err();
    assert!(refusal.to_string().contains("web on node-3"), "{refusal}");
}

#[test]
fn a_new_root_is_never_activated_blind() {
    let refusal = prepared().activate_root(HINT, None, at(9000)).unwrap_err();
    assert_eq!(refusal, SlotRefusal::NoAcknowledgements);
}

#[test]
fn a_root_that_ran_out_while_it_waited_is_not_activated() {
    let slots = founded();
    let root = Slot::root(id(2), life(0, 1000), at(0));
    let slots = slots.after(&slots.prepare_root(root, at(0)).unwrap());
    let refusal = slots.activate_root(HINT, Some(&[]), at(1500)).unwrap_err();
    assert!(matches!(refusal, SlotRefusal::NotValid { .. }), "{refusal}");
}

#[test]
fn one_root_waits_at_a_time() {
    let root = Slot::root(id(3), life(0, DAY), at(0));
    let refusal = prepared().prepare_root(root, at(1)).unwrap_err();
    assert_eq!(refusal, SlotRefusal::AlreadyPrepared { root: id(2) });
}

#[test]
fn a_root_is_founded_once() {
    let root = Slot::root(id(2), life(0, DAY), at(0));
    let refusal = founded().found(root.clone(), at(0)).unwrap_err();
    assert_eq!(refusal, SlotRefusal::RootExists { root: id(1) });
    let refusal = Slots::default().prepare_root(root, at(0)).unwrap_err();
    assert_eq!(refusal, SlotRefusal::NoActiveRoot);
}

#[test]
fn a_withdrawn_root_leaves_the_bundle_and_does_not_come_back() {
    let slots = prepared();
    let after = slots.after(&slots.withdraw_root(at(10)).unwrap());
    assert_eq!(after.sequence(), slots.sequence() + 1);
    assert_eq!(after.trusted_roots().count(), 1);
    let again = Slot::root(id(2), life(0, DAY), at(0));
    let refusal = after.prepare_root(again, at(20)).unwrap_err();
    assert_eq!(refusal, SlotRefusal::Known { id: id(2) });
    assert_eq!(
        after.withdraw_root(at(20)).unwrap_err(),
        SlotRefusal::NonePrepared
    );
}

#[test]
fn a_root_is_not_removed_under_a_live_certificate() {
    let slots = rotated();
    let refusal = slots.remove_root(id(1), Some(at(5000)), at(5000)).unwrap_err();
    assert_eq!(
        refusal,
        SlotRefusal::LiveLeaves {
            id: id(1),
            until: at(5000)
        }
    );
    assert!(slots.remove_root(id(1), Some(at(5000)), at(5001)).is_ok());
}

#[test]
fn a_root_is_not_removed_while_a_replica_signs_below_it() {
    let slots = with_signer(&founded(), 10, 1, 0);
    let root = Slot::root(id(2), life(0, 3650 * DAY), at(0));
    let slots = slots.after(&slots.prepare_root(root, at(0)).unwrap());
    let slots = slots.after(&slots.activate_root(HINT, Some(&[]), at(1500)).unwrap());
    let refusal = slots.remove_root(id(1), None, at(1600)).unwrap_err();
    assert!(matches!(refusal, SlotRefusal::StillSigns { signer, .. } if signer == id(10)));
    // A replica that never came back stops to count when its certificate ends.
    assert!(slots.remove_root(id(1), None, at(90 * DAY + 1)).is_ok());
    let slots = with_signer(&slots, 11, 2, 1600);
    let slots = slots.after(&slots.remove_root(id(1), None, at(1700)).unwrap());
    assert_eq!(slots.find(id(10)).unwrap().state, Step::Removed);
    assert_eq!(
        slots.trusted_roots().map(|root| root.id).collect::<Vec<_>>(),
        [id(2)]
    );
}

#[test]
fn the_active_root_is_not_removed() {
    let refusal = founded().remove_root(id(1), None, at(1)).unwrap_err();
    assert!(matches!(
        refusal,
        SlotRefusal::WrongState { is: Step::Active, .. }
    ));
    let refusal = founded().remove_root(id(9), None, at(1)).unwrap_err();
    assert!(matches!(refusal, SlotRefusal::Unknown { .. }));
}

#[test]
fn nothing_signs_below_a_root_that_is_only_published() {
    let signer = Slot::signing(id(10), life(0, DAY), id(2), "a", at(1));
    let refusal = prepared().prepare_signer(signer, at(1)).unwrap_err();
    assert_eq!(refusal, SlotRefusal::NotActiveRoot { root: id(2) });
}

#[test]
fn a_signing_certificate_whose_root_moved_on_is_not_activated() {
    let slots = prepared();
    let signer = Slot::signing(id(10), life(0, DAY), id(1), "a", at(1));
    let slots = slots.after(&slots.prepare_signer(signer, at(1)).unwrap());
    let slots = slots.after(&slots.activate_root(HINT, Some(&[]), at(1500)).unwrap());
    let refusal = slots.activate_signer("a", at(1501)).unwrap_err();
    assert_eq!(refusal, SlotRefusal::NotActiveRoot { root: id(1) });
    let slots = slots.after(&slots.remove_signer(id(10), None, at(1501)).unwrap());
    assert!(slots.prepared_signer("a").is_none());
}

#[test]
fn a_signing_certificate_does_not_outlive_its_root() {
    let signer = Slot::signing(id(10), life(0, 3650 * DAY + 1), id(1), "a", at(1));
    let refusal = founded().prepare_signer(signer, at(1)).unwrap_err();
    assert!(matches!(refusal, SlotRefusal::OutlivesRoot { .. }), "{refusal}");
}

#[test]
fn a_signing_certificate_stays_for_its_last_leaf() {
    let slots = with_signer(&founded(), 10, 1, 0);
    let slots = with_signer(&slots, 11, 1, 100);
    let refusal = slots.remove_signer(id(10), Some(at(500)), at(500)).unwrap_err();
    assert!(matches!(refusal, SlotRefusal::LiveLeaves { .. }), "{refusal}");
    assert!(slots.remove_signer(id(10), Some(at(500)), at(501)).is_ok());
    assert!(slots.remove_signer(id(11), None, at(501)).is_err());
}

#[test]
fn a_rotation_is_rolled_back_while_the_old_root_is_trusted() {
    let slots = rotated();
    let back = slots.after(&slots.roll_back_root(at(2000)).unwrap());
    assert_eq!(back.active_root().unwrap().id, id(1));
    assert_eq!(back.sequence(), slots.sequence());
    let slots = back.after(&back.remove_root(id(2), None, at(2001)).unwrap());
    let refusal = slots.roll_back_root(at(2002)).unwrap_err();
    assert_eq!(refusal, SlotRefusal::NoneRetired);
}

#[test]
fn each_replica_has_a_signing_certificate_of_its_own() {
    let slots = with_signer(&founded(), 10, 1, 0);
    let other = Slot::signing(id(20), life(0, DAY), id(1), "b", at(0));
    let slots = slots.after(&slots.prepare_signer(other, at(0)).unwrap());
    let slots = slots.after(&slots.activate_signer("b", at(0)).unwrap());
    assert_eq!(slots.active_signer("a").unwrap().id, id(10));
    assert_eq!(slots.active_signer("b").unwrap().id, id(20));
}

/// What an operator, the rotation loop or the clock may do next.
#[derive(Debug, Clone)]
enum Act {
    Wait(u16),
    PrepareRoot,
    ActivateRoot(Acks),
    WithdrawRoot,
    RollBackRoot,
    RemoveRoot(u8),
    PrepareSigner(bool),
    ActivateSigner(bool),
    RemoveSigner(u8),
    Issue { second_replica: bool, seconds: u16 },
}

#[derive(Debug, Clone, Copy)]
enum Acks {
    Nobody,
    Lagging,
    All,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => any::<u16>().prop_map(Act::Wait),
        1 => Just(Act::PrepareRoot),
        2 => prop_oneof![Just(Acks::Nobody), Just(Acks::Lagging), Just(Acks::All), Just(Acks::All)]
            .prop_map(Act::ActivateRoot),
        1 => Just(Act::WithdrawRoot),
        1 => Just(Act::RollBackRoot),
        2 => any::<u8>().prop_map(Act::RemoveRoot),
        2 => any::<bool>().prop_map(Act::PrepareSigner),
        2 => any::<bool>().prop_map(Act::ActivateSigner),
        1 => any::<u8>().prop_map(Act::RemoveSigner),
        4 => (any::<bool>(), any::<u16>())
            .prop_map(|(second_replica, seconds)| Act::Issue { second_replica, seconds }),
    ]
}

fn replica(second: bool) -> &'static str {
    if second { "b" } else { "a" }
}

/// Everything that an outside observer of a run knows.
#[derive(Default)]
struct Observer {
    now: i64,
    made: u64,
    /// For each root, since when it has been in the bundle without a break.
    published: HashMap<Fingerprint, i64>,
    /// The latest end of a leaf, by the root and by the signing certificate that it chains to.
    last_leaf: HashMap<Fingerprint, Timestamp>,
    founder: Option<Fingerprint>,
}

impl Observer {
    fn next_id(&mut self) -> Fingerprint {
        self.made += 1;
        id(self.made)
    }

    /// The step that `act` asks for; `None` when it is refused or writes nothing.
    fn ask(&mut self, slots: &Slots, act: &Act) -> Option<Change> {
        let now = at(self.now);
        let pick = |number: u8| {
            let all = slots.all();
            all.get(usize::from(number) % all.len().max(1))
                .map(|slot| slot.id)
        };
        match *act {
            Act::Wait(_) | Act::Issue { .. } => None,
            Act::PrepareRoot => {
                let root = Slot::root(self.next_id(), life(self.now, self.now + 400 * DAY), now);
                slots.prepare_root(root, now).ok()
            }
            Act::ActivateRoot(acks) => {
                let lagging = ["web".to_owned()];
                let lagging = match acks {
                    Acks::Nobody => None,
                    Acks::Lagging => Some(lagging.as_slice()),
                    Acks::All => Some([].as_slice()),
                };
                slots.activate_root(HINT, lagging, now).ok()
            }
            Act::WithdrawRoot => slots.withdraw_root(now).ok(),
            Act::RollBackRoot => slots.roll_back_root(now).ok(),
            Act::RemoveRoot(number) => {
                let root = pick(number)?;
                slots
                    .remove_root(root, self.last_leaf.get(&root).copied(), now)
                    .ok()
            }
            Act::PrepareSigner(second) => {
                let root = slots.active_root()?.id;
                let life = life(self.now, self.now + 30 * DAY);
                let signer = Slot::signing(self.next_id(), life, root, replica(second), now);
                slots.prepare_signer(signer, now).ok()
            }
            Act::ActivateSigner(second) => slots.activate_signer(replica(second), now).ok(),
            Act::RemoveSigner(number) => {
                let signer = pick(number)?;
                slots
                    .remove_signer(signer, self.last_leaf.get(&signer).copied(), now)
                    .ok()
            }
        }
    }

    /// Issues a leaf, and checks that every peer can verify it.
    fn issue(&mut self, slots: &Slots, replica: &str, seconds: u16) {
        let Some(signer) = slots.active_signer(replica) else {
            return;
        };
        let end = at(self.now + i64::from(seconds)).min(signer.lifetime.not_after());
        if end < at(self.now) {
            return;
        }
        self.assert_known_to_peers(signer.root);
        for above in [signer.id, signer.root] {
            let last = self.last_leaf.entry(above).or_insert(end);
            *last = end.max(*last);
        }
    }

    /// A root may be above a signature when every peer had five refresh hints to learn of it.
    fn assert_known_to_peers(&self, root: Fingerprint) {
        let since = self.published.get(&root);
        assert!(since.is_some(), "signed below a root outside the bundle");
        let known = since.is_some_and(|since| self.now >= since + 1500);
        assert!(
            known || self.founder == Some(root),
            "signed below a root that is too new"
        );
    }

    fn observe(&mut self, before: &Slots, after: &Slots) {
        let trusted = |slots: &Slots| slots.trusted_roots().map(|root| root.id).collect::<HashSet<_>>();
        let (was, is) = (trusted(before), trusted(after));
        assert_eq!(
            was != is,
            after.sequence() > before.sequence(),
            "sequence and bundle disagree"
        );
        for gone in was.difference(&is) {
            self.published.remove(gone);
            let live = self.last_leaf.get(gone).is_some_and(|end| at(self.now) <= *end);
            assert!(!live, "removed a root under a live leaf");
        }
        for new in is.difference(&was) {
            self.published.insert(*new, self.now);
        }
        for slot in after.all() {
            if let Some(old) = before.find(slot.id) {
                let rolled_back =
                    slot.role == Role::Root && old.state == Step::Retired && slot.state == Step::Active;
                assert!(
                    old.state <= slot.state || rolled_back,
                    "went back from {} to {}",
                    old.state,
                    slot.state
                );
            }
            if slot.role == Role::Signing && before.find(slot.id).is_none() {
                self.assert_known_to_peers(slot.root);
            }
        }
        let active = |role: Role, replica: &str| {
            let is =
                |slot: &&Slot| slot.role == role && slot.state == Step::Active && slot.replica == replica;
            after.all().iter().filter(is).count()
        };
        assert_eq!(active(Role::Root, ""), 1, "not exactly one active root");
        assert!(active(Role::Signing, "a") <= 1 && active(Role::Signing, "b") <= 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// No order of steps signs with a root that is not published, or removes one under a live leaf.
    #[test]
    fn no_order_of_steps_breaks_a_live_certificate(acts in proptest::collection::vec(act(), 1..120)) {
        let mut observer = Observer { made: 1, ..Observer::default() };
        let mut slots = founded();
        observer.founder = Some(id(1));
        observer.published.insert(id(1), 0);
        for act in acts {
            match act {
                Act::Wait(seconds) => observer.now += i64::from(seconds),
                Act::Issue { second_replica, seconds } => {
                    observer.issue(&slots, replica(second_replica), seconds);
                }
                _ => {}
            }
            if let Some(step) = observer.ask(&slots, &act) {
                let after = slots.after(&step);
                observer.observe(&slots, &after);
                slots = after;
            }
        }
    }
}
