//! Knows who lives at an address, which service stands before them, what the rules are.

pub mod folder;
pub mod map;
mod names;
pub mod question;
pub mod stream;

use std::convert::Infallible;
use std::sync::Arc;

use ferrule_policy::Policy;
use tokio::sync::watch;

use map::Map;
use question::{Asker, Questions};

/// What a source has told so far. The rules are none until the first that could be read: then nothing is allowed.
#[derive(Debug, Clone)]
pub struct News {
    /// The rules in force.
    pub rules: watch::Receiver<Option<Arc<Policy>>>,
    /// Who lives where.
    pub map: watch::Receiver<Arc<Map>>,
    /// How often something was told that could not be used.
    pub refused: watch::Receiver<u64>,
    /// Asks about whoever nobody has told of.
    pub asker: Asker,
}

/// Where a [`Source`] puts what it knows; each change is seen by everyone within moments.
#[derive(Debug)]
pub struct Teller {
    /// The rules in force.
    pub rules: watch::Sender<Option<Arc<Policy>>>,
    /// Who lives where.
    pub map: watch::Sender<Arc<Map>>,
    /// How often something was told that could not be used.
    pub refused: watch::Sender<u64>,
    /// What is asked; a source that cannot answer leaves it.
    pub questions: Questions,
}

/// Somebody who knows: a folder of documents, or the stream of a directory.
pub trait Source {
    /// Tells what there is to know, then every change, for ever. What cannot be read or understood changes nothing.
    fn run(self, teller: Teller) -> impl Future<Output = Infallible> + Send;
}

/// A teller, and those who listen to it. Nothing is known, and nothing allowed, before the first news.
pub fn news() -> (Teller, News) {
    let (rules, for_rules) = watch::channel(None);
    let (map, for_map) = watch::channel(Arc::default());
    let (refused, for_refused) = watch::channel(0);
    let (asker, questions) = question::queue();
    let teller = Teller {
        rules,
        map,
        refused,
        questions,
    };
    let news = News {
        rules: for_rules,
        map: for_map,
        refused: for_refused,
        asker,
    };
    (teller, news)
}
