//! Calls a published port all the time, and counts what fails.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mesh::get;

/// Requests one after the other, each over a connection of its own, until it is ended.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Two callers of `port`.
    pub(crate) fn start(port: u16) -> Self {
        let load = Self {
            stop: Arc::default(),
            answered: Arc::default(),
            failures: Arc::default(),
            callers: Vec::new(),
        };
        let caller = || {
            let (stop, answered, failures) = (
                Arc::clone(&load.stop),
                Arc::clone(&load.answered),
                Arc::clone(&load.failures),
            );
            let began = Instant::now();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = get(port, "/items");
                    if answer.starts_with("HTTP/1.1 200") {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let failure = format!("after {:?}: {answer:?}", began.elapsed());
                        failures.lock().unwrap().push(failure);
                    }
                    // A steady load, not a race for the processor.
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        };
        let callers = vec![caller(), caller()];
        Self { callers, ..load }
    }

    /// How many were answered until now.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it; how many were answered, and how those failed that did.
    pub(crate) fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().unwrap();
        }
        let failures = self.failures.lock().unwrap().clone();
        (self.answered.load(Ordering::Relaxed), failures)
    }
}

/// A connection to a published port that stays open: what it says is not finished.
pub(crate) struct Open(TcpStream);

impl Open {
    /// Opens it.
    pub(crate) fn new(port: u16) -> Self {
        Self(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
    }

    /// Sends a line to a server that takes one after another.
    pub(crate) fn say(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits until somebody else ends it.
    pub(crate) fn ended(mut self) {
        self.0.set_read_timeout(Some(super::mesh::LIMIT)).unwrap();
        // Whether as an end or as a reset, it ends, and says nothing before.
        let read = self.0.read(&mut [0; 1]);
        let is_ended = match &read {
            Ok(read) => *read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        };
        assert!(is_ended, "{read:?}");
    }
}
