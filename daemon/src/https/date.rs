//! Writes the `Date` header once a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

use crate::clock::Clock;

/// The clock's time as RFC 9110 §5.6.7 writes it, kept until the second is over.
#[derive(Debug)]
pub(super) struct DateHeader {
    clock: Clock,
    written: Mutex<(i64, HeaderValue)>,
}

impl DateHeader {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            written: Mutex::new((0, value(0))),
        }
    }

    pub(super) fn now(&self) -> HeaderValue {
        let now = self.clock.unix();
        // The pair is replaced as a whole, so a panic elsewhere cannot have left it torn.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.0 != now {
            *written = (now, value(now));
        }
        written.1.clone()
    }
}

/// Times outside the years 1970 to 9999, which the format cannot hold, become the nearest that it can.
fn value(unix: i64) -> HeaderValue {
    let seconds = u64::try_from(unix).unwrap_or(0).min(LAST);
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_clock() {
        let (clock, hand) = Clock::manual(784_111_777);
        let date = DateHeader::new(clock);
        assert_eq!(date.now(), "Sun, 06 Nov 1994 08:49:37 GMT");
        hand.advance(Duration::from_secs(1));
        assert_eq!(date.now(), "Sun, 06 Nov 1994 08:49:38 GMT");
        hand.set(i64::MAX);
        assert_eq!(date.now(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
