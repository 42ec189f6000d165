//! Holds what the SPIFFE Workload API fixes besides its messages: paths, the header, addresses, certificates in a row.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;

pub use crate::proto::spiffe::{
    X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
};

/// The call for certificates, keys and roots.
pub const FETCH_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";

/// The call for roots alone.
pub const FETCH_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchX509Bundles";

/// The header that every call must have, with [`HEADER_VALUE`]: a browser that is led to the socket cannot add it
/// (SPIFFE_Workload_Endpoint.md §3).
pub const HEADER: &str = "workload.spiffe.io";

/// The only value of [`HEADER`].
pub const HEADER_VALUE: &str = "true";

/// Where a Workload API is served, as `SPIFFE_ENDPOINT_SOCKET` says it (SPIFFE_Workload_Endpoint.md §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket at an absolute path: `unix:///run/spire/agent.sock`.
    Unix(PathBuf),
    /// An address of this machine or its network: `tcp://127.0.0.1:8000`.
    Tcp(SocketAddr),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.contains(['?', '#', '@']) {
            return Err(EndpointError::Surplus);
        }
        match text.split_once(':') {
            Some(("unix", path)) => {
                // Either no authority at all, or an empty one.
                let path = match path.strip_prefix("//") {
                    Some(rest) if rest.starts_with('/') => rest,
                    Some(_) => return Err(EndpointError::Path),
                    None => path,
                };
                let names_socket = path.starts_with('/') && !path.ends_with('/');
                names_socket
                    .then(|| Self::Unix(PathBuf::from(path)))
                    .ok_or(EndpointError::Path)
            }
            Some(("tcp", rest)) => {
                let address = rest.strip_prefix("//").ok_or(EndpointError::Address)?;
                let address: SocketAddr = address.parse().map_err(|_| EndpointError::Address)?;
                Ok(Self::Tcp(address))
            }
            _ => Err(EndpointError::Scheme),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Endpoint {
    /// The address, where it is one.
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(address) => Some(address.ip()),
        }
    }
}

/// Takes certificates apart that stand behind each other in DER; none in an empty text.
///
/// # Errors
/// When something else than whole DER sequences stands there, or more than [`MOST_CERTIFICATES`].
pub fn certificates(mut text: &[u8]) -> Result<Vec<CertificateDer<'static>>, RowError> {
    let mut row = Vec::new();
    while !text.is_empty() {
        if row.len() == MOST_CERTIFICATES {
            return Err(RowError::TooMany);
        }
        let (one, rest) = text
            .split_at_checked(sequence_length(text)?)
            .ok_or(RowError::Cut)?;
        row.push(CertificateDer::from(one.to_vec()));
        text = rest;
    }
    Ok(row)
}

/// The length of the sequence that `text` begins with, its head included (X.690 §8.1, in its distinguished form).
fn sequence_length(text: &[u8]) -> Result<usize, RowError> {
    let length = match *text {
        [SEQUENCE, length, ..] if length < 0x80 => Some(2 + usize::from(length)),
        [SEQUENCE, 0x81, length, ..] if length >= 0x80 => Some(3 + usize::from(length)),
        [SEQUENCE, 0x82, high, low, ..] if high > 0 => Some(4 + usize::from(u16::from_be_bytes([high, low]))),
        // Nothing that we take is longer.
        _ => None,
    };
    length.ok_or(RowError::NoSequence)
}

/// Puts certificates behind each other, for [`certificates`].
pub fn row<'c>(certificates: impl IntoIterator<Item = &'c CertificateDer<'static>>) -> Vec<u8> {
    let mut all = Vec::new();
    for certificate in certificates {
        all.extend_from_slice(certificate);
    }
    all
}

/// The most certificates in one row.
pub const MOST_CERTIFICATES: usize = 256;

const SEQUENCE: u8 = 0x30;

