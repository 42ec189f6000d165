//! What an answer carries: bytes that are there already, or lines as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::guard::Busy;

/// The body of an answer.
#[derive(Debug)]
pub struct Content(Source);

#[derive(Debug)]
enum Source {
    Whole(Option<Bytes>),
    Stream {
        pieces: mpsc::Receiver<Bytes>,
        /// While it lasts nothing is expected of the caller.
        _busy: Option<BusyWhile>,
    },
}

#[derive(Debug)]
struct BusyWhile(Busy);

impl Drop for BusyWhile {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Content {
    /// Everything at once.
    pub const fn whole(bytes: Bytes) -> Self {
        Self(Source::Whole(Some(bytes)))
    }

    /// Piece by piece, until all senders are gone. Whoever sends learns by the channel that the caller has left; a
    /// caller who takes nothing for the time of the server's limits is left.
    pub const fn stream(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self(Source::Stream { pieces, _busy: None })
    }

    /// Keeps `busy` set while a stream lasts; a whole answer is over for the caller when it is given.
    pub(super) fn keep_busy(&mut self, busy: Busy) {
        match &mut self.0 {
            Source::Whole(_) => busy.set(false),
            Source::Stream { _busy, .. } => *_busy = Some(BusyWhile(busy)),
        }
    }
}

impl Default for Content {
    /// Nothing.
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut self.0 {
            Source::Whole(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()),
            Source::Stream { pieces, .. } => ready!(pieces.poll_recv(cx)),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Source::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Stream { .. } => SizeHint::default(),
        }
    }
}
