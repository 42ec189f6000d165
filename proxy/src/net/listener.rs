//! Opens listening sockets: one accept queue for each worker.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

use super::address::ListenAddr;
use super::pace::unpace;

/// Opens a listener of its own at `address`, beside those of the other workers: the kernel spreads new
/// connections over them (`SO_REUSEPORT`, socket(7)), so that workers share no queue.
///
/// An IPv6 listener takes IPv6 alone; listen twice for both families. Must be called inside a tokio runtime. `near`
/// where nobody but this machine connects, as at every loopback address.
///
/// # Errors
/// [`ListenError`] names the address.
pub fn listen(address: ListenAddr, backlog: i32, near: bool) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError { address, source };
    open(address.socket(), backlog, near).map_err(failed)
}

fn open(address: SocketAddr, backlog: i32, near: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if near || address.ip().is_loopback() {
        unpace(&SockRef::from(&socket));
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

/// Nothing listens at the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}")]
pub struct ListenError {
    /// Where.
    pub address: ListenAddr,
    /// What the system says.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_workers_listen_at_the_same_address() {
        let first = listen(ListenAddr::new("127.0.0.1:0".parse().unwrap()), 16, false).unwrap();
        let address = ListenAddr::new(first.local_addr().unwrap());
        let second = listen(address, 16, false).unwrap();
        assert_eq!(second.local_addr().unwrap(), address.socket());
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddr::new(taken.local_addr().unwrap());
        let error = listen(address, 16, false).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen at {address}"));
    }
}
