//! Every kind of load comes to figures, on a way that is nothing but a socket.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use ferrule_load::amount::{self, Amount};
use ferrule_load::bulk::{self, Bulk, Direction};
use ferrule_load::idle::Held;
use ferrule_load::openings::{self, Opening};
use ferrule_load::requests::{self, Asking};
use ferrule_load::server::Server;
use ferrule_load::{LoadError, no_meter, runtime};

const WARM_UP: Duration = Duration::from_millis(20);
const TIME: Duration = Duration::from_millis(200);

fn server() -> Server {
    Server::start(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
}

#[test]
fn bulk_is_counted_where_it_arrives() {
    let server = server();
    for direction in [Direction::Up, Direction::Down] {
        let bulk = Bulk {
            direction,
            connections: 2,
            warm_up: WARM_UP,
            time: TIME,
        };
        let carried = runtime::run(bulk::run(bulk, server.address(), &no_meter))
            .unwrap()
            .unwrap();
        assert!(carried.bytes > 0, "{direction:?}");
        assert!(carried.took >= TIME);
        let gigabytes = carried.gigabits() / 8.0 * carried.took.as_secs_f64();
        assert!((gigabytes * 1e9 / carried.bytes as f64 - 1.0).abs() < 1e-6);
    }
}

#[test]
fn an_amount_is_carried_to_its_last_byte() {
    let server = server();
    let amount = Amount {
        connections: 40,
        each: 300_001,
    };
    let reads = Cell::new(0_u64);
    let meter = || {
        reads.set(reads.get() + 1);
        Ok(Duration::from_millis(reads.get()))
    };
    let open = Cell::new(None);
    let look = || open.set(Some(reads.get()));
    let carried = runtime::run(amount::run(amount, server.address(), look, &meter))
        .unwrap()
        .unwrap();
    assert_eq!(open.get(), Some(0));
    assert_eq!(carried.bytes, 40 * 300_001);
    assert!(carried.took > Duration::ZERO);
    // Once before anything counts, and once when all is there.
    assert_eq!((reads.get(), carried.cpu), (2, Duration::from_millis(1)));
}

#[test]
fn an_amount_that_is_cut_off_is_told() {
    // It answers that it is there, and leaves.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let leaving = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.read_exact(&mut [0; 8]).unwrap();
        tcp.write_all(&0_u64.to_be_bytes()).unwrap();
    });
    let amount = Amount {
        connections: 1,
        each: u32::MAX,
    };
    let error = runtime::run(amount::run(amount, target, || (), &no_meter))
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, LoadError::Broken { .. }), "{error}");
    leaving.join().unwrap();
}

#[test]
fn requests_are_answered_as_fast_as_they_can_or_at_a_rate() {
    let server = server();
    let mut asking = Asking {
        connections: 4,
        size: 1024,
        rate: None,
        warm_up: WARM_UP,
        time: TIME,
    };
    let ask = |asking| {
        runtime::run(requests::run(asking, server.address(), &no_meter))
            .unwrap()
            .unwrap()
    };
    let answered = ask(asking);
    assert!(answered.count > 0);
    assert_eq!(answered.count, answered.delays.count());
    assert!(answered.delays.micros(0.5) > 0.0);
    assert!(answered.delays.micros(0.5) <= answered.delays.micros(0.999));
    asking.rate = Some(100.0);
    let paced = ask(asking);
    // What is due while the machine does something else comes after it, all at once, but nothing comes early.
    let most = 100.0 * (WARM_UP + paced.took).as_secs_f64() + 1.0;
    assert!(paced.count > 0 && paced.count as f64 <= most, "{}", paced.count);
}

#[test]
fn connections_are_opened_and_closed_and_some_are_held() {
    let server = server();
    let opening = Opening {
        parallel: 2,
        size: 64,
        warm_up: WARM_UP,
        time: TIME,
    };
    let opened = runtime::run(openings::run(opening, server.address(), &no_meter))
        .unwrap()
        .unwrap();
    assert!(opened.count > 0);
    let held = runtime::run(async {
        let mut held = Held::default();
        held.fill(server.address(), 30).await?;
        held.fill(server.address(), 40).await?;
        Ok::<_, ferrule_load::LoadError>(held.count())
    });
    assert_eq!(held.unwrap().unwrap(), 40);
}

#[test]
fn the_meter_is_read_at_both_ends_of_the_time() {
    let server = server();
    let read = std::cell::Cell::new(Duration::ZERO);
    let meter = || {
        read.set(read.get() + Duration::from_millis(7));
        Ok(read.get())
    };
    let asking = Asking {
        connections: 1,
        size: 1,
        rate: None,
        warm_up: WARM_UP,
        time: TIME,
    };
    let answered = runtime::run(requests::run(asking, server.address(), &meter))
        .unwrap()
        .unwrap();
    assert_eq!(answered.cpu, Duration::from_millis(7));
}

#[test]
fn nobody_at_the_end_of_the_way_is_an_error() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let asking = Asking {
        connections: 1,
        size: 1,
        rate: None,
        warm_up: WARM_UP,
        time: TIME,
    };
    let error = runtime::run(requests::run(asking, address, &no_meter))
        .unwrap()
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot open a connection");
}
