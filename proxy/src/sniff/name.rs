//! Reads from a client's first bytes which host it means: the server name of TLS, or the Host field of HTTP/1.

use ferrule_policy::{HostError, HostName};

use super::HANDSHAKE_RECORD;
use super::hello::{Hello, HelloError, Reading};

/// What first bytes tell about the host that a client means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Too little has come.
    Unclear,
    /// This host.
    Host(HostName),
    /// None, and more bytes would not change that.
    Nameless(Nameless),
}

/// Why a client's first bytes tell no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nameless {
    /// TLS without the extension `server_name` (RFC 6066 §3).
    #[error("its TLS hello has no server name")]
    NoServerName,
    /// TLS whose real hello is encrypted (RFC 9849): the name that can be read stands in for another one.
    #[error("its TLS hello is encrypted (ECH), and the name that can be read stands in for another one")]
    Encrypted,
    /// A TLS hello that cannot be read.
    #[error("its TLS hello cannot be read")]
    Hello {
        /// Why.
        source: HelloError,
    },
    /// Something that is no name of a host, such as an address.
    #[error("it names {name:?}, which is no name of a host")]
    NoName {
        /// What was named, cut short.
        name: String,
        /// Why it is none.
        source: HostError,
    },
    /// HTTP without the field Host.
    #[error("its HTTP request has no Host")]
    NoHost,
    /// HTTP that names several hosts, so that two readers might not mean the same one.
    #[error("its HTTP request names more than one host")]
    SeveralHosts,
    /// HTTP that asks for a tunnel: the host is the tunnel's end, and not who was called.
    #[error("its HTTP request is for a proxy (CONNECT)")]
    Tunnel,
    /// Neither TLS nor HTTP/1; HTTP/2 in clear is none of them either.
    #[error("it speaks neither TLS nor HTTP/1")]
    Unknown,
    /// More bytes than are looked at.
    #[error("no name was complete within {MOST_BYTES} bytes")]
    TooLong,
}

/// What `bytes`, everything that a client has sent so far, tell.
pub fn name_in(bytes: &[u8]) -> Told {
    let told = match bytes.first() {
        None => Told::Unclear,
        Some(&HANDSHAKE_RECORD) => in_hello(bytes),
        Some(_) => in_request(bytes),
    };
    if told == Told::Unclear && bytes.len() >= MOST_BYTES {
        return Told::Nameless(Nameless::TooLong);
    }
    told
}

fn in_hello(bytes: &[u8]) -> Told {
    match Hello::read(bytes) {
        Ok(Reading::Incomplete) => Told::Unclear,
        Ok(Reading::Whole(hello)) if hello.is_encrypted => Told::Nameless(Nameless::Encrypted),
        Ok(Reading::Whole(Hello {
            server_name: None, ..
        })) => Told::Nameless(Nameless::NoServerName),
        Ok(Reading::Whole(Hello {
            server_name: Some(name),
            ..
        })) => host(&name),
        Err(source) => Told::Nameless(Nameless::Hello { source }),
    }
}

fn in_request(bytes: &[u8]) -> Told {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Err(_) => return Told::Nameless(Nameless::Unknown),
        // The whole head is waited for: a second Host may stand at its end.
        Ok(httparse::Status::Partial) => return Told::Unclear,
        Ok(httparse::Status::Complete(_)) => {}
    }
    if request.method == Some("CONNECT") {
        return Told::Nameless(Nameless::Tunnel);
    }
    let mut named = request
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("host"));
    let (Some(field), None) = (named.next(), named.next()) else {
        let several = request
            .headers
            .iter()
            .any(|field| field.name.eq_ignore_ascii_case("host"));
        return Told::Nameless(if several {
            Nameless::SeveralHosts
        } else {
            Nameless::NoHost
        });
    };
    // A target that names a host goes before the field (RFC 9112 §3.2.2); both must say the same.
    match request.path.and_then(authority) {
        Some(target) if !without_port(target.as_bytes()).eq_ignore_ascii_case(without_port(field.value)) => {
            Told::Nameless(Nameless::SeveralHosts)
        }
        _ => host(without_port(field.value)),
    }
}

/// The authority of a target in absolute form, such as `http://example.com/`.
fn authority(target: &str) -> Option<&str> {
    let (_, rest) = target.split_once("://").filter(|_| !target.starts_with('/'))?;
    rest.split(['/', '?', '#']).next()
}

/// `example.com:8080` without the port. What is in brackets is an address, and stays one.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| *byte == b':') {
        Some(at)
            if authority
                .get(at + 1..)
                .is_some_and(|port| port.iter().all(u8::is_ascii_digit)) =>
        {
            authority.get(..at).unwrap_or_default()
        }
        _ => authority,
    }
}

fn host(name: &[u8]) -> Told {
    let name = String::from_utf8_lossy(name);
    match HostName::parse(&name) {
        Ok(host) => Told::Host(host),
        Err(source) => {
            let name = name.chars().take(SHOWN).collect();
            Told::Nameless(Nameless::NoName { name, source })
        }
    }
}

/// The most bytes that are looked at for a name: four times what common servers take for the head of a request.
pub const MOST_BYTES: usize = 32 * 1024;

/// The most fields of a request.
const MOST_FIELDS: usize = 128;

/// How much of a name that is none is shown.
const SHOWN: usize = 80;

#[cfg(test)]
mod tests;
