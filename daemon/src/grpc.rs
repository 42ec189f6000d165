//! Speaks gRPC over HTTP/2: calls in which both ends send messages, bytes in and bytes out.
//!
//! As small as what Ferrule uses of it: no compression, no deadlines from the other end, no retries. What the messages
//! mean is for others to know. TLS comes from outside, like that of [`https`](crate::https).

pub mod authority;
pub mod client;
pub mod frame;
pub mod server;
pub mod status;

pub use frame::FrameError;
pub use status::{Code, Status};

use std::time::Duration;

/// What one end of a connection allows the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message that is read, in bytes.
    pub message_bytes: usize,
    /// Calls at once on one connection.
    pub calls: u32,
    /// The headers of a call, in bytes.
    pub header_bytes: u32,
    /// After so much silence the other end is asked whether it is there.
    pub ping_after: Duration,
    /// How long it may take to answer that; then the connection ends.
    pub ping_time: Duration,
    /// How long the other end may take none of the messages that wait for it; then the call ends.
    pub write_stall_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 4 * 1024 * 1024,
            calls: 8,
            header_bytes: 16 * 1024,
            ping_after: Duration::from_secs(20),
            ping_time: Duration::from_secs(10),
            write_stall_time: Duration::from_secs(30),
        }
    }
}

/// The name of the protocol in the TLS handshake.
pub const ALPN: &[u8] = b"h2";

const CONTENT_TYPE: &str = "application/grpc";

#[cfg(test)]
mod tests;
