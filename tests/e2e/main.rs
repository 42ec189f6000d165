//! The parts together, in one process, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authority;
mod directory;
mod kept;
mod sidecars;
