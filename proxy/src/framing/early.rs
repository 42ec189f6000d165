//! Keeps what an application says before its stream is taken.

use std::io;

use tokio::net::TcpStream;

use super::channel::First;
use super::exchange::{OpenError, READ_BYTES};
use crate::buffer::Buffer;
use crate::net::read::{read_now, readable};

/// What an application has said before its stream is taken. It is kept until then, so that it can be said again on
/// another connection, where the first one certainly did not take it.
#[derive(Debug, Default)]
pub struct Early {
    bytes: Vec<u8>,
    /// Whether the application sends nothing more.
    is_all: bool,
    /// Whether any of it was sent to whom the stream is opened to now.
    is_told: bool,
}

impl Early {
    /// How many bytes the application has said.
    pub const fn count(&self) -> usize {
        self.bytes.len()
    }

    /// Whether anything of it was sent to the last one that the stream was opened to.
    pub const fn is_told(&self) -> bool {
        self.is_told
    }

    /// Everything so far.
    pub(super) fn first(&self) -> First<'_> {
        First {
            bytes: &self.bytes,
            is_all: self.is_all,
        }
    }

    /// The bytes, where they were not sent in this attempt.
    pub(super) fn untold(&self) -> Option<&[u8]> {
        (!self.bytes.is_empty() && !self.is_told).then_some(self.bytes.as_slice())
    }

    /// Notes that everything so far was sent, or nothing.
    pub(super) const fn told(&mut self, is_told: bool) {
        self.is_told = is_told && (!self.bytes.is_empty() || self.is_all);
    }

    /// Reads what is there now.
    pub(super) async fn read(&mut self, inner: &mut TcpStream) -> Result<(), OpenError> {
        if self.wants_more() {
            self.take(inner).await?;
        }
        Ok(())
    }

    /// Waits for more, as long as there is room; returns what has come. Nothing is lost when it is dropped.
    pub(super) async fn more(&mut self, inner: &mut TcpStream) -> Result<First<'_>, OpenError> {
        let before = self.bytes.len();
        loop {
            if !self.wants_more() {
                std::future::pending::<()>().await;
            }
            readable(inner).await.map_err(application)?;
            self.take(inner).await?;
            if self.bytes.len() > before || self.is_all {
                self.is_told = true;
                return Ok(First {
                    bytes: self.bytes.get(before..).unwrap_or_default(),
                    is_all: self.is_all,
                });
            }
        }
    }

    const fn wants_more(&self) -> bool {
        !self.is_all && self.bytes.len() < MOST_EARLY
    }

    async fn take(&mut self, inner: &mut TcpStream) -> Result<(), OpenError> {
        let mut room = Buffer::lent();
        if let Some(read) = read_now(inner, &mut room, READ_BYTES)
            .await
            .map_err(application)?
        {
            self.bytes.extend_from_slice(room.filled());
            self.is_all = read == 0;
        }
        Ok(())
    }
}

const fn application(source: io::Error) -> OpenError {
    OpenError::Application { source }
}

/// How much is kept at most, beyond what one more read brings; the application waits then until the stream is taken.
const MOST_EARLY: usize = 16 * 1024;
