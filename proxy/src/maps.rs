//! Maps that every connection asks.
//!
//! The standard library's hash withstands a peer who chooses keys at will, and takes a tenth of what the program itself
//! spends on a short connection. These hash fast, with a seed that nobody outside knows. Use them where the keys
//! are ours, or where their number is bounded.

use std::collections::{HashMap, HashSet};

use foldhash::quality::RandomState;

/// A map with a fast hash.
pub type QuickMap<K, V> = HashMap<K, V, RandomState>;

/// A set with a fast hash.
pub type QuickSet<T> = HashSet<T, RandomState>;
