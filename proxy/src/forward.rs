//! Carries bytes between two connections until both directions are over.

mod appetite;
pub mod carry;
pub mod moment;
pub mod pipe;
pub mod relay;
