//! Keeps what connections need fresh, on a thread of its own: credentials, rules, the proof of the redirect.

pub mod credentials;
pub mod debug;
pub mod probe;
pub mod redirect;
