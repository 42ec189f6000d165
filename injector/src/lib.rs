//! Puts the sidecar into pods of Kubernetes, and refuses what cannot have one.
//!
//! A pod goes through [`decide`](mod@decide), which says whether it gets a sidecar, then [`patch`](mod@patch), which
//! says what changes; both are plain functions. [`validate`] judges rule documents as `ferrule-policy` does.

pub mod decide;
mod draft;
pub mod names;
pub mod options;
pub mod patch;
pub mod plan;
pub mod pod;
pub mod probes;
mod quantity;
pub mod review;
pub mod sidecar;
pub mod validate;

pub use quantity::{Quantity, QuantityError};
