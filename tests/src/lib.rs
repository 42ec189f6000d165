//! Tools that several of the system's tests share.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod kubernetes;
pub mod netns;
pub mod pki;
pub mod programs;
pub mod wait;
