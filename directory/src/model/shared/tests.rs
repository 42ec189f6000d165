//! A map that shares is held to an ordinary one, step by step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
    Change(u16, u8),
    Default(u16),
    /// The map is copied, and the copy is kept beside it.
    Copy,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..600_u16;
    let step = prop_oneof![
        6 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => key().prop_map(Step::Remove),
        2 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Change(key, value)),
        1 => key().prop_map(Step::Default),
        1 => Just(Step::Copy),
    ];
    prop::collection::vec(step, 0..1500)
}

/// Whether both have the same entries, however they are looked up.
fn same(map: &SharedMap<u16, u8>, plain: &BTreeMap<u16, u8>) {
    assert_eq!((map.len(), map.is_empty()), (plain.len(), plain.is_empty()));
    assert!(map.iter().eq(plain.iter()));
    assert!(map.keys().eq(plain.keys()) && map.values().eq(plain.values()));
    for key in 0..600 {
        assert_eq!(map.get(&key), plain.get(&key));
        assert_eq!(map.contains_key(&key), plain.contains_key(&key));
    }
    for first in [0, 1, 299, 300, 598, 599, 600] {
        assert!(map.from(&first).eq(plain.range(first..)), "from {first}");
    }
    assert!(map.runs.iter().all(|run| (1..=MOST).contains(&run.len())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_a_sorted_map_and_no_change_reaches_a_copy(steps in steps()) {
        let (mut map, mut plain) = (SharedMap::default(), BTreeMap::new());
        let mut copies = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => prop_assert_eq!(map.insert(key, value), plain.insert(key, value)),
                Step::Remove(key) => prop_assert_eq!(map.remove(&key), plain.remove(&key)),
                Step::Change(key, value) => {
                    let (held, wanted) = (map.get_mut(&key), plain.get_mut(&key));
                    prop_assert_eq!(&held, &wanted);
                    if let (Some(held), Some(wanted)) = (held, wanted) {
                        (*held, *wanted) = (value, value);
                    }
                }
                Step::Default(key) => prop_assert_eq!(&*map.or_default(key), &*plain.entry(key).or_default()),
                Step::Copy => copies.push((map.clone(), plain.clone())),
            }
        }
        same(&map, &plain);
        for (map, plain) in &copies {
            same(map, plain);
        }
    }
}

#[test]
fn a_change_copies_only_what_is_near_it() {
    let mut map = SharedMap::default();
    for key in 0..10_000_u32 {
        map.insert(key, key);
    }
    let before = map.clone();
    map.insert(5_000, 1);
    map.remove(&7_777);
    *map.or_default(20_000) = 2;
    let shared = before
        .runs
        .iter()
        .filter(|run| map.runs.iter().any(|other| Arc::ptr_eq(run, other)));
    let copied = before.runs.len() - shared.count();
    assert_eq!(copied, 3, "of {}", before.runs.len());
    assert_eq!(
        (before.get(&5_000), before.get(&7_777), before.get(&20_000)),
        (Some(&5_000), Some(&7_777), None)
    );
}
