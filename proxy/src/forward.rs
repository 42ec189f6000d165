//! Carries bytes between two connections until both directions are over.

pub mod carry;
pub mod pipe;
pub mod relay;
