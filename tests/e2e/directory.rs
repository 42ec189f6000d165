//! A directory with proxies, real and raw, and the CA behind them.

mod mesh;
mod raw;
mod rotation;
mod serving;
mod sidecar;
mod steering;
