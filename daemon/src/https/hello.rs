//! Reads a client's hello, whole and within bounds, before anything is spent on its handshake.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

/// The handshake of `stream`, once its client has said its hello.
///
/// # Errors
/// When the stream ends before, or something else comes, or more than [`LONGEST`] bytes.
pub(crate) async fn read<S>(stream: S) -> io::Result<StartHandshake<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), Bounded(stream.take(LONGEST))).await?;
    Ok(StartHandshake::from_parts(
        start.accepted,
        start.io.0.into_inner(),
    ))
}

/// A stream that ends after so many bytes, for its reader.
struct Bounded<S>(Take<S>);

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.0.get_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.get_mut()).poll_shutdown(cx)
    }
}

/// The bytes of the longest hello: those of a TLS record, many times what clients send.
const LONGEST: u64 = 16 * 1024;
