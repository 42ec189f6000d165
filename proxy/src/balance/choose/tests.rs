//! Draws endpoints by the thousand.

use proptest::prelude::*;

use super::*;

const IDLE: Candidate = Candidate {
    open: 0,
    last: 0,
    distance: Distance::Away,
    warmth: FULL,
    ejected: None,
};

/// Numbers that look drawn, and are the same each time.
fn draws(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        // Numerical Recipes' generator; its high bits are good enough here.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below.max(1)
    }
}

/// How often each is the first of `count` choices; connections stay open when they are `held`.
fn spread(candidates: &mut [Candidate], count: u64, held: bool) -> Vec<u64> {
    let mut chosen = vec![0; candidates.len()];
    let mut draw = draws(7);
    for turn in 1..=count {
        let first = order(candidates, 1, &mut draw)[0];
        candidates[first].last = turn;
        candidates[first].open += u32::from(held);
        chosen[first] += 1;
    }
    chosen
}

#[test]
fn a_thousand_connections_are_spread_evenly_over_three() {
    for held in [true, false] {
        let chosen = spread(&mut [IDLE; 3], 1000, held);
        assert!(
            chosen.iter().all(|count| (300..=367).contains(count)),
            "{chosen:?}"
        );
    }
    let chosen = spread(&mut [IDLE; 40], 4000, false);
    assert!(
        chosen.iter().all(|count| (80..=120).contains(count)),
        "{chosen:?}"
    );
}

#[test]
fn the_one_with_less_to_do_is_chosen() {
    let mut candidates = [IDLE; 2];
    candidates[0].open = 50;
    let chosen = spread(&mut candidates, 50, true);
    assert_eq!(chosen, [0, 50]);
}

#[test]
fn one_that_warms_up_gets_its_share_alone() {
    let mut candidates = [IDLE; 2];
    candidates[0].warmth = 10;
    let chosen = spread(&mut candidates, 1000, false);
    assert!((50..=150).contains(&chosen[0]), "{chosen:?}");
    let mut all_new = [Candidate { warmth: 10, ..IDLE }; 2];
    let chosen = spread(&mut all_new, 1000, false);
    assert!(
        chosen.iter().all(|count| (450..=550).contains(count)),
        "{chosen:?}"
    );
}

#[test]
fn the_near_go_first_and_the_far_are_there_when_they_are_gone() {
    let mut candidates = [IDLE; 3];
    candidates[1].distance = Distance::Node;
    candidates[2].distance = Distance::Zone;
    assert_eq!(order(&candidates, 8, draws(1)), [1, 2, 0]);
    candidates[1].ejected = Some(5);
    assert_eq!(order(&candidates, 8, draws(1)), [2, 0, 1]);
    candidates[1].open = 1000;
    candidates[1].ejected = None;
    assert_eq!(order(&candidates, 8, draws(1))[0], 1);
}

#[test]
fn an_only_endpoint_is_never_ejected() {
    let candidates = [Candidate {
        ejected: Some(3),
        ..IDLE
    }];
    assert_eq!(order(&candidates, 8, draws(1)), [0]);
    assert_eq!(ejected(&candidates), [0; 0]);
    assert_eq!(order(&[], 8, draws(1)), [0; 0]);
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let distance = prop_oneof![Just(Distance::Node), Just(Distance::Zone), Just(Distance::Away)];
    (
        0..4_u32,
        0..9_u64,
        distance,
        0..=FULL,
        proptest::option::of(0..9_u64),
    )
        .prop_map(|(open, last, distance, warmth, ejected)| Candidate {
            open,
            last,
            distance,
            warmth,
            ejected,
        })
}

proptest! {
    // Whatever is known, each is tried once, never more than half count as ejected, and those come last.
    #[test]
    fn every_endpoint_has_one_place(
        candidates in proptest::collection::vec(candidate(), 0..12),
        seed: u64,
    ) {
        let order = order(&candidates, usize::MAX, draws(seed));
        let mut places = order.clone();
        places.sort_unstable();
        prop_assert!(places.iter().copied().eq(0..candidates.len()));
        let out = ejected(&candidates);
        prop_assert!(out.len() <= candidates.len() / 2);
        prop_assert!(out.iter().all(|place| candidates[*place].ejected.is_some()));
        let in_use = candidates.len() - out.len();
        prop_assert_eq!(&order[in_use..], &out[..]);
        let distances: Vec<Distance> = order[..in_use].iter().map(|place| candidates[*place].distance).collect();
        prop_assert!(distances.is_sorted());
    }
}
