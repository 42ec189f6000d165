//! Puts the sidecar into pods of Kubernetes, and refuses what cannot have one.
//!
//! A pod goes through [`decide`](mod@decide), which says whether it gets a sidecar, then [`patch`](mod@patch), which
//! says what changes; both are plain functions. [`validate`] judges rule documents as `ferrule-policy` does.

pub mod app;
pub mod cluster;
pub mod cni;
pub mod commands;
pub mod config;
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
pub mod serving;
pub mod sidecar;
pub mod validate;
pub mod webhook;

pub use quantity::{Quantity, QuantityError};
