//! Decides whether a connection may be, when it begins and as long as it lasts.

pub mod gate;
pub mod permit;
pub mod standing;
