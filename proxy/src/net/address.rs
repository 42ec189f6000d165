//! Gives each socket address its role, so that two of them cannot be mixed up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Makes a newtype over [`SocketAddr`] whose IPv4-mapped form never differs from plain IPv4.
macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SocketAddr);

        impl $name {
            /// Takes the address in this role; an IPv4-mapped IPv6 address becomes the IPv4 address it means.
            pub fn new(address: SocketAddr) -> Self {
                Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
            }

            /// The address without its role.
            pub const fn socket(self) -> SocketAddr {
                self.0
            }

            /// The IP address.
            pub const fn ip(self) -> IpAddr {
                self.0.ip()
            }

            /// The port.
            pub const fn port(self) -> u16 {
                self.0.port()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

address! {
    /// Where a connection comes from, as the kernel tells it. It grants nothing by itself.
    ClientAddr
}

address! {
    /// Where a connection was going before it was redirected to the proxy.
    OriginalDst
}

address! {
    /// Where the proxy listens.
    ListenAddr
}

address! {
    /// Where the proxy dials: the application, or another workload's proxy.
    UpstreamAddr
}

impl OriginalDst {
    /// The same place as something to dial: applications are dialled where the client meant to go, never at
    /// loopback, so that a remote caller gains no loopback trust.
    pub const fn upstream(self) -> UpstreamAddr {
        UpstreamAddr(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_address_it_means() {
        let mapped = ClientAddr::new("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(mapped, ClientAddr::new("10.0.0.1:80".parse().unwrap()));
        assert_eq!(mapped.to_string(), "10.0.0.1:80");
    }
}
