//! The map that judging asks.
//!
//! Its keys are the rules' and selectors' own, so nobody who is judged can choose them to collide: it need not withstand
//! what the standard library's does, and hashes in a fraction of the time.

use std::collections::HashMap;

/// A map with a fast hash, whose seed nobody outside knows.
pub(crate) type QuickMap<K, V> = HashMap<K, V, foldhash::quality::RandomState>;
