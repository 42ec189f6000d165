//! Finds where a redirected connection was going.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::address::OriginalDst;

/// The destination that `stream`, accepted by one of our listeners, had before it was redirected.
///
/// The kernel's connection tracking knows it (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`). There is no stand-in:
/// the address that the connection was accepted at is ours, not the client's intention.
///
/// # Errors
/// [`OriginalError::Unknown`] when the kernel has no record, [`OriginalError::Direct`] when the connection was
/// made to the listener itself and never redirected.
pub fn original_dst(stream: &TcpStream) -> Result<OriginalDst, OriginalError> {
    let local = stream
        .local_addr()
        .map_err(|source| OriginalError::Unknown { source })?;
    let socket = SockRef::from(stream);
    let original = match local.ip().to_canonical() {
        // An IPv6 listener takes IPv4, too; the kernel keeps such a connection's record under IPv4.
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    }
    .map_err(|source| OriginalError::Unknown { source })?;
    let original = original.as_socket().ok_or_else(|| OriginalError::Unknown {
        source: io::Error::from(io::ErrorKind::AddrNotAvailable),
    })?;
    redirected(OriginalDst::new(original), local)
}

/// Refuses a destination that is the listener's own address: with connection tracking on, the kernel answers
/// with it for a connection that nothing redirected.
fn redirected(original: OriginalDst, local: SocketAddr) -> Result<OriginalDst, OriginalError> {
    if original == OriginalDst::new(local) {
        return Err(OriginalError::Direct { address: original });
    }
    Ok(original)
}

/// Why a connection's destination is not known.
#[derive(Debug, thiserror::Error)]
pub enum OriginalError {
    /// The kernel does not know the connection.
    #[error("the kernel has no original destination for the connection; is the redirect in place?")]
    Unknown {
        /// What the system says.
        source: io::Error,
    },
    /// Somebody dialled the proxy's own port.
    #[error("the connection was made to the proxy's own address {address}")]
    Direct {
        /// That address.
        address: OriginalDst,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_nothing_redirected_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(original_dst(&accepted).is_err());
        drop(client);
    }

    #[test]
    fn the_listeners_own_address_is_no_destination() {
        let local: SocketAddr = "[::ffff:10.0.0.1]:15006".parse().unwrap();
        let same = OriginalDst::new("10.0.0.1:15006".parse().unwrap());
        assert!(matches!(
            redirected(same, local),
            Err(OriginalError::Direct { .. })
        ));
        let other = OriginalDst::new("10.0.0.1:8080".parse().unwrap());
        assert_eq!(redirected(other, local).unwrap(), other);
    }
}
