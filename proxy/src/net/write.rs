//! Writes what can be written at once.

use std::io;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Writes what there is room for at `stream`, which may just have been opened: the runtime, which may not have heard yet that it takes
/// bytes, is not asked. 0 when there is no room.
///
/// # Errors
/// When the connection broke.
pub fn write_first(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match SockRef::from(stream).send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}
