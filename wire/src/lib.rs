//! What crosses a border between Ferrule's programs: the messages, and nothing that acts on them.

pub mod ca;
pub mod join_token;

pub use join_token::{JoinSecret, JoinToken, JoinTokenError};
