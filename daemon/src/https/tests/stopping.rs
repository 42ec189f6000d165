//! Tests of the end of a server, in paused time.

use tokio::time::Instant;

use super::*;

async fn slow(request: Request) -> Reply {
    tokio::time::sleep(Duration::from_secs(20)).await;
    echo(request).await
}

#[tokio::test(start_paused = true)]
async fn closing_ends_idle_connections_and_lets_requests_finish() {
    let running = start(Limits::default(), None, slow);
    let mut idle = running.connect().await;
    send(&mut idle, GET).await;
    next_answer(&mut idle).await;
    let mut working = running.connect().await;
    send(&mut working, GET).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    running.drain.close();
    running.serving.await.unwrap();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let answer = rest(&mut working).await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("/a ."),
        "{answer}"
    );
    drop((idle, working));
    running.drain.empty().await;
}

#[tokio::test(start_paused = true)]
async fn the_cut_ends_a_request_half_way() {
    let running = start(Limits::default(), None, slow);
    let mut stream = running.connect().await;
    send(&mut stream, GET).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    running.drain.cut_now();
    running.drain.empty().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(running.refused("cut"), 1);
}

#[tokio::test(start_paused = true)]
async fn closing_reaches_an_accept_loop_that_pauses() {
    let running = start(Limits::default(), None, echo);
    running
        .coming
        .send(Err(io::Error::from_raw_os_error(24)))
        .await
        .unwrap();
    while running.refused("accept") == 0 {
        tokio::task::yield_now().await;
    }
    let begin = Instant::now();
    running.drain.close();
    running.serving.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
}
