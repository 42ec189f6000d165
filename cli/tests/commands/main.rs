//! Types the commands as a user would, and reads what they print.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod cluster;
mod example;
mod ferrule;
mod install;
mod mesh;
mod meshed;
mod network;
mod policy;
mod rules;
mod run;
mod units;
mod watching;
