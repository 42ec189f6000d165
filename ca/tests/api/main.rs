//! Tests of the CA as its clients see it: a real one in this process, over real HTTPS.

mod abuse;
mod administration;
mod contract;
mod enrolment;
mod harness;
mod kube;
mod load;
mod program;
mod requests;
mod secrets;
mod tokens;
mod trust;
