//! Tests of the CA as its clients see it: a real one in this process, over real HTTPS.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod abuse;
mod administration;
mod cluster;
mod contract;
mod enrolment;
mod harness;
mod killed;
mod kube;
mod load;
mod program;
mod requests;
mod secrets;
mod tokens;
mod trust;
