//! Keeps the newest picture of everything that proxies are told, with what changed last.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::ready::Latch;
use ferrule_identity::Timestamp;
use ferrule_identity::tls::TrustSnapshot;
use ferrule_wire::delta::Name;
use ferrule_wire::directory::{rule, trust};
use tokio::sync::watch;
use tracing::info;

use crate::acks::Proxies;
use crate::gauges::Gauges;
use crate::model::{Model, Resource, Touched};
use crate::source::Told;

/// Everything that proxies are told, at one time. A value.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Grows with every change.
    pub number: u64,
    /// Who lives where, and the rules.
    pub model: Model,
    /// The mesh as such.
    pub mesh: Arc<Resource>,
    /// The bundles, by trust domain.
    pub bundles: BTreeMap<Name, Arc<Resource>>,
    /// The deny list, once one is known.
    pub denied: Option<Arc<Resource>>,
    /// The sequence of our own bundle.
    pub bundle_sequence: u64,
    /// The number of the deny list.
    pub deny_generation: u64,
    /// What the last changes touched, oldest first.
    recent: VecDeque<(u64, Arc<Touched>)>,
}

/// What changed since an earlier picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// This, each change by itself.
    These(Vec<Arc<Touched>>),
    /// So much that everything has to be looked at.
    Anything,
}

impl Picture {
    /// A picture of `model`, with nothing known of trust.
    pub fn new(model: Model) -> Self {
        Self {
            number: 0,
            mesh: Arc::new(Resource::new(rule::write_mesh(model.ranges()))),
            model,
            bundles: BTreeMap::new(),
            denied: None,
            bundle_sequence: 0,
            deny_generation: 0,
            recent: VecDeque::new(),
        }
    }

    /// What changed since the picture of that number.
    pub fn since(&self, number: u64) -> Since {
        let reaches_back = self.number - number <= self.recent.len() as u64;
        if !reaches_back {
            return Since::Anything;
        }
        let newer = self.recent.iter().filter(|(of, _)| *of > number);
        Since::These(newer.map(|(_, touched)| Arc::clone(touched)).collect())
    }

    fn note(&mut self, touched: Touched) {
        self.number += 1;
        self.recent.push_back((self.number, Arc::new(touched)));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }

    fn take_trust(&mut self, snapshot: &TrustSnapshot) -> bool {
        let own = self.model.trust_domain();
        let bundles: BTreeMap<Name, Arc<Resource>> = snapshot
            .bundles
            .iter()
            .map(|bundle| {
                let resource = Resource::new(trust::write_bundle(bundle));
                (Name::from(bundle.trust_domain().as_str()), Arc::new(resource))
            })
            .collect();
        let generation = snapshot.revocations.generation();
        let denied = Resource::new(trust::write_deny_list(snapshot.revocations.denied(), generation));
        let sequence = snapshot.bundles.of(own).map_or(0, |bundle| bundle.sequence());
        if bundles == self.bundles && self.denied.as_deref() == Some(&denied) {
            return false;
        }
        self.bundles = bundles;
        self.denied = Some(Arc::new(denied));
        (self.bundle_sequence, self.deny_generation) = (sequence, generation);
        true
    }
}

/// Keeps `pictures` up to date for ever: with what the source tells, and with what `trust` holds whenever `changes` says
/// that it changed; with the certificates that `proxies` have shown, now and then. `first` is released once the source has told of something.
pub(crate) async fn keep(
    pictures: watch::Sender<Arc<Picture>>,
    mut told: Told,
    mut trust: watch::Receiver<Arc<TrustSnapshot>>,
    first: Latch,
    proxies: Proxies,
    clock: Clock,
    gauges: Gauges,
) -> Infallible {
    let mut first = Some(first);
    let mut leaves = tokio::time::interval(LEAVES_EVERY);
    leaves.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut picture = Picture::clone(&pictures.borrow());
        let mut has_news = false;
        tokio::select! {
            Some(news) = told.news.recv() => {
                let mut touched = picture.model.apply(news);
                // What waits already counts from the same moment.
                while let Ok(news) = told.news.try_recv() {
                    touched.add(picture.model.apply(news));
                }
                for rule in &touched.rules {
                    let change = if picture.model.rules().contains_key(rule) { "set" } else { "removed" };
                    info!(rule = %rule, change, "rule changed");
                }
                // A source may tell of what does not matter to anybody.
                if touched.is_empty() && first.is_none() {
                    continue;
                }
                if !touched.is_empty() {
                    picture.note(touched);
                }
                has_news = true;
            }
            Ok(()) = trust.changed() => {
                let snapshot = trust.borrow_and_update().clone();
                if !picture.take_trust(&snapshot) {
                    continue;
                }
                info!(
                    bundle = picture.bundle_sequence, deny_list = picture.deny_generation,
                    "telling proxies whom to trust"
                );
                picture.note(Touched::default());
            }
            // Many at once, since each picture costs its proxies a look: when all of them come back, for instance.
            _ = leaves.tick() => {
                let now = Timestamp::from_unix(clock.unix());
                let shown = proxies.shown();
                if shown.is_empty() {
                    continue;
                }
                let touched = picture.model.note_leaves(shown, now);
                if !touched.is_empty() {
                    picture.note(touched);
                }
            }
            Ok(()) = told.faults.changed() => {
                gauges.faults(told.faults.borrow_and_update().len());
                continue;
            }
            // The sources are tasks of their own, and their ends are seen there.
            else => return std::future::pending().await,
        }
        gauges.show(&picture);
        pictures.send_replace(Arc::new(picture));
        if has_news && let Some(first) = first.take() {
            first.release();
        }
    }
}

/// How often it is told which certificates proxies hold. A connection lasts for a minute beyond the certificate that
/// it began with, so there is time.
const LEAVES_EVERY: Duration = Duration::from_secs(5);

/// Changes that are remembered one by one. Whoever is further behind is looked at as a whole.
const REMEMBERED: usize = 256;

#[cfg(test)]
mod tests {
    use ferrule_identity::TrustDomain;

    use super::*;

    #[test]
    fn whoever_is_far_behind_has_everything_looked_at() {
        let domain = TrustDomain::parse("shop.local").unwrap();
        let mut picture = Picture::new(Model::new(domain, &[]));
        for _ in 0..REMEMBERED + 10 {
            picture.note(Touched::default());
        }
        let number = picture.number;
        let Since::These(one) = picture.since(number - 1) else {
            panic!("one change is remembered");
        };
        assert_eq!(one.len(), 1);
        assert_eq!(picture.since(number), Since::These(Vec::new()));
        assert_eq!(picture.since(number - REMEMBERED as u64 - 1), Since::Anything);
        assert!(
            matches!(picture.since(number - REMEMBERED as u64), Since::These(all) if all.len() == REMEMBERED)
        );
    }
}
