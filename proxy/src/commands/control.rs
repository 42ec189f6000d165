//! `ferrule-proxy control`: joins standard input and output with a debug socket.
//!
//! An image of the sidecar has no shell and no client: whoever may start a program in its container asks through this one.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;

use super::Failure;
use super::cli::Control;

pub(super) fn run(control: &Control) -> Result<ExitCode, Failure> {
    let socket = UnixStream::connect(&control.socket).map_err(Failure::could_not("open the debug socket"))?;
    join(socket, io::stdin(), &mut io::stdout().lock()).map_err(Failure::could_not("pass on the answer"))?;
    Ok(ExitCode::SUCCESS)
}

/// Carries what `asked` says to the socket, and what the socket says to `answered`, until one of both ends.
fn join(
    mut socket: UnixStream,
    mut asked: impl Read + Send + 'static,
    answered: &mut impl Write,
) -> io::Result<()> {
    let mut to = socket.try_clone()?;
    thread::Builder::new().name("asked".to_owned()).spawn(move || {
        // Its failure is the socket's end, which the other side finds, too.
        let _ = pass(&mut asked, &mut to);
        // Who asks no more does not listen any more, either: a client of HTTP keeps its side open for the answer.
        let _ = to.shutdown(Shutdown::Both);
    })?;
    pass(&mut socket, answered)
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..read).unwrap_or_default())?;
        to.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_gets_its_answer_and_the_end_of_the_socket_is_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (asked, mut asking) = io::pipe().unwrap();
        asking.write_all(b"GET /edges").unwrap();
        let server = thread::spawn(move || {
            let mut question = [0; 10];
            theirs.read_exact(&mut question).unwrap();
            theirs.write_all(b"[]").unwrap();
            question
        });
        let mut answer = Vec::new();
        join(ours, asked, &mut answer).unwrap();
        assert_eq!(&server.join().unwrap(), b"GET /edges");
        assert_eq!(answer, b"[]");
    }

    #[test]
    fn a_stream_of_lines_ends_when_nobody_asks_any_more() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (asked, asking) = io::pipe().unwrap();
        drop(asking);
        join(ours, asked, &mut Vec::new()).unwrap();
        assert_eq!((&theirs).read(&mut [0]).unwrap(), 0);
    }
}
