//! The framing in which the TLS stream is the application's bytes: one stream, as long as its connection.

use super::{End, Framing, FramingError, Heard, Opening};
use crate::buffer::Buffer;

/// Its name in ALPN.
pub const NAME: &[u8] = b"ferrule-raw";

/// One stream, as long as its connection: open with it, finished by close_notify, reset by RST.
#[derive(Debug, Clone, Copy)]
pub struct Raw;

impl Framing for Raw {
    fn head(&self) -> usize {
        0
    }

    fn pack(&mut self, _piece: &mut [u8]) {}

    fn unpack(&mut self, _text: &mut Buffer, is_over: bool) -> Result<Heard, FramingError> {
        Ok(if is_over { Heard::Finished } else { Heard::Data })
    }

    fn opening(&self) -> Opening {
        Opening::Open
    }

    fn open(&mut self, _out: &mut Buffer) {}

    fn accept(&mut self, _out: &mut Buffer) {}

    fn refuse(&mut self, _reason: &str, _out: &mut Buffer) -> End {
        End::Connection
    }

    fn finish(&mut self, _out: &mut Buffer) -> End {
        End::Connection
    }

    fn reset(&mut self, _reason: &str, _out: &mut Buffer) -> End {
        End::Connection
    }

    fn is_reusable(&self) -> bool {
        false
    }

    fn is_idle(&self) -> bool {
        false
    }
}
