//! Tries when a signing certificate is replaced, and when one goes.

use ferrule_identity::Lifetime;

use super::*;

const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_800_000_000 + seconds)
}

fn life(from: i64, to: i64) -> Lifetime {
    Lifetime::new(at(from), at(to)).unwrap()
}

fn id(number: u8) -> Fingerprint {
    Fingerprint::of(&[number])
}

/// Root 1 is active since the beginning.
fn founded() -> Slots {
    let slots = Slots::default();
    slots.after(
        &slots
            .found(Slot::root(id(1), life(0, 3650 * DAY), at(0)), at(0))
            .unwrap(),
    )
}

fn with_signer(slots: &Slots, number: u8, from: i64, to: i64) -> Slots {
    let root = slots.active_root().unwrap().id;
    let slot = Slot::signing(id(number), life(from, to), root, "a", at(from));
    let slots = slots.after(&slots.prepare_signer(slot, at(from)).unwrap());
    slots.after(&slots.activate_signer("a", at(from)).unwrap())
}

fn facts(uses: &[IssuerUse]) -> Facts<'_> {
    Facts {
        replica: "a",
        usable: true,
        uses,
        rotate_at_percent: 50,
        longest_leaf: Duration::from_secs(7 * 86_400),
    }
}

fn live(number: u8, until: i64) -> IssuerUse {
    IssuerUse {
        authority: id(number).to_string(),
        live: 1,
        latest_not_after: at(until),
    }
}

fn is_replace(due: &Due) -> bool {
    matches!(due, Due::Replace { .. })
}

#[test]
fn a_signing_certificate_is_replaced_at_half_of_its_life() {
    let slots = with_signer(&founded(), 10, 0, 90 * DAY);
    let half = at(45 * DAY);
    assert_eq!(
        due(&slots, &facts(&[]), half.minus(Duration::from_secs(1))),
        Due::Nothing { until: half }
    );
    assert!(is_replace(&due(&slots, &facts(&[]), half)));
}

#[test]
fn it_is_replaced_before_it_would_shorten_a_leaf() {
    let slots = with_signer(&founded(), 10, 0, 10 * DAY);
    let facts = Facts {
        rotate_at_percent: 90,
        ..facts(&[])
    };
    assert!(!is_replace(&due(&slots, &facts, at(3 * DAY - 1))));
    assert!(is_replace(&due(&slots, &facts, at(3 * DAY))));
}

#[test]
fn one_shorter_than_the_longest_leaf_is_replaced_by_its_share() {
    let slots = with_signer(&founded(), 10, 0, 4 * 3600);
    assert!(!is_replace(&due(&slots, &facts(&[]), at(2 * 3600 - 60))));
    assert!(is_replace(&due(&slots, &facts(&[]), at(2 * 3600))));
}

#[test]
fn one_that_ends_with_its_root_is_used_up() {
    let slots = Slots::default();
    let slots = slots.after(
        &slots
            .found(Slot::root(id(1), life(0, 90 * DAY), at(0)), at(0))
            .unwrap(),
    );
    let slots = with_signer(&slots, 10, 0, 90 * DAY);
    assert!(
        !is_replace(&due(&slots, &facts(&[]), at(89 * DAY))),
        "another would end as soon"
    );
}

#[test]
fn an_unusable_one_is_replaced_at_once() {
    let slots = with_signer(&founded(), 10, 0, 90 * DAY);
    let facts = Facts {
        usable: false,
        ..facts(&[])
    };
    assert!(is_replace(&due(&slots, &facts, at(1))));
    assert!(is_replace(&due(&founded(), &facts, at(1))), "none at all");
    assert!(
        !is_replace(&due(&Slots::default(), &facts, at(1))),
        "nobody to sign it"
    );
}

#[test]
fn one_below_a_root_that_is_not_active_any_more_is_replaced() {
    let slots = with_signer(&founded(), 10, 0, 90 * DAY);
    let root = Slot::root(id(2), life(0, 3650 * DAY), at(0));
    let slots = slots.after(&slots.prepare_root(root, at(0)).unwrap());
    assert!(!is_replace(&due(&slots, &facts(&[]), at(1500))));
    let hint = Duration::from_secs(300);
    let slots = slots.after(&slots.activate_root(hint, Some(&[]), at(1500)).unwrap());
    assert!(is_replace(&due(&slots, &facts(&[]), at(1500))));
}

#[test]
fn a_retired_one_goes_when_nothing_live_is_left_of_it() {
    let slots = with_signer(&founded(), 10, 0, 90 * DAY);
    let slots = with_signer(&slots, 11, 1000, 90 * DAY);
    assert!(
        matches!(due(&slots, &facts(&[]), at(1100)), Due::Nothing { .. }),
        "what it signed may be on its way"
    );
    assert_eq!(due(&slots, &facts(&[]), at(1200)), Due::Remove { id: id(10) });
    let uses = [live(10, 5000)];
    assert!(matches!(
        due(&slots, &facts(&uses), at(5000)),
        Due::Nothing { .. }
    ));
    assert_eq!(due(&slots, &facts(&uses), at(5001)), Due::Remove { id: id(10) });
}
