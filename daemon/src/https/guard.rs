//! Stands between a connection and the HTTP library: watches over framing and waiting.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Limits;
use super::screen::{Fault, Place, Screen};

/// A stream that hands on only requests whose framing is beyond doubt, and that fails when the other end lets it
/// wait for too long.
///
/// When a request is in doubt, the library is given [`POISON`] in its place, which makes it answer 400 and close;
/// nothing more is read.
#[derive(Debug)]
pub(super) struct Guard<S> {
    stream: S,
    screen: Screen,
    fault: Option<Fault>,
    /// What is left of the poison to be handed out, once there is a fault.
    poison: &'static [u8],
    busy: Busy,
    limits: Waits,
    /// What is waited for in reading, and until when.
    reading: Option<(Waiting, Instant)>,
    writing: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    first: bool,
    ended: bool,
}

/// Whether a request is being answered, in which time nothing is expected of the other end. Shared between the
/// stream and the service of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

#[derive(Debug, Clone, Copy)]
struct Waits {
    idle: Duration,
    header: Duration,
    write: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Request,
    Header,
}

impl Busy {
    pub(super) fn set(&self, busy: bool) {
        // Both sides run in the same task; the atomic is only there because the task moves between threads.
        self.0.store(busy, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Guard<S> {
    pub(super) fn new(stream: S, limits: &Limits) -> Self {
        Self {
            stream,
            screen: Screen::default(),
            fault: None,
            poison: &[],
            busy: Busy::default(),
            limits: Waits {
                idle: limits.idle_time,
                header: limits.header_time,
                write: limits.write_stall_time,
            },
            reading: None,
            writing: None,
            timer: Box::pin(tokio::time::sleep(limits.header_time)),
            first: true,
            ended: false,
        }
    }

    pub(super) fn busy(&self) -> Busy {
        self.busy.clone()
    }

    /// What was wrong with the framing, if anything was.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Whether the other end has said that it will send nothing more.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Fails when the other end should have sent something by now.
    fn wait_to_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = match self.screen.place() {
            // It cannot be expected to ask before it has been answered.
            _ if self.busy.is_set() || self.writing.is_some() => None,
            Place::Start if !self.first => Some(Waiting::Request),
            Place::Start | Place::Head => Some(Waiting::Header),
            // The request's own limits hold here.
            Place::Body => None,
        };
        self.reading = match (waiting, self.reading) {
            (None, _) => None,
            (Some(now), Some((before, until))) if now == before => Some((now, until)),
            (Some(now), _) => Some((now, Instant::now() + self.limits.of(now))),
        };
        match self.reading {
            Some((_, until)) => self.wait_until(until, cx),
            None => Poll::Pending,
        }
    }

    fn wait_to_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = *self
            .writing
            .get_or_insert_with(|| Instant::now() + self.limits.write);
        self.wait_until(until, cx)
    }

    /// One timer serves both directions: it is set to the earlier end, and looks again when it fires.
    fn wait_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        if until <= now {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        // Moving the timer costs a lock, so it is left alone while it fires early enough: then the task is
        // woken, finds that nothing is due, and comes back here.
        if self.timer.deadline() > until || self.timer.deadline() <= now {
            self.timer.as_mut().reset(until);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if until <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }

    fn hand_out_poison(&mut self, buf: &mut ReadBuf<'_>) {
        let (now, later) = self.poison.split_at(self.poison.len().min(buf.remaining()));
        buf.put_slice(now);
        self.poison = later;
    }
}

impl Waits {
    fn of(self, waiting: Waiting) -> Duration {
        match waiting {
            Waiting::Request => self.idle,
            Waiting::Header => self.header,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let guard = &mut *self;
        if guard.fault.is_some() {
            guard.hand_out_poison(buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut guard.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return guard.wait_to_read(cx),
        }
        let arrived = &buf.filled()[before..];
        if arrived.is_empty() {
            guard.ended = true;
            return Poll::Ready(Ok(()));
        }
        if guard
            .reading
            .is_some_and(|(waiting, _)| waiting == Waiting::Request)
        {
            guard.reading = None;
        }
        let checked = guard.screen.check(arrived);
        if guard.screen.place() != Place::Head {
            // A head is complete, so the next one has its full time.
            guard.reading = None;
            guard.first = false;
        }
        if let Err((sound, fault)) = checked {
            guard.fault = Some(fault);
            guard.poison = POISON;
            buf.set_filled(before + sound);
            if sound == 0 {
                guard.hand_out_poison(buf);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    fn wrote<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            ready!(self.wait_to_write(cx))?;
            return Poll::Pending;
        }
        self.writing = None;
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        let outcome = self.wrote(outcome, cx);
        if outcome.is_ready() {
            // The library does not read again after an answer when it has found nothing to read before, so the
            // wait for the next request starts here.
            if let Poll::Ready(Err(error)) = self.wait_to_read(cx) {
                return Poll::Ready(Err(error));
            }
        }
        outcome
    }

    /// Flushes only: the stream is shut down by whoever takes it back, and then listened to for a while.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Bytes that are wrong in every place of a request's head and of a chunked body, and that end the head, so that
/// a reader sees the fault at once.
const POISON: &[u8] = b"\0\r\n\r\n";
