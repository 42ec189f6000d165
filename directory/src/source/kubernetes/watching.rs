//! Watches the objects of one kind: what comes of the API server as what was seen, for ever.

use std::fmt::Debug;
use std::future::ready;
use std::time::Duration;

use ferrule_daemon::backoff::{self, Jitter};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;

use super::cluster::Seen;

/// What came of a watch: something that was seen, or why nothing can be seen for now.
pub(super) type Watched<K, V> = Result<Seen<K, V>, watcher::Error>;

/// The objects of `api`, each as `read` reads it: its name, and what matters of it.
///
/// A watch that breaks goes on where it was; where it cannot, all objects are listed again, and seen as a whole once
/// the list is complete. Until then what was seen stays as it is.
pub(super) fn watch<O, K, V>(
    api: Api<O>,
    read: impl Fn(O) -> Option<(K, Option<V>)> + Send + 'static,
) -> BoxStream<'static, Watched<K, V>>
where
    O: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K: Send + 'static,
    V: Send + 'static,
{
    let settings = watcher::Config::default().timeout(WATCH_SECONDS);
    seen(watcher(api, settings).backoff(Pause::default()), read).boxed()
}

/// What was seen, out of a watcher's events.
fn seen<O, K, V>(
    events: impl Stream<Item = Result<Event<O>, watcher::Error>>,
    read: impl Fn(O) -> Option<(K, Option<V>)>,
) -> impl Stream<Item = Watched<K, V>> {
    let mut listed = Vec::new();
    events.filter_map(move |event| {
        ready(match event {
            Err(error) => Some(Err(error)),
            Ok(Event::Init) => {
                listed = Vec::new();
                None
            }
            Ok(Event::InitApply(object)) => {
                listed.extend(read(object));
                None
            }
            Ok(Event::InitDone) => Some(Ok(Seen::All(std::mem::take(&mut listed)))),
            Ok(Event::Apply(object)) => read(object).map(|(key, value)| Ok(Seen::Here(key, value))),
            Ok(Event::Delete(object)) => read(object).map(|(key, _)| Ok(Seen::Gone(key))),
        })
    })
}

/// Waits between attempts: an API server that comes back is not asked by everybody at once.
#[derive(Debug, Clone, Default)]
struct Pause {
    failures: u32,
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let wait = backoff::Backoff::new(SHORTEST, LONGEST).delay(self.failures, Jitter::random());
        Some(wait.max(SHORTEST))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A watch is begun anew after so long, so that a connection that died in silence is noticed.
const WATCH_SECONDS: u32 = 240;
const SHORTEST: Duration = Duration::from_millis(200);
/// The longest time between two attempts.
pub(super) const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
