//! Claims about the proof of a whole ledger.
