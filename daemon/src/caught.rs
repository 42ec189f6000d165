//! Turns a panic inside a future into a value.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs `future` to its end or its panic, whose message becomes the error. After a panic nothing of the future is
/// used again, so what it left half done stays unseen.
///
/// It takes a future that is on the heap: handed on by value, one would take its room once more in each asynchronous
/// function that it goes through.
pub(crate) const fn caught<F: Future + ?Sized>(future: Pin<Box<F>>) -> Caught<F> {
    Caught(future)
}

/// A future whose panic is a value.
pub(crate) struct Caught<F: ?Sized>(Pin<Box<F>>);

impl<F: Future + ?Sized> Future for Caught<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(message(panic.as_ref()))),
        }
    }
}

/// What a panic said; `panic!` with anything but text says nothing.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_owned(),
    }
}
