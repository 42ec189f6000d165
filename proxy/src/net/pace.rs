//! Lets connections within this machine go as fast as the machine can.

use std::cell::Cell;

use socket2::SockRef;

/// Where the system's congestion control is BBR, makes this socket's Reno: BBR sends by the clock, which costs a
/// quarter of the throughput where there is no wire.
///
/// Before connecting or listening: a clock that BBR has started keeps running. Connections that a listener accepts
/// have its congestion control.
pub fn unpace(socket: &SockRef<'_>) {
    // Asked for until the answer is yes, which is one call less for each connection from then on.
    thread_local!(static PACES: Cell<bool> = const { Cell::new(false) });
    let paces = PACES.get() || socket.tcp_congestion().is_ok_and(|name| name.starts_with(PACED));
    if paces {
        PACES.set(true);
        // Reno is in every kernel; where it is not allowed nothing is lost but speed.
        let _ = socket.set_tcp_congestion(UNPACED);
    }
}

/// What BBR and its later versions are called by the kernel (tcp(7)).
const PACED: &[u8] = b"bbr";
const UNPACED: &[u8] = b"reno";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::net::address::{ListenAddr, UpstreamAddr};
    use crate::net::dial::{Dialing, dial};
    use crate::net::listener::listen;
    use crate::net::socket::KeepAlive;

    fn congestion(socket: &SockRef<'_>) -> String {
        let name = socket.tcp_congestion().unwrap();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8(name.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn connections_within_the_machine_are_not_paced() {
        let system = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let system = congestion(&SockRef::from(&system));
        let wanted = if system.starts_with("bbr") {
            "reno"
        } else {
            &system
        };
        let listener = listen(ListenAddr::new("127.0.0.1:0".parse().unwrap()), 16, false).unwrap();
        let how = Dialing {
            mark: None,
            limit: Duration::from_secs(20),
            keepalive: KeepAlive::default(),
        };
        let target = UpstreamAddr::new(listener.local_addr().unwrap());
        let dialled = dial(target, &how).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for stream in [&dialled, &accepted] {
            assert_eq!(congestion(&SockRef::from(stream)), wanted);
        }
        // What leaves the machine keeps what the system says.
        let wire = listen(ListenAddr::new("0.0.0.0:0".parse().unwrap()), 16, false).unwrap();
        assert_eq!(congestion(&SockRef::from(&wire)), system);
        let workloads = listen(ListenAddr::new("0.0.0.0:0".parse().unwrap()), 16, true).unwrap();
        assert_eq!(congestion(&SockRef::from(&workloads)), wanted);
    }
}
