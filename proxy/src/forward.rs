//! Carries bytes between two connections until both directions are over.

pub mod relay;
