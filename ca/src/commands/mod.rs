//! The commands of `ferrule-ca`.
