//! Tests of the logs, from the event to the sink.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tracing::subscriber::with_default;
use tracing::{debug, error, info, warn};

use super::*;

const SOON: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

/// What `events` log, at 2026-11-22T01:20:00Z.
fn logged(format: Format, filter: &str, events: impl FnOnce(&Logging)) -> String {
    let memory = Memory::default();
    let (clock, _hand) = Clock::manual(1_795_310_400);
    let filter = filter.parse().unwrap();
    let (logging, subscriber) = prepare(format, filter, clock, Counter::default(), memory.clone()).unwrap();
    with_default(subscriber, || events(&logging));
    assert!(logging.flush(SOON));
    memory.text()
}

#[test]
fn an_event_is_one_json_object() {
    let text = logged(Format::Json, "info", |_| {
        let cause = io::Error::other("disk full");
        info!(
            peer = "spiffe://a/b",
            port = 80_u16,
            ok = true,
            share = 0.5,
            "closed \"{}\"",
            7
        );
        warn!(
            error = &cause as &(dyn std::error::Error + 'static),
            time = "mine",
            nothing = f64::NAN
        );
        debug!("not written");
    });
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    let first = serde_json::json!({
        "time": "2026-11-22T01:20:00.000Z", "level": "info", "target": "ferrule_daemon::logging::tests",
        "message": "closed \"7\"", "peer": "spiffe://a/b", "port": 80, "ok": true, "share": 0.5,
    });
    assert_eq!(lines[0], first);
    assert_eq!(lines[1]["error"], "disk full");
    assert_eq!(lines[1]["time_"], "mine");
    assert_eq!(lines[1]["nothing"], "NaN");
}

// E9: neither a field nor a message can end the line, reach the terminal, or fill the disk.
#[test]
fn hostile_values_stay_inside_their_field() {
    let hostile = "\u{1b}[2J\r\n{\"level\":\"error\"}\u{9b}31m\u{202e}\u{7f}\u{0}";
    for format in [Format::Json, Format::Text] {
        let text = logged(format, "info", |_| {
            info!(name = hostile, shown = %hostile, debugged = ?hostile, "message {hostile}");
            info!(long = "x".repeat(1_000_000));
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        let raw = text
            .chars()
            .find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(raw, None, "{text}");
        assert!(text.len() < 10_000, "{} bytes", text.len());
        assert!(text.contains("… (995904 bytes more)"), "{text}");
        if format == Format::Json {
            let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            assert_eq!(line["name"], hostile);
            assert_eq!(line["shown"], hostile);
        }
    }
}

// Text is looked at a block at a time: what needs an escape is seen wherever it stands.
#[test]
fn what_needs_an_escape_is_seen_at_every_place() {
    for special in ["\"", "\\", "\n", "\u{7f}", "\u{1f}", "é", "\u{202e}"] {
        let values: Vec<String> = (0..=40)
            .map(|at| format!("{}{special}{}", "a".repeat(at), "z".repeat(40 - at)))
            .collect();
        let text = logged(Format::Json, "info", |_| {
            values.iter().for_each(|value| info!(value));
        });
        let found: Vec<String> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["value"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(found, values);
    }
}

// Most lines are written without a look at each value: one that breaks out of its quotes must not pass for one of those.
#[test]
fn whatever_a_value_holds_is_in_its_own_field() {
    let pieces = [
        "\"",
        "\\",
        ",",
        ":",
        "{",
        "}",
        "x",
        "\",\"verdict\":\"allow",
        " ",
        "\t",
        "é",
    ];
    for first in pieces {
        for second in pieces {
            let (value, reason) = (format!("{first}{second}"), format!("{second}{first}"));
            let text = logged(
                Format::Json,
                "info",
                |_| info!(value, reason = ?reason, verdict = "deny"),
            );
            let line: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(line["value"], *value);
            assert_eq!(line["reason"], format!("{reason:?}"));
            assert_eq!(line["verdict"], "deny");
            assert_eq!(line.as_object().map(serde_json::Map::len), Some(6), "{text}");
        }
    }
}

// The longest value that is not cut, and the first that is, however it is written.
#[test]
fn a_value_is_cut_at_its_limit() {
    for (length, cut) in [(4095, 0), (4096, 0), (4097, 1)] {
        let value = "x".repeat(length);
        let text = logged(Format::Json, "info", |_| info!(value, shown = %value));
        let line: Value = serde_json::from_str(&text).unwrap();
        let kept = "x".repeat(length - cut);
        let wanted = if cut == 0 {
            kept
        } else {
            format!("{kept}… ({cut} bytes more)")
        };
        assert_eq!(
            (&line["value"], &line["shown"]),
            (&wanted.as_str().into(), &wanted.into())
        );
    }
}

#[test]
fn the_time_of_a_line_is_the_time_of_day() {
    let times = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_827_696, "2000-02-29T12:34:56.000Z"),
        (951_827_697, "2000-02-29T12:34:57.000Z"),
        (-1, "1969-12-31T23:59:59.000Z"),
        (4_102_444_799, "2099-12-31T23:59:59.000Z"),
    ];
    for (unix, shown) in times {
        // Twice: the second time, the second is known.
        for _ in 0..2 {
            assert_eq!(shown_time(&Clock::manual(unix).0), shown);
        }
    }
}

#[test]
fn text_is_for_people() {
    let text = logged(Format::Text, "info", |_| info!(port = 80, peer = "a b", "closed"));
    let line = "2026-11-22T01:20:00.000Z info  ferrule_daemon::logging::tests: closed port=80 peer=\"a b\"\n";
    assert_eq!(text, line);
}

#[test]
fn the_filter_changes_while_the_program_runs() {
    let text = logged(Format::Text, "warn", |logging| {
        info!("one");
        let filter: Filter = "off,ferrule_daemon::logging=debug".parse().unwrap();
        let shown = filter.to_string();
        logging.levels().set(filter).unwrap();
        assert_eq!(logging.levels().current().unwrap().to_string(), shown);
        debug!("two");
        error!(target: "elsewhere", "three");
    });
    assert!(text.ends_with(": two\n") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_filter_that_cannot_be_read_is_refused() {
    for text in ["ferrule=loud", "", " ", &"a".repeat(FILTER_BYTES + 1)] {
        assert!(text.parse::<Filter>().is_err(), "{text}");
    }
    let error = "loud\u{1b}".parse::<Filter>();
    assert!(error.is_ok_and(|filter| !filter.to_string().contains("error")));
    assert!("xml".parse::<Format>().unwrap_err().to_string().contains("xml"));
}

/// A sink that writes only when the test lets it.
struct Stuck {
    memory: Memory,
    asked: SyncSender<()>,
    allowed: Receiver<()>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.asked.send(());
        self.allowed.recv().map_err(io::Error::other)?;
        self.memory.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_sink_never_holds_up_who_logs() {
    let memory = Memory::default();
    let (asked, asking) = sync_channel(16);
    let (allow, allowed) = sync_channel(16);
    let stuck = Stuck {
        memory: memory.clone(),
        asked,
        allowed,
    };
    let dropped = Counter::default();
    let note = |count| format!("missing {count}\n");
    let queue = Queue::start(100, stuck, note, dropped.clone()).unwrap();
    queue.push("first\n");
    asking.recv_timeout(SOON).unwrap();
    // The thread hangs in the sink now. What fits waits, the rest is dropped; none of these calls may block,
    // because nothing lets the sink go on before they have returned.
    for _ in 0..1_000 {
        queue.push("123456789\n");
    }
    assert_eq!(dropped.get(), 990);
    assert!(!queue.flush(Duration::ZERO));
    for _ in 0..3 {
        allow.send(()).unwrap();
    }
    assert!(queue.flush(SOON));
    let text = memory.text();
    assert!(
        text.starts_with("first\n123456789\n") || text.starts_with("first\nmissing"),
        "{text}"
    );
    assert_eq!(text.matches("123456789\n").count(), 10);
    assert!(text.contains("missing 990\n"), "{text}");
}

#[test]
fn a_sink_that_fails_is_counted_and_tried_again() {
    struct Broken(usize, Memory);
    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return self.1.write(bytes);
            }
            self.0 -= 1;
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (memory, dropped) = (Memory::default(), Counter::default());
    let sink = Broken(1, memory.clone());
    let queue = Queue::start(100, sink, |count| format!("missing {count}\n"), dropped.clone()).unwrap();
    queue.push("lost\n");
    assert!(queue.flush(SOON));
    assert_eq!(dropped.get(), 1);
    queue.push("kept\n");
    assert!(queue.flush(SOON));
    assert_eq!(memory.text(), "kept\nmissing 1\n");
    queue.close();
    queue.push("late\n");
    assert_eq!(dropped.get(), 2);
}
