//! Decides how much one direction of a connection reads at once.

/// How much one direction reads at once: little until it is seen that much comes and is taken as fast, so that
/// a slow receiver costs little memory.
pub(super) struct Appetite(usize);

impl Appetite {
    pub(super) const fn new() -> Self {
        Self(LEAST_READ)
    }

    pub(super) const fn bytes(&self) -> usize {
        self.0
    }

    /// Whether so much came at once, again and again, that copying it is not worth it.
    pub(super) const fn is_large(&self) -> bool {
        self.0 >= LEAST_SPLICED
    }

    /// As [`learn`](Self::learn), of bytes that were not copied: a pipe takes what there is, so that little means
    /// that little comes. A slow receiver changes nothing here, where the bytes wait in the kernel.
    pub(super) const fn learn_spliced(&mut self, taken: usize) {
        if taken < LEAST_READ {
            self.0 = LEAST_READ;
        }
    }

    pub(super) fn learn(&mut self, read: usize, waited: bool) {
        if waited {
            self.0 = (self.0 / 2).max(LEAST_READ);
        } else if read == self.0 {
            self.0 = (self.0 * 2).min(MOST_READ);
        }
    }
}

/// What a direction in clear has to read at once before its bytes pass through a pipe.
const LEAST_SPLICED: usize = 2 * LEAST_READ;

/// Two records of TLS.
const LEAST_READ: usize = 32 * 1024;

/// Fifteen records: sealed, with the head of a framing, or behind a record that is held, they still fit into one
/// buffer.
const MOST_READ: usize = 15 * 16 * 1024;
