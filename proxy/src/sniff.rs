//! Tells from a client's first bytes what it speaks.

pub mod hello;
pub mod name;

use std::io;

use rustls::server::Acceptor;

use crate::framing::is_ours;

/// What a client speaks, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// Too little has come.
    Unclear,
    /// TLS for the mesh: its hello names our protocol.
    Mesh,
    /// TLS of the application's own.
    OtherTls,
    /// No TLS.
    Clear,
}

/// The first byte of every TLS connection: a record of a handshake (RFC 8446 §5.1).
pub const HANDSHAKE_RECORD: u8 = 22;

/// Looks at first bytes as they come.
#[derive(Default)]
pub struct Sniffer {
    acceptor: Acceptor,
    any: bool,
}

impl Sniffer {
    /// Takes the bytes that came last; says what is known with them.
    pub fn take(&mut self, bytes: &[u8]) -> Speech {
        if !self.any {
            match bytes.first() {
                None => return Speech::Unclear,
                Some(&HANDSHAKE_RECORD) => self.any = true,
                Some(_) => return Speech::Clear,
            }
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // rustls takes a record at a time; an error is one of its own bounds.
            match self.acceptor.read_tls(&mut rest as &mut dyn io::Read) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let ours = hello.alpn().is_some_and(|mut names| names.any(is_ours));
                    return if ours { Speech::Mesh } else { Speech::OtherTls };
                }
                Err(_) => return Speech::Clear,
            }
        }
        Speech::Unclear
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::ClientConnection;

    use super::*;
    use crate::framing::raw::NAME as RAW;
    use crate::tls::session::tests::settings;

    fn hello(alpn: &[&[u8]]) -> Vec<u8> {
        let mut config = (*settings().0).clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut client = ClientConnection::new(Arc::new(config), "db.test".try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_mesh_is_told_from_other_tls_by_its_protocol() {
        assert_eq!(Sniffer::default().take(&hello(&[b"h2", RAW])), Speech::Mesh);
        assert_eq!(Sniffer::default().take(&hello(&[b"h2"])), Speech::OtherTls);
        assert_eq!(Sniffer::default().take(&hello(&[])), Speech::OtherTls);
        assert_eq!(Sniffer::default().take(b"GET / HTTP/1.1\r\n"), Speech::Clear);
    }

    // B6: a hello that comes byte by byte.
    #[test]
    fn a_hello_in_single_bytes_is_unclear_until_its_last() {
        let hello = hello(&[RAW]);
        let (last, first) = hello.split_last().unwrap();
        let mut sniffer = Sniffer::default();
        for byte in first {
            assert_eq!(sniffer.take(&[*byte]), Speech::Unclear);
        }
        assert_eq!(sniffer.take(&[*last]), Speech::Mesh);
    }
}
