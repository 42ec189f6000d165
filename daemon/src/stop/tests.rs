//! Tests of the three-step stop, in paused time.

use std::convert::Infallible;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::*;
use crate::drain::Phase;
use crate::signals::Signal;

fn program() -> Program {
    Program {
        tasks: Tasks::new(),
        inbound: Drain::new(),
        outbound: Some(Drain::new()),
        readiness: Readiness::new(),
        limits: StopLimits {
            leave: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
            join: Duration::from_secs(2),
        },
    }
}

/// A connection that stays open until its sender is used, or it is cut.
fn connection(drain: &Drain) -> oneshot::Sender<()> {
    let (end, ended) = oneshot::channel();
    let watched = drain.clone();
    drain.spawn(async move {
        tokio::select! {
            _ = ended => {}
            () = watched.cut() => {}
        }
    });
    end
}

fn asked() -> Signals {
    let signals = Signals::without_system();
    signals.asking().send(Signal::Terminate);
    signals
}

#[tokio::test(start_paused = true)]
async fn an_idle_program_stops_when_it_has_left() {
    let (program, start) = (program(), Instant::now());
    let ended = program.run(&mut asked()).await;
    assert!(matches!(ended, Ended::Clean), "{ended:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(program.readiness.check(), Err(vec!["stopping"]));
}

#[tokio::test(start_paused = true)]
async fn leaving_still_accepts_and_closing_keeps_outbound_open() {
    let program = program();
    let (inbound, outbound) = (program.inbound.clone(), program.outbound.clone().unwrap());
    let open = connection(&inbound);
    let running = program.clone();
    let run = tokio::join!(async move { running.run(&mut asked()).await }, async {
        program.readiness.not_ready().await;
        assert_eq!(inbound.phase(), Phase::Running);
        inbound.closing().await;
        assert_eq!(outbound.phase(), Phase::Running);
        let call = connection(&outbound);
        open.send(()).unwrap();
        inbound.empty().await;
        assert_eq!(outbound.phase(), Phase::Running);
        call.send(()).unwrap();
    });
    assert!(matches!(run.0, Ended::Clean), "{run:?}");
    assert_eq!(outbound.phase(), Phase::Closing);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_connection_is_cut_at_the_deadline() {
    let (program, start) = (program(), Instant::now());
    let _open = connection(&program.inbound);
    let ended = program.run(&mut asked()).await;
    assert!(matches!(ended, Ended::Cut { connections: 1 }), "{ended:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(35));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ignores_the_cut_cannot_hold_the_program() {
    let (program, start) = (program(), Instant::now());
    program.inbound.spawn(std::future::pending());
    let ended = program.run(&mut asked()).await;
    assert!(matches!(ended, Ended::Cut { connections: 1 }), "{ended:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(37));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_jumps_to_the_cut() {
    let (program, start) = (program(), Instant::now());
    let _open = connection(&program.inbound);
    let mut signals = asked();
    signals.asking().send(Signal::Interrupt);
    let ended = program.run(&mut signals).await;
    assert!(matches!(ended, Ended::Cut { connections: 1 }), "{ended:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_stops_the_program_by_the_same_steps() {
    let program = program();
    let open = connection(&program.inbound);
    program.tasks.spawn("renewal", async { Err("no answer") });
    let inbound = program.inbound.clone();
    let (ended, ()) = tokio::join!(
        async { program.run(&mut Signals::without_system()).await },
        async {
            inbound.closing().await;
            open.send(()).unwrap();
        }
    );
    let Ended::Failed(failure) = &ended else {
        panic!("{ended:?}")
    };
    assert_eq!(failure.to_string(), "task renewal failed");
    assert_eq!(ended.exit_code(), ExitCode::FAILURE);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_with_its_drain_is_no_failure() {
    let program = program();
    let inbound = program.inbound.clone();
    program.tasks.spawn("accept", async move {
        inbound.closing().await;
        Ok::<_, Infallible>(())
    });
    let ended = program.run(&mut asked()).await;
    assert!(matches!(ended, Ended::Clean), "{ended:?}");
    assert_eq!(ended.exit_code(), ExitCode::SUCCESS);
}
