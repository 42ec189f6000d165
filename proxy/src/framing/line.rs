//! Holds one TLS connection, over which streams of applications travel, and what is known of it.

use std::net::SocketAddr;
use std::time::Instant;

use ferrule_identity::PeerIdentity;
use tokio::net::TcpStream;

use super::channel::Channel;
use crate::forward::relay::Arrived;
use crate::tls::handshake::{Agreed, Secured};

/// A TLS connection on which a stream is open, or may be.
pub struct Line {
    /// The socket.
    pub tcp: TcpStream,
    /// The TLS connection over it.
    pub channel: Channel,
    /// What came of the stream already.
    pub arrived: Arrived,
    /// Whether the stream is to be taken still: the peer opened it.
    pub is_asked: bool,
    /// What does not change as long as it lasts.
    pub about: About,
}

/// What is known of a TLS connection as long as it lasts.
#[derive(Clone)]
pub struct About {
    /// Who is at the other end.
    pub peer: PeerIdentity,
    /// What both sides agreed on.
    pub agreed: Agreed,
    /// Where the other end is.
    pub far: SocketAddr,
    /// When the handshake was over.
    pub began: Instant,
    /// The state of certificates and trust under which it began, by the number that [`super::turn::Turn`] gave it.
    pub turn: u64,
}

impl Line {
    /// A connection whose handshake is over, with whoever is at `far`, in the turn of that number.
    pub fn new(secured: Secured, far: SocketAddr, turn: u64) -> Box<Self> {
        let about = About {
            peer: secured.peer,
            agreed: secured.agreed,
            far,
            began: Instant::now(),
            turn,
        };
        Box::new(Self {
            tcp: secured.tcp,
            channel: secured.channel,
            arrived: secured.arrived,
            is_asked: false,
            about,
        })
    }
}
