//! Calls another program over HTTP/1.1.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

/// What is called: `http://api.shop:8080/items`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    path: String,
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("http://").ok_or("begins with http://")?;
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (
                host,
                port.parse().map_err(|_| "the port is a number up to 65535")?,
            ),
            None => (place, 80),
        };
        if host.is_empty() {
            return Err("names a host behind http://");
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            path: format!("/{path}"),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

impl Target {
    /// Another path of the same program.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ..self.clone()
        }
    }

    /// Asks for JSON.
    pub(crate) fn get(&self) -> Result<Value, CallError> {
        self.ask("GET", "")
    }

    /// Sends `message`, takes JSON back.
    pub(crate) fn post(&self, message: &Value) -> Result<Value, CallError> {
        self.ask("POST", &message.to_string())
    }

    fn ask(&self, method: &str, body: &str) -> Result<Value, CallError> {
        let cannot = |source| CallError::Reach {
            target: self.clone(),
            source,
        };
        let mut stream = self.connect().map_err(cannot)?;
        let answer = self.exchange(&mut stream, method, body);
        let answer = answer.map_err(|source| CallError::Cut {
            target: self.clone(),
            source,
        })?;
        let text = String::from_utf8_lossy(&answer);
        let unreadable = || CallError::Answer {
            target: self.clone(),
            begins: text.chars().take(80).collect(),
        };
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(unreadable)?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            return Err(CallError::Status {
                target: self.clone(),
                status: status.to_owned(),
                body: body.trim().to_owned(),
            });
        }
        serde_json::from_str(body).map_err(|_| unreadable())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn exchange(&self, stream: &mut TcpStream, method: &str, body: &str) -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.path,
            self.host,
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut answer)?;
        // A connection that ends before a byte is no answer, whatever the end looks like.
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody is reached there.
    #[error("cannot reach {target}: {source}")]
    Reach {
        /// What was called.
        target: Target,
        /// The system's answer.
        source: io::Error,
    },
    /// The connection ended without an answer, which is what a refusal by the mesh looks like to a program.
    #[error("{target} closed the connection: {source}")]
    Cut {
        /// What was called.
        target: Target,
        /// How it ended.
        source: io::Error,
    },
    /// The other program says no.
    #[error("{target} answers {status}: {body}")]
    Status {
        /// What was called.
        target: Target,
        /// The HTTP status.
        status: String,
        /// What came with it.
        body: String,
    },
    /// The answer is none that a program of the shop gives.
    #[error("{target} answers what is no JSON: {begins}")]
    Answer {
        /// What was called.
        target: Target,
        /// Its first characters.
        begins: String,
    },
}

/// How long a call may take to connect, and then for each step.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer.
const MOST_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_written() {
        for (text, shown) in [
            ("http://api.shop:8080", "http://api.shop:8080/"),
            ("http://192.0.2.10/goods", "http://192.0.2.10:80/goods"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
        for text in ["api.shop", "http://", "http://api:99999", "https://api"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
