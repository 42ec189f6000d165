//! What crosses a border between Ferrule's programs: the messages, and nothing that acts on them.

pub mod ca;
pub mod delta;
pub mod directory;
pub mod join_token;
pub mod proto;
pub mod workload_api;

pub use join_token::{JoinSecret, JoinToken, JoinTokenError};
