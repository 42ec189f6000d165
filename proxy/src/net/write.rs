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
    at_once(SockRef::from(stream).send(bytes))
}

/// Writes what there is room for at `stream`, as far as the runtime knows. 0 when there is none.
///
/// # Errors
/// When the connection broke.
pub fn write_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    at_once(stream.try_write(bytes))
}

fn at_once(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
