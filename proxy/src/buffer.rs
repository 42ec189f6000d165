//! Lends memory to the connections of one worker: taken when bytes are there, given back when they are gone.
//!
//! A worker's connections run on one thread, so its spare buffers need no lock, and a connection on which nothing
//! happens owns none. Few large reads cost less than many small ones: most of a proxy's work is system calls.

use std::cell::RefCell;

/// The size of one buffer on loan, in bytes: fifteen full records of TLS, and as much again as one may be held.
pub const BUFFER_BYTES: usize = 256 * 1024;

/// How many buffers a worker keeps for the next use; more are freed when they come back. A connection has two
/// while it works, and only those that wait for a slow receiver have one across a wait.
const SPARE_BUFFERS: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes at the front, and room behind them. The room is memory that was written before, so that nothing has to
/// be cleared to be filled again.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Everything, the room included.
    bytes: Vec<u8>,
    /// Where the bytes begin.
    begin: usize,
    /// Where the room begins.
    end: usize,
}

impl Buffer {
    /// An empty buffer without room, which grows as it must.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            begin: 0,
            end: 0,
        }
    }

    /// An empty buffer with room for [`BUFFER_BYTES`], from this thread's spare ones; it goes back when dropped.
    pub fn lent() -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self {
            bytes: spare.unwrap_or_else(|| vec![0; BUFFER_BYTES]),
            begin: 0,
            end: 0,
        }
    }

    /// The bytes.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.begin..self.end).unwrap_or_default()
    }

    /// The bytes, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.begin..self.end).unwrap_or_default()
    }

    /// The room behind the bytes, made at least `least` long.
    pub fn room(&mut self, least: usize) -> &mut [u8] {
        let wanted = self.end.saturating_add(least);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Counts `count` bytes of the room as filled; never more than there is.
    pub fn advance(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.bytes.len());
    }

    /// Counts `count` bytes more as filled, whatever they are: somebody fills them in later.
    pub fn skip(&mut self, count: usize) {
        self.room(count);
        self.advance(count);
    }

    /// Copies `bytes` behind what is filled.
    pub fn push(&mut self, bytes: &[u8]) {
        // `room` is at least as long as it was asked to be.
        if let Some(room) = self.room(bytes.len()).get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.advance(bytes.len());
    }

    /// Keeps the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.begin.saturating_add(length));
    }

    /// Keeps the bytes from the one at `from` to the one before that at `to`, where they are.
    pub fn keep(&mut self, from: usize, to: usize) {
        self.truncate(to);
        self.begin = self.begin.saturating_add(from).min(self.end);
    }

    /// Forgets the bytes, keeps the room.
    pub const fn clear(&mut self) {
        (self.begin, self.end) = (0, 0);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() != BUFFER_BYTES {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        // While a thread ends its spare buffers may be gone already; then this one goes, too.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_BUFFERS {
                spare.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn buffers_come_back_and_only_some_are_kept() {
        let lent: Vec<Buffer> = (0..SPARE_BUFFERS + 3).map(|_| Buffer::lent()).collect();
        assert_eq!(spare(), 0);
        drop(lent);
        assert_eq!(spare(), SPARE_BUFFERS);
        let again = Buffer::lent();
        assert_eq!(spare(), SPARE_BUFFERS - 1);
        assert_eq!(again.filled(), b"");
        drop(again);
        drop(Buffer::new());
        assert_eq!(spare(), SPARE_BUFFERS);
    }

    #[test]
    fn bytes_are_filled_in_behind_each_other() {
        let mut buffer = Buffer::new();
        buffer.push(b"one ");
        buffer.room(3)[..3].copy_from_slice(b"two");
        buffer.advance(3);
        assert_eq!(buffer.filled(), b"one two");
        buffer.keep(2, 6);
        assert_eq!(buffer.filled(), b"e tw");
        buffer.push(b"ice");
        assert_eq!(buffer.filled(), b"e twice");
        buffer.keep(9, 3);
        assert_eq!(buffer.filled(), b"");
        buffer.clear();
        assert_eq!(buffer.filled(), b"");
        assert_eq!(buffer.room(0).len(), 9);
        buffer.advance(usize::MAX);
        assert_eq!(buffer.filled().len(), 9);
    }
}
