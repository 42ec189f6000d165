//! Finds where a name leads, and remembers it for as long as its owner allows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ferrule_policy::HostName;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::message::{Answer, Family};
use super::servers::{AskError, Servers};

/// The resolver of one worker. Many connections that need one name ask once.
#[derive(Debug)]
pub struct Resolver {
    servers: Servers,
    families: Vec<Family>,
    known: RefCell<HashMap<HostName, Known>>,
    asked: RefCell<HashMap<HostName, Rc<OnceCell<Found>>>>,
}

/// The addresses of a name, or why there are none.
pub type Found = Result<Rc<[IpAddr]>, ResolveError>;

#[derive(Debug)]
struct Known {
    found: Found,
    until: Instant,
}

impl Resolver {
    /// A resolver that asks `servers` for addresses of these families.
    pub fn new(servers: Servers, families: Vec<Family>) -> Self {
        Self {
            servers,
            families,
            known: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    /// The addresses of `host`, at least one.
    ///
    /// # Errors
    /// When it has none, or nobody can tell.
    pub async fn find(&self, host: &HostName) -> Found {
        if let Some(known) = self.known.borrow().get(host)
            && known.until > Instant::now()
        {
            return known.found.clone();
        }
        let question = self.question(host);
        let found = question.get_or_init(|| self.ask(host)).await.clone();
        let mut asked = self.asked.borrow_mut();
        if asked.get(host).is_some_and(|open| Rc::ptr_eq(open, &question)) {
            asked.remove(host);
        }
        found
    }

    /// The question that is open for `host`, which the first one asks and the others wait for.
    fn question(&self, host: &HostName) -> Rc<OnceCell<Found>> {
        let mut asked = self.asked.borrow_mut();
        if asked.len() >= MOST_NAMES {
            // Those that nobody waits for any more.
            asked.retain(|_, question| Rc::strong_count(question) > 1);
        }
        Rc::clone(asked.entry(host.clone()).or_default())
    }

    async fn ask(&self, host: &HostName) -> Found {
        let ask = async |family| match self.families.contains(&family) {
            true => self.servers.ask(host, family).await,
            false => Ok(Answer::Nothing),
        };
        let (found, life) = join(host, tokio::join!(ask(Family::V4), ask(Family::V6)));
        self.remember(host, found.clone(), life);
        found
    }

    fn remember(&self, host: &HostName, found: Found, life: Duration) {
        let now = Instant::now();
        let mut known = self.known.borrow_mut();
        if known.len() >= MOST_NAMES {
            known.retain(|_, known| known.until > now);
        }
        if known.len() >= MOST_NAMES
            && let Some(first) = known.iter().min_by_key(|(_, known)| known.until)
        {
            let first = first.0.clone();
            known.remove(&first);
        }
        let until = now + life;
        known.insert(host.clone(), Known { found, until });
    }
}

/// What both families give together, and how long that holds.
fn join(host: &HostName, answers: (Result<Answer, AskError>, Result<Answer, AskError>)) -> (Found, Duration) {
    let mut addresses = Vec::new();
    let mut life = MOST_LIFE;
    let mut failed = None;
    for answer in [answers.0, answers.1] {
        match answer {
            Ok(Answer::Found(found, ttl)) => {
                addresses.extend(found);
                life = life.min(ttl.max(LEAST_LIFE));
            }
            Ok(Answer::Nothing | Answer::Cut) => {}
            Err(error) => failed = Some(error),
        }
    }
    let host = host.clone();
    match (addresses.is_empty(), failed) {
        (false, None) => (Ok(addresses.into()), life),
        // Half an answer is asked for again soon.
        (false, Some(_)) => (Ok(addresses.into()), LIFE_OF_NOTHING.min(life)),
        (true, None) => (Err(ResolveError::NoAddress { host }), LIFE_OF_NOTHING),
        (true, Some(error)) => {
            let source = Arc::new(error);
            (Err(ResolveError::Unanswered { host, source }), LEAST_LIFE)
        }
    }
}

/// Names that are remembered, and questions that are open, at once.
const MOST_NAMES: usize = 1024;

/// An address may be gone: nothing is remembered for longer, whatever its owner allows.
const MOST_LIFE: Duration = Duration::from_secs(300);

/// Nothing is remembered for less, so that a busy workload does not ask for each connection.
const LEAST_LIFE: Duration = Duration::from_secs(1);

/// How long it is remembered that a name has no address.
const LIFE_OF_NOTHING: Duration = Duration::from_secs(5);

/// Why a name leads nowhere.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// It has no address.
    #[error("{host} has no address")]
    NoAddress {
        /// The name.
        host: HostName,
    },
    /// Nobody can tell.
    #[error("no resolver tells the addresses of {host}")]
    Unanswered {
        /// The name.
        host: HostName,
        /// The last one's failure.
        source: Arc<AskError>,
    },
}

#[cfg(test)]
mod tests;
