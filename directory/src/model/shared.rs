//! A sorted map whose copies share what they have in common: a change copies only the entries near it.

use std::borrow::Borrow;
use std::slice;
use std::sync::Arc;

/// A sorted map. Copying it costs a reference for about every hundred entries; changing an entry of a copy costs a copy
/// of that hundred. A picture of the mesh is copied at each change while many still look at the one before.
#[derive(Debug)]
pub struct SharedMap<K, V> {
    /// Each with an entry at least and [`MOST`] at most; every key of one is smaller than those of the next.
    runs: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        Some(self.get_key_value(key)?.1)
    }

    /// The entry of `key`.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (run, place) = self.find(key);
        let (key, value) = self.runs.get(run)?.get(place.ok()?)?;
        Some((key, value))
    }

    /// Whether `key` has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).is_some()
    }

    /// The value of `key`, to be changed for this copy alone.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (run, place) = self.find(key);
        let place = place.ok()?;
        Some(&mut Arc::make_mut(self.runs.get_mut(run)?).get_mut(place)?.1)
    }

    /// Sets the value of `key`, and returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            (run, Ok(place)) => {
                let run = Arc::make_mut(&mut self.runs[run]);
                Some(std::mem::replace(&mut run[place].1, value))
            }
            (run, Err(place)) => {
                self.put(run, place, key, value);
                None
            }
        }
    }

    /// The value of `key`, which gets the default one where it has none, to be changed for this copy alone.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let (run, place) = match self.find(&key) {
            (run, Ok(place)) => (run, place),
            (run, Err(place)) => self.put(run, place, key, V::default()),
        };
        &mut Arc::make_mut(&mut self.runs[run])[place].1
    }

    /// Removes `key`, and returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (at, place) = self.find(key);
        let place = place.ok()?;
        let run = Arc::make_mut(self.runs.get_mut(at)?);
        let (_, value) = run.remove(place);
        if run.is_empty() {
            self.runs.remove(at);
        }
        self.len -= 1;
        Some(value)
    }

    /// The entries, smallest key first.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter {
            run: [].iter(),
            rest: self.runs.iter(),
        }
    }

    /// The entries from `first` on, which need not be there.
    pub fn from(&self, first: &K) -> Iter<'_, K, V> {
        let (run, place) = self.find(first);
        let (Ok(place) | Err(place)) = place;
        let mut rest = self.runs[run.min(self.runs.len())..].iter();
        let run = rest.next().and_then(|run| run.get(place..)).unwrap_or_default();
        Iter {
            run: run.iter(),
            rest,
        }
    }

    /// The keys, smallest first.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, by their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The run in which `key` is or belongs, and its place there.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let begins_before =
            |run: &Arc<Vec<(K, V)>>| run.first().is_some_and(|(first, _)| first.borrow() <= key);
        let run = self.runs.partition_point(begins_before).saturating_sub(1);
        let place = self.runs.get(run).map_or(Err(0), |run| {
            run.binary_search_by(|(held, _)| held.borrow().cmp(key))
        });
        (run, place)
    }

    /// Puts an entry where [`Self::find`] says that it belongs; says where it is then.
    fn put(&mut self, run: usize, place: usize, key: K, value: V) -> (usize, usize) {
        self.len += 1;
        let Some(entries) = self.runs.get_mut(run) else {
            self.runs.push(Arc::new(vec![(key, value)]));
            return (run, 0);
        };
        let entries = Arc::make_mut(entries);
        entries.insert(place, (key, value));
        if entries.len() <= MOST {
            return (run, place);
        }
        let half = entries.len() / 2;
        let upper = entries.split_off(half);
        self.runs.insert(run + 1, Arc::new(upper));
        if place < half {
            (run, place)
        } else {
            (run + 1, place - half)
        }
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            runs: self.runs.clone(),
            len: self.len,
        }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            len: 0,
        }
    }
}

impl<'m, K: Ord + Clone, V: Clone> IntoIterator for &'m SharedMap<K, V> {
    type Item = (&'m K, &'m V);
    type IntoIter = Iter<'m, K, V>;

    fn into_iter(self) -> Iter<'m, K, V> {
        self.iter()
    }
}

/// Entries of a [`SharedMap`], smallest key first.
#[derive(Debug)]
pub struct Iter<'m, K, V> {
    run: slice::Iter<'m, (K, V)>,
    rest: slice::Iter<'m, Arc<Vec<(K, V)>>>,
}

impl<'m, K, V> Iterator for Iter<'m, K, V> {
    type Item = (&'m K, &'m V);

    fn next(&mut self) -> Option<(&'m K, &'m V)> {
        loop {
            if let Some((key, value)) = self.run.next() {
                return Some((key, value));
            }
            self.run = self.rest.next()?.iter();
        }
    }
}

/// Entries that are copied together, at most.
const MOST: usize = 128;

#[cfg(test)]
mod tests;