/// Why a text names no Workload API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither of the two kinds.
    #[error("expected unix:///PATH or tcp://IP:PORT")]
    Scheme,
    /// Not the path of a socket.
    #[error("a Unix socket is given by an absolute path, as in unix:///run/spire/agent.sock")]
    Path,
    /// Not an address with a port.
    #[error("a TCP endpoint is given by an IP address and a port, as in tcp://127.0.0.1:8000")]
    Address,
    /// A user, a query or a fragment.
    #[error("the address of a Workload API has no user, query or fragment")]
    Surplus,
}

/// Why bytes are no row of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Something else than a sequence, or one that is not in DER or longer than 64 KiB.
    #[error("something that is no certificate in DER stands there")]
    NoSequence,
    /// The last one is not whole.
    #[error("the last certificate is cut short")]
    Cut,
    /// Too many.
    #[error("there are more than {MOST_CERTIFICATES} certificates")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn endpoints_are_read_as_the_standard_writes_them() {
        let unix = |path: &str| Ok(Endpoint::Unix(PathBuf::from(path)));
        for (text, endpoint) in [
            ("unix:///run/spire/agent.sock", unix("/run/spire/agent.sock")),
            ("unix:/run/agent.sock", unix("/run/agent.sock")),
            (
                "tcp://127.0.0.1:8000",
                Ok(Endpoint::Tcp(([127, 0, 0, 1], 8000).into())),
            ),
            (
                "tcp://[::1]:8000",
                Ok(Endpoint::Tcp("[::1]:8000".parse().unwrap())),
            ),
            ("unix://run/agent.sock", Err(EndpointError::Path)),
            ("unix:agent.sock", Err(EndpointError::Path)),
            ("unix:///run/", Err(EndpointError::Path)),
            ("unix:///run/a.sock?x", Err(EndpointError::Surplus)),
            ("tcp://localhost:8000", Err(EndpointError::Address)),
            ("tcp://127.0.0.1", Err(EndpointError::Address)),
            ("tcp://127.0.0.1:8000/x", Err(EndpointError::Address)),
            ("tcp://me@127.0.0.1:8000", Err(EndpointError::Surplus)),
            ("/run/agent.sock", Err(EndpointError::Scheme)),
            ("http://127.0.0.1:80", Err(EndpointError::Scheme)),
        ] {
            assert_eq!(text.parse::<Endpoint>(), endpoint, "{text}");
        }
    }

    #[test]
    fn what_is_no_whole_row_is_refused() {
        for (text, error) in [
            (&[0x31, 0][..], RowError::NoSequence),
            (&[0x30], RowError::NoSequence),
            (&[0x30, 0x80, 0, 0], RowError::NoSequence),
            (&[0x30, 0x81, 5, 1, 2, 3, 4, 5], RowError::NoSequence),
            (&[0x30, 2, 1], RowError::Cut),
            (&[0x30, 0, 0x30, 1], RowError::Cut),
        ] {
            assert_eq!(certificates(text), Err(error), "{text:?}");
        }
        assert_eq!(certificates(&[0x30, 0].repeat(257)), Err(RowError::TooMany));
        assert_eq!(certificates(&[]), Ok(Vec::new()));
    }

    proptest! {
        // Whatever the bytes are: no panic, and what is read is what was there.
        #[test]
        fn a_row_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(read) = certificates(&text) {
                prop_assert_eq!(row(&read), text);
            }
        }

        #[test]
        fn a_row_that_was_written_is_read(lengths in proptest::collection::vec(0..70_000_usize, 0..6)) {
            let all: Vec<CertificateDer<'static>> = lengths
                .into_iter()
                .map(|length| length.min(65_535))
                .map(|length| {
                    let number = u16::try_from(length).unwrap().to_be_bytes();
                    let head = match length {
                        0..0x80 => vec![SEQUENCE, number[1]],
                        0x80..0x100 => vec![SEQUENCE, 0x81, number[1]],
                        _ => vec![SEQUENCE, 0x82, number[0], number[1]],
                    };
                    CertificateDer::from([head, vec![7; length]].concat())
                })
                .collect();
            prop_assert_eq!(certificates(&row(&all)), Ok(all));
        }
    }
}
