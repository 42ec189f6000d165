//! Runs several connections of one load side by side, and times what they do between two marks.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::{LoadError, Meter, PATIENCE};

/// Tasks that go on until they are told to stop.
pub(crate) struct Lanes {
    open: JoinSet<Result<(), LoadError>>,
    stop: Rc<Cell<bool>>,
    doing: &'static str,
}

/// A stretch of time in which everything counts.
pub(crate) struct Window {
    pub(crate) took: Duration,
    /// CPU time that the programs under load used.
    pub(crate) cpu: Duration,
}

impl Lanes {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self {
            open: JoinSet::new(),
            stop: Rc::new(Cell::new(false)),
            doing,
        }
    }

    /// Becomes true when a lane is to end.
    pub(crate) fn stop(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.stop)
    }

    pub(crate) fn add(&mut self, lane: impl Future<Output = Result<(), LoadError>> + 'static) {
        self.open.spawn_local(lane);
    }

    /// Lets the lanes run for `warm_up`, calls `begin`, and lets them run for `time`; reads `meter` at both marks.
    pub(crate) async fn window(
        &mut self,
        warm_up: Duration,
        time: Duration,
        meter: Meter<'_>,
        begin: impl FnOnce(),
    ) -> Result<Window, LoadError> {
        let read = || meter().map_err(|source| LoadError::Meter { source });
        self.pass(warm_up).await?;
        let before = read()?;
        begin();
        let begun = Instant::now();
        self.pass(time).await?;
        let took = begun.elapsed();
        Ok(Window {
            took,
            cpu: read()?.saturating_sub(before),
        })
    }

    /// Lets the lanes run until all of them have come to `ready`.
    pub(crate) async fn until(&mut self, ready: &Barrier) -> Result<(), LoadError> {
        tokio::select! {
            // Whoever comes to it may end right after.
            biased;
            waited = timeout(PATIENCE, ready.wait()) => match waited {
                Ok(_) => Ok(()),
                Err(_) => Err(LoadError::Stuck { doing: self.doing, limit: PATIENCE }),
            },
            Some(ended) = self.open.join_next() => Err(self.too_early(ended)),
        }
    }

    /// Lets the lanes run until all of them have come to `ready`, as long as the number that `moved` gives changes.
    pub(crate) async fn until_or_still(
        &mut self,
        ready: &Barrier,
        moved: impl Fn() -> u64,
    ) -> Result<(), LoadError> {
        let mut waiting = pin!(ready.wait());
        let mut last = moved();
        loop {
            tokio::select! {
                biased;
                _ = &mut waiting => return Ok(()),
                Some(ended) = self.open.join_next() => return Err(self.too_early(ended)),
                () = tokio::time::sleep(PATIENCE) => match moved() {
                    now if now == last => return Err(LoadError::Stuck { doing: self.doing, limit: PATIENCE }),
                    now => last = now,
                },
            }
        }
    }

    /// A lane that ends meanwhile has failed.
    async fn pass(&mut self, time: Duration) -> Result<(), LoadError> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            Some(ended) = self.open.join_next() => Err(self.too_early(ended)),
        }
    }

    fn too_early(&self, ended: Result<Result<(), LoadError>, JoinError>) -> LoadError {
        let source = match ended {
            Ok(Err(error)) => return error,
            Ok(Ok(())) => std::io::ErrorKind::UnexpectedEof.into(),
            Err(panic) => std::io::Error::other(panic),
        };
        LoadError::Broken {
            doing: self.doing,
            source,
        }
    }

    /// Tells all lanes to end, and waits until they have.
    pub(crate) async fn end(mut self) -> Result<(), LoadError> {
        self.stop.set(true);
        let all = async {
            while let Some(ended) = self.open.join_next().await {
                match ended {
                    Ok(Ok(())) => {}
                    other => return Err(self.too_early(other)),
                }
            }
            Ok(())
        };
        match timeout(PATIENCE, all).await {
            Ok(ended) => ended,
            Err(_) => Err(LoadError::Stuck {
                doing: self.doing,
                limit: PATIENCE,
            }),
        }
    }
}
