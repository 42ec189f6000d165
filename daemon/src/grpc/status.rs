//! How a call ended, in the words of gRPC.

use std::fmt;

use http::{HeaderMap, HeaderValue};

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Status {
    /// The word for programs.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
}

/// The codes of gRPC that are used here; each has the number that goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// All is well.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Anything that no other word fits.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// It took too long.
    DeadlineExceeded = 4,
    /// The caller may not do that.
    PermissionDenied = 7,
    /// A limit was reached.
    ResourceExhausted = 8,
    /// There is no such call.
    Unimplemented = 12,
    /// A fault of the server's own.
    Internal = 13,
    /// Not now; another try may do.
    Unavailable = 14,
    /// The caller did not show who it is.
    Unauthenticated = 16,
}

impl Status {
    /// A status with a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The trailers that tell it.
    pub fn to_trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert(STATUS, HeaderValue::from(self.code as u16));
        if !self.message.is_empty()
            && let Ok(message) = HeaderValue::try_from(escaped(&self.message))
        {
            trailers.insert(MESSAGE, message);
        }
        trailers
    }

    /// The status in trailers, or in headers where there is nothing else; `None` when they hold none.
    pub fn from_trailers(trailers: &HeaderMap) -> Option<Self> {
        let code = trailers.get(STATUS)?.to_str().ok()?.parse::<u16>().ok()?;
        let message = trailers.get(MESSAGE).and_then(|message| message.to_str().ok());
        let message = message.map(unescaped).unwrap_or_default();
        Some(Self {
            code: Code::from_number(code),
            message: message
                .chars()
                .filter(|c| !c.is_control())
                .take(MAX_MESSAGE_CHARS)
                .collect(),
        })
    }
}

impl Code {
    fn from_number(number: u16) -> Self {
        ALL.iter()
            .copied()
            .find(|code| *code as u16 == number)
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid argument",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::PermissionDenied => "permission denied",
            Self::ResourceExhausted => "resource exhausted",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Unauthenticated => "unauthenticated",
        })
    }
}

/// Text as a header may have it: everything but printable ASCII, and the percent sign, as `%` and two digits.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let digits = (*first == b'%').then(|| others.get(..2)).flatten();
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

const MAX_MESSAGE_CHARS: usize = 1024;

const ALL: [Code; 11] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::Unauthenticated,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_status_survives_the_trailers(message in "[^\\p{Cc}]{0,60}", code in 0..ALL.len()) {
            let status = Status::new(ALL[code], message);
            prop_assert_eq!(Status::from_trailers(&status.to_trailers()), Some(status));
        }

        #[test]
        fn any_text_is_read(text in "[ -~]{0,40}") {
            unescaped(&text);
        }
    }

    #[test]
    fn a_code_that_nobody_knows_is_unknown() {
        let mut trailers = HeaderMap::new();
        assert_eq!(Status::from_trailers(&trailers), None);
        trailers.insert(STATUS, HeaderValue::from(99));
        assert_eq!(Status::from_trailers(&trailers).unwrap().code, Code::Unknown);
    }
}
