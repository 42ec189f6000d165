//! Tells proxies who lives where and which rules apply.
//!
//! Reading order: [`source`] (where it is known from), [`model`] (the joined picture), [`scope`] (what one proxy may
//! need of it), [`picture`] (the newest state of everything), [`serve`] (delta xDS), [`acks`] (who holds what), [`app`]
//! (how it all runs).

pub mod acks;
pub mod announced;
pub mod app;
pub mod commands;
pub mod config;
pub mod control;
pub mod gauges;
pub mod model;
mod own;
pub mod picture;
#[cfg(test)]
mod sample;
pub mod scope;
pub mod serve;
pub mod source;
