//! Tests of limits on size, time and number, in paused time.

use tokio::time::Instant;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// How long it takes until the server has closed `stream`, and what it says.
async fn until_closed(stream: &mut DuplexStream) -> (Duration, String) {
    let start = Instant::now();
    let said = rest(stream).await;
    (start.elapsed(), said)
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let limits = Limits {
        header_bytes: 8 * 1024,
        header_count: 10,
        ..Limits::default()
    };
    let running = start(limits, None, echo);
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(9_000));
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(60_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(11));
    for head in [long, endless, many] {
        let answer = running.exchange(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let enough = format!(
        "GET / HTTP/1.1\r\n{}Connection: close\r\n\r\n",
        "X: 1\r\n".repeat(9)
    );
    assert!(
        running
            .exchange(enough.as_bytes())
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let limits = Limits {
        body_bytes: 10,
        ..Limits::default()
    };
    let running = start(limits, None, echo);
    let declared = "POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n";
    let answer = running.exchange(declared.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(running.refused("body_too_large"), 1);
    assert_eq!(running.count("ferrule_server_requests_total"), 0);
    let grown = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n";
    let answer = running.exchange(format!("{grown}{LAST}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let fits = "POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789";
    assert!(running.exchange(fits.as_bytes()).await.ends_with("/ 0123456789."));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_says_nothing_is_let_go() {
    let running = start(Limits::default(), None, echo);
    let (after, said) = until_closed(&mut running.connect().await).await;
    assert_eq!((after.as_secs(), said.as_str()), (5, ""));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_is_cut_off() {
    let running = start(Limits::default(), None, echo);
    let mut stream = running.connect().await;
    let begin = Instant::now();
    let head = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(1_000));
    for byte in head.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    // Each byte comes in time; all of them do not.
    assert!(begin.elapsed().as_secs() < 8, "{:?}", begin.elapsed());
    assert_eq!(running.refused("waiting"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_for_a_head_starts_with_its_first_byte() {
    let running = start(Limits::default(), None, echo);
    let mut stream = running.connect().await;
    for _ in 0..3 {
        send(&mut stream, GET).await;
        next_answer(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        send(&mut stream, &GET[..10]).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        send(&mut stream, &GET[10..]).await;
        assert!(next_answer(&mut stream).await.ends_with("/a ."));
    }
    send(&mut stream, &GET[..10]).await;
    let (after, said) = until_closed(&mut stream).await;
    assert_eq!((after.as_secs(), said.as_str()), (5, ""));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let running = start(Limits::default(), None, echo);
    let mut stream = running.connect().await;
    send(&mut stream, GET).await;
    next_answer(&mut stream).await;
    let (after, said) = until_closed(&mut stream).await;
    assert_eq!((after.as_secs(), said.as_str()), (60, ""));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_in_is_refused() {
    let running = start(Limits::default(), None, echo);
    let mut stream = running.connect().await;
    send(&mut stream, "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").await;
    let (after, said) = until_closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!((10..=11).contains(&after.as_secs()), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_answered_for() {
    let running = start(Limits::default(), None, |_: Request| async {
        tokio::time::sleep(HOUR).await;
        text(StatusCode::OK, "late.".to_owned())
    });
    let mut stream = running.connect().await;
    send(&mut stream, GET).await;
    let begin = Instant::now();
    let said = rest(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(said.contains("connection: close"), "{said}");
    assert_eq!(begin.elapsed().as_secs() / 2, 15);
    assert_eq!(running.refused("request_time"), 1);
}

/// Answers after the number of seconds in the path; allows `/poll` routes the time they need.
struct LongPoll;

impl Handler for LongPoll {
    async fn answer(&self, request: Request) -> Reply {
        let seconds = request.uri().query().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        text(StatusCode::OK, format!("after {seconds}."))
    }

    fn allowance(&self, head: &http::request::Parts, default: Allowance) -> Allowance {
        match head.uri.path() {
            "/poll" => Allowance {
                time: HOUR,
                ..default
            },
            _ => default,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_may_allow_a_long_poll() {
    let running = start(Limits::default(), None, LongPoll);
    let mut stream = running.connect().await;
    send(&mut stream, "GET /poll?600 HTTP/1.1\r\n\r\n").await;
    assert!(next_answer(&mut stream).await.ends_with("after 600."));
    send(&mut stream, "GET /other?600 HTTP/1.1\r\n\r\n").await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_its_request_with_it() {
    let running = start(Limits::default(), None, LongPoll);
    let mut stream = running.connect().await;
    send(&mut stream, "GET /poll?600 HTTP/1.1\r\n\r\n").await;
    let begin = Instant::now();
    drop(stream);
    running.drain.close();
    running.drain.empty().await;
    assert!(begin.elapsed().as_secs() < 2, "{:?}", begin.elapsed());
}

// E4: the answers pile up because nobody reads them.
#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_is_cut_off() {
    let running = start(Limits::default(), None, |_: Request| async {
        text(StatusCode::OK, "x".repeat(1_000_000))
    });
    let mut stream = running.connect().await;
    send(&mut stream, GET).await;
    stream.read_u8().await.unwrap();
    running.drain.close();
    let begin = Instant::now();
    running.drain.empty().await;
    assert!(
        (10..=12).contains(&begin.elapsed().as_secs()),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(running.refused("waiting"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_makes_progress_is_served() {
    let running = start(Limits::default(), None, |_: Request| async {
        text(StatusCode::OK, "x".repeat(1_000_000))
    });
    let mut stream = running.connect().await;
    send(&mut stream, LAST).await;
    let (mut got, mut some) = (0, vec![0; 60_000]);
    loop {
        tokio::time::sleep(Duration::from_secs(8)).await;
        match stream.read(&mut some).await.unwrap() {
            0 => break,
            read => got += read,
        }
    }
    assert!(got > 1_000_000, "{got}");
}

#[tokio::test]
async fn too_many_connections_are_turned_away() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let running = start(limits, None, echo);
    let (first, mut second) = (running.connect().await, running.connect().await);
    assert_eq!(rest(&mut running.connect().await).await, "");
    assert_eq!(running.refused("connections"), 1);
    send(&mut second, GET).await;
    next_answer(&mut second).await;
    drop(first);
    while running.drain.open() > 1 {
        tokio::task::yield_now().await;
    }
    assert!(running.exchange(LAST.as_bytes()).await.ends_with("/last ."));
}

#[tokio::test]
async fn one_address_cannot_take_every_place() {
    let limits = Limits {
        connections_per_address: Some(1),
        ..Limits::default()
    };
    let running = start(limits, None, echo);
    let _first = running.connect().await;
    assert_eq!(rest(&mut running.connect().await).await, "");
    assert_eq!(running.refused("connections_per_address"), 1);
}

// E7: the system has no descriptors left; the loop pauses, and goes on when there are some.
#[tokio::test(start_paused = true)]
async fn the_accept_loop_survives_errors_without_spinning() {
    let running = start(Limits::default(), None, echo);
    let begin = Instant::now();
    for _ in 0..20 {
        let no_descriptors = io::Error::from_raw_os_error(24);
        running.coming.send(Err(no_descriptors)).await.unwrap();
    }
    assert!(running.exchange(LAST.as_bytes()).await.ends_with("/last ."));
    assert_eq!(running.refused("accept"), 20);
    assert!(
        begin.elapsed() >= Duration::from_millis(20 * 10),
        "{:?}",
        begin.elapsed()
    );
    assert!(begin.elapsed() <= Duration::from_secs(2), "{:?}", begin.elapsed());
    // An error of a single connection is no reason to pause.
    let begin = Instant::now();
    for _ in 0..20 {
        running
            .coming
            .send(Err(io::ErrorKind::ConnectionAborted.into()))
            .await
            .unwrap();
    }
    assert!(running.exchange(LAST.as_bytes()).await.ends_with("/last ."));
    assert_eq!(begin.elapsed(), Duration::ZERO);
}
