//! Notes since when the API server does not answer, and when it does again.

use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_identity::Timestamp;
use kube::Client;
use kube::runtime::watcher;
use tokio::time::{Instant, timeout};
use tracing::{error, info};

use super::watching::LONGEST;

/// Whether the API server answers, as the watches find it. All of them fail when it is away, again and again; it is
/// said once, with the time.
#[derive(Debug, Default)]
pub(super) struct Server(Option<Away>);

#[derive(Debug)]
struct Away {
    since: Instant,
    /// The last that failed.
    last: Instant,
    /// The fault, as it is told.
    told: String,
}

impl Server {
    /// A watch failed because the API server does not answer, or says that it cannot.
    pub(super) fn failed(&mut self, error: &watcher::Error) {
        let now = Instant::now();
        if let Some(away) = &mut self.0 {
            away.last = now;
            return;
        }
        let since = Timestamp::from_unix(Clock::system().unix());
        let why = Chain(error).to_string();
        error!(event = "api_server_away", %since, error = why, "the API server is away; what is known stays in force");
        let told = format!(
            "the API server is away since {since}, and what is known stays in force: cannot be watched: {why}"
        );
        let last = now;
        self.0 = Some(Away {
            since: now,
            last,
            told,
        });
    }

    /// What is wrong now.
    pub(super) fn fault(&self) -> Option<String> {
        self.0.as_ref().map(|away| away.told.clone())
    }

    /// Looks whether it is back: it answers, and each watch that failed has had the time to fail again.
    pub(super) async fn look(&mut self, client: &Client) {
        let Some(away) = &self.0 else { return };
        if away.last.elapsed() < QUIET {
            return;
        }
        let asked = timeout(ANSWER_TIME, client.apiserver_version()).await;
        let answers = match asked {
            Ok(Ok(_)) => true,
            // Whoever is refused has been answered.
            Ok(Err(error)) => !is_unanswered(&error),
            Err(_) => false,
        };
        if answers {
            let away_seconds = away.since.elapsed().as_secs();
            info!(
                event = "api_server_back",
                away_seconds, "the API server answers again"
            );
            self.0 = None;
        }
    }
}

/// What the failure of a watch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The API server does not answer, or says that it cannot.
    Away,
    /// A connection broke. The watch goes on where it was; the next attempt tells whether somebody is there.
    Cut,
    /// Something about the objects of this kind.
    OfKind,
}

impl Failure {
    /// Sorts the failure of a watch.
    pub(super) fn of(error: &watcher::Error) -> Self {
        let is_unable = match error {
            watcher::Error::WatchFailed(error) if is_unanswered(error) => return Self::Cut,
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => is_unanswered(error),
            watcher::Error::WatchError(status) => is_unable(status.code),
            watcher::Error::NoResourceVersion => false,
        };
        if is_unable { Self::Away } else { Self::OfKind }
    }
}

fn is_unanswered(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => is_unable(status.code),
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => false,
        _ => true,
    }
}

/// Whether a status is about the server as such (RFC 9110 15.6, RFC 6585 4).
const fn is_unable(code: u16) -> bool {
    code >= 500 || code == 429
}

/// A watch that fails is tried again within this time.
const QUIET: Duration = LONGEST.saturating_add(Duration::from_secs(1));

/// How long the API server may take to tell its version.
const ANSWER_TIME: Duration = Duration::from_secs(2);
