//! Serves HTTP/1.1, one thread and one request for each connection, as few words of it as a shop needs.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::ShopError;

/// What somebody asks.
#[derive(Debug)]
pub(crate) struct Request {
    /// Such as `GET`.
    pub(crate) method: String,
    /// Such as `/items`.
    pub(crate) path: String,
    /// What came with it.
    pub(crate) body: Vec<u8>,
    /// Where the connection comes from, as this program sees it.
    pub(crate) from: SocketAddr,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Reply {
    status: u16,
    kind: &'static str,
    /// Where to go next.
    location: Option<&'static str>,
    body: String,
}

impl Reply {
    /// A page.
    pub(crate) const fn page(body: String) -> Self {
        Self {
            status: 200,
            kind: "text/html; charset=utf-8",
            location: None,
            body,
        }
    }

    /// Leads a browser to another page.
    pub(crate) const fn see(location: &'static str) -> Self {
        Self {
            status: 303,
            kind: "text/plain",
            location: Some(location),
            body: String::new(),
        }
    }

    /// JSON for a program.
    pub(crate) fn json(status: u16, message: &Value) -> Self {
        let body = format!("{message}\n");
        Self {
            status,
            kind: "application/json",
            location: None,
            body,
        }
    }

    /// Whether it says that all is well.
    pub(crate) const fn is_good(&self) -> bool {
        self.status < 400
    }

    /// There is nothing of that name.
    pub(crate) fn nothing(request: &Request) -> Self {
        let message = format!("there is nothing at {}", request.path);
        Self::json(404, &serde_json::json!({ "error": message }))
    }
}

/// Answers whoever comes, as long as the program runs.
pub(crate) fn serve(
    listener: &TcpListener,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Result<(), ShopError> {
    let answer = Arc::new(answer);
    let busy = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            // Whoever hung up before being accepted, or too many open files: the next may do better.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(source) => return Err(ShopError::Accept { source }),
        };
        if busy.load(Ordering::Relaxed) >= MOST_AT_ONCE {
            continue;
        }
        busy.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&busy));
        let answer = Arc::clone(&answer);
        let started = thread::Builder::new().spawn(move || {
            let _place = place;
            // The caller is gone or speaks something else; nobody is left to tell.
            let _ = handle(stream, from, answer.as_ref());
        });
        started.map_err(|source| ShopError::Accept { source })?;
    }
}

/// One of the connections that are open at a time.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn handle(stream: TcpStream, from: SocketAddr, answer: &impl Fn(&Request) -> Reply) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(request) = read(&stream, from)? else {
        return Ok(());
    };
    let reply = answer(&request);
    let mut stream = stream;
    let location = reply
        .location
        .map_or(String::new(), |location| format!("location: {location}\r\n"));
    write!(
        stream,
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{location}{SAFETY}connection: close\r\n\r\n{}",
        reply.status,
        if reply.is_good() { "OK" } else { "Not OK" },
        reply.kind,
        reply.body.len(),
        reply.body
    )?;
    stream.flush()
}

/// The request on `stream`; `None` when the caller hung up or wants too much.
fn read(stream: &TcpStream, from: SocketAddr) -> io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream.take(MOST_BYTES));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(u64::MAX);
        }
    }
    if length > MOST_BYTES {
        return Ok(None);
    }
    let mut body = Vec::new();
    let taken = reader.take(length).read_to_end(&mut body)?;
    let whole = u64::try_from(taken).is_ok_and(|taken| taken == length);
    Ok(whole.then(|| Request {
        method: method.to_owned(),
        path: path.to_owned(),
        body,
        from,
    }))
}

/// How long a caller may take for its request, and for reading the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A browser runs nothing, fetches nothing from elsewhere, keeps nothing, and shows it in nobody else's frame.
const SAFETY: &str = "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'\r\nx-content-type-options: nosniff\r\n\
                      referrer-policy: no-referrer\r\ncache-control: no-store\r\n";

/// Connections at a time; a shop has few customers.
const MOST_AT_ONCE: usize = 256;

/// The largest request with everything in it.
const MOST_BYTES: u64 = 16 * 1024;
