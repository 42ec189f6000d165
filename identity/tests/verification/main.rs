//! Shows hostile certificates, chains, bundles and lists to the verifier, alone and in handshakes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, and a panic names the line that went wrong"
)]

mod bundles;
mod chains;
mod handshakes;
mod leaves;
mod own;
mod pki;
mod properties;
mod revocations;
mod serving;
mod shake;
mod verified;
