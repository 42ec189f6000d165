//! Tells what happens to connections: lines, counters, the table of those that are open.

pub mod account;
pub mod book;
pub mod edges;
pub mod live;
pub mod metrics;
pub mod peers;
mod shown;
pub mod tap;
pub mod udp;
