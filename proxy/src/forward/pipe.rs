//! Moves bytes from one socket to another within the kernel (splice(2)), by way of a pipe that is lent for the time.
//!
//! A worker's connections run on one thread, so its spare pipes need no lock; a connection on which nothing happens
//! owns none.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How many pipes a worker keeps for the next use.
const SPARE_PIPES: usize = 8;

/// The most bytes that one pipe takes at once, and its wanted size. The kernel gives a user so many large pipes and
/// no more; those beyond have the size that all have from the start.
pub const PIPE_BYTES: usize = 256 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe on loan, with what has been put into it and not taken out. It goes back when it is dropped empty; one that
/// holds something is closed, since those bytes are nobody else's.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// A spare pipe of this thread, or a new one.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub fn lent() -> io::Result<Self> {
        let ends = match SPARE.with_borrow_mut(Vec::pop) {
            Some(ends) => ends,
            None => Ends::new()?,
        };
        Ok(Self {
            ends: Some(ends),
            held: 0,
        })
    }

    /// Takes what `from` has, as much as fits; the pipe must be empty. 0 at the end of the stream, `None` when nothing
    /// is there.
    ///
    /// # Errors
    /// When the socket was reset or failed.
    pub fn fill(&mut self, from: &TcpStream) -> io::Result<Option<usize>> {
        debug_assert_eq!(self.held, 0, "a full pipe would look like an empty socket");
        let Some(ends) = &self.ends else {
            return Ok(None);
        };
        let taken = from.try_io(Interest::READABLE, || {
            Ok(splice(from, None, &ends.write, None, PIPE_BYTES, FLAGS)?)
        });
        match taken {
            Ok(taken) => {
                self.held = taken;
                Ok(Some(taken))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives all that it holds to `to`, however long that takes.
    ///
    /// # Errors
    /// When the socket was reset or failed. What is left is lost with the pipe.
    pub async fn empty(&mut self, to: &TcpStream) -> io::Result<()> {
        while let (Some(ends), true) = (&self.ends, self.held > 0) {
            let given = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&ends.read, None, to, None, self.held, FLAGS)?)
            });
            match given {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(given) => self.held = self.held.saturating_sub(given),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    to.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A pipe of the usual size does as well, with more calls.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Self { read, write })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.held == 0) else {
            return;
        };
        // While a thread ends its spare pipes may be gone already; then this one goes, too.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_PIPES {
                spare.push(ends);
            }
        });
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "loopback")]
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_and_the_pipe_comes_back_empty() {
        let ((mut client, from), (to, mut server)) = (pair().await, pair().await);
        client.write_all(b"one").await.unwrap();
        from.readable().await.unwrap();
        let mut pipe = Pipe::lent().unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), Some(3));
        pipe.empty(&to).await.unwrap();
        let mut heard = [0; 3];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"one");
        assert_eq!(pipe.fill(&from).unwrap(), None);
        drop(client);
        from.readable().await.unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), Some(0));
        drop(pipe);
        assert_eq!(SPARE.with_borrow(Vec::len), 1);
    }

    // Bytes of one connection must never come out of another.
    #[tokio::test]
    async fn a_pipe_with_something_in_it_is_closed() {
        let (mut client, from) = pair().await;
        client.write_all(b"secret").await.unwrap();
        from.readable().await.unwrap();
        let mut pipe = Pipe::lent().unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), Some(6));
        drop(pipe);
        assert_eq!(SPARE.with_borrow(Vec::len), 0);
    }
}
