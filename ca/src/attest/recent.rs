//! Remembers what was looked up or written lately, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// The values of the keys that were put in last: more than half of its capacity, and never more than that.
///
/// For values that do not change while their key is in use, since nobody takes one back.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    half: usize,
    /// Once these are `half`, the older ones are forgotten, and these become the older ones.
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Room for `capacity` keys; two at least.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            half: (capacity / 2).max(1),
            newer: HashMap::new(),
            older: HashMap::new(),
        }
    }

    /// The value of `key`, where it is remembered.
    pub(super) fn find(&self, key: &K) -> Option<&V> {
        self.newer.get(key).or_else(|| self.older.get(key))
    }

    /// Remembers that `key` has `value`.
    pub(super) fn keep(&mut self, key: K, value: V) {
        if self.newer.len() >= self.half {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_the_first_ones_forgotten() {
        let mut recent = Recent::new(6);
        for number in 0..100_u32 {
            recent.keep(number, number * 2);
            let kept = (0..=number).filter(|key| recent.find(key).is_some()).count();
            assert!(kept <= 6 && kept > 3.min(usize::try_from(number).unwrap()));
            assert_eq!(recent.find(&number), Some(&(number * 2)));
        }
        assert_eq!(recent.find(&0), None);
    }
}
