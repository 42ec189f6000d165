//! The serving end: what one stream wants of one type, holds of it, and has to be sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Name, Version, WILDCARD};

/// What there is of one type, as one subscriber may see it.
pub trait View {
    /// Everything that `*` stands for.
    fn each(&self, tell: &mut dyn FnMut(&Name, Version));

    /// The version of `name`, when it is part of what `*` stands for.
    fn covered(&self, name: &str) -> Option<Version>;

    /// What is known by `name`, which may be another name than the resources' own; covered by `*` or not. Empty when
    /// there is nothing.
    fn find(&self, name: &str) -> Vec<(Name, Version)>;

    /// How many bytes the resource takes in a message.
    fn size(&self, name: &str) -> usize;
}

/// What a request says, its type left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Names that are wanted from now on.
    pub subscribe: Vec<String>,
    /// Names that are not wanted any more.
    pub unsubscribe: Vec<String>,
    /// What is held from before, in the first request.
    pub held: BTreeMap<String, String>,
    /// The response that is answered; empty for none.
    pub nonce: String,
    /// Why the response is refused; `None` where it is taken.
    pub error: Option<String>,
}

/// What a request answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// No response.
    Nothing,
    /// A response that was not the last one sent.
    Stale,
    /// The last response was taken.
    Taken,
    /// The last response was refused, for this reason.
    Refused(String),
}

/// A response that has to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Its number.
    pub nonce: u64,
    /// What is new or has changed, each with the names that it was asked for by.
    pub changed: Vec<(Name, Vec<Name>)>,
    /// What is there no more, and what was asked for and is not there.
    pub removed: Vec<Name>,
    /// Whether nothing is left to be sent after it.
    pub is_last: bool,
}

/// What one stream wants of one type, and holds of it.
#[derive(Debug, Default)]
pub struct Subscription {
    wildcard: bool,
    /// Names that were asked for one by one, each with what it led to when it was told last; empty for nothing.
    asked: BTreeMap<Name, Vec<Name>>,
    held: HashMap<Name, Version>,
    /// Versions that were refused; they are offered again when anything else changes.
    refused: HashMap<Name, Version>,
    /// Removals in responses that were refused, with whether there was nothing else in them.
    refused_removals: HashMap<Name, bool>,
    /// Whether anything has changed since what was refused was offered again.
    may_retry: bool,
    pending: Option<Pending>,
    last_nonce: u64,
    has_begun: bool,
    /// Whether a response is due even if nothing has changed: to a first request, and to a name that is asked for.
    owes_answer: bool,
    /// Names that were asked for, and not looked up since.
    unanswered: BTreeSet<Name>,
    /// Resources that are owed to whoever asked, also where they are held already.
    owed: BTreeSet<Name>,
    touched: Touched,
}

#[derive(Debug)]
struct Pending {
    nonce: u64,
    changed: Vec<(Name, Version)>,
    removed: Vec<Name>,
}

#[derive(Debug, Default)]
enum Touched {
    #[default]
    Nothing,
    Some(BTreeSet<Name>),
    All,
}

impl Subscription {
    /// Takes a request in.
    pub fn request(&mut self, asked: Asked) -> Answered {
        let answered = self.answer(&asked.nonce, asked.error);
        if !self.has_begun {
            self.has_begun = true;
            self.owes_answer = true;
            // As the protocol has it: who names nothing at first wants everything.
            self.wildcard = asked.subscribe.is_empty();
            for (name, version) in asked.held {
                // A version that is none of ours is held all the same: it must be removed when its resource is gone.
                let version = Version::parse(&version).unwrap_or(Version(0));
                self.held.insert(name.into(), version);
            }
            self.touch_all();
        }
        for name in asked.unsubscribe {
            self.unsubscribe(&name);
        }
        for name in asked.subscribe {
            self.owes_answer = true;
            if name == WILDCARD {
                self.wildcard = true;
                self.touch_all();
            } else {
                let name = Name::from(name);
                self.unanswered.insert(name.clone());
                self.asked.entry(name).or_default();
            }
        }
        answered
    }

    fn answer(&mut self, nonce: &str, error: Option<String>) -> Answered {
        if nonce.is_empty() {
            return Answered::Nothing;
        }
        match &self.pending {
            Some(pending) if pending.nonce.to_string() == nonce => {}
            _ => return Answered::Stale,
        }
        let Some(pending) = self.pending.take() else {
            return Answered::Stale;
        };
        match error {
            None => {
                for (name, version) in pending.changed {
                    self.refused.remove(&name);
                    self.held.insert(name, version);
                }
                for name in pending.removed {
                    self.held.remove(&name);
                    self.refused_removals.remove(&name);
                }
                Answered::Taken
            }
            Some(reason) => {
                // What is gone is told again without what it came with: that is no reason to go on believing in it.
                let alone = pending.changed.is_empty();
                for name in pending.removed {
                    if self.asked.contains_key(&name) {
                        self.unanswered.insert(name.clone());
                    }
                    self.mark([name.clone()]);
                    self.refused_removals.insert(name, alone);
                }
                let held = |(name, version): &(Name, Version)| self.held.get(name) == Some(version);
                let is_mixed = !pending.changed.iter().all(held);
                for (name, version) in pending.changed {
                    if is_mixed && self.held.get(&name) == Some(&version) {
                        // It was an answer to somebody who asked, and is not what was wrong.
                        self.owed.insert(name);
                        self.owes_answer = true;
                    } else {
                        self.refused.insert(name, version);
                    }
                }
                Answered::Refused(reason)
            }
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == WILDCARD {
            self.wildcard = false;
            self.touch_all();
            return;
        }
        self.unanswered.remove(name);
        // Whoever unsubscribes forgets by itself, and is not told of it any more.
        let led_to = self.asked.remove(name).unwrap_or_default();
        for resource in led_to.iter().map(AsRef::as_ref).chain([name]) {
            let wanted = self.wildcard
                || self
                    .asked
                    .values()
                    .any(|others| others.iter().any(|one| **one == *resource));
            if !wanted {
                self.held.remove(resource);
            }
        }
    }

    /// Notes that these resources may have changed, come or gone.
    pub fn touch(&mut self, names: impl IntoIterator<Item = Name>) {
        self.may_retry = true;
        self.mark(names);
    }

    /// Notes that anything may have changed, and what `*` stands for, too.
    pub fn touch_all(&mut self) {
        self.may_retry = true;
        self.touched = Touched::All;
    }

    /// Notes that these resources are to be looked at.
    fn mark(&mut self, names: impl IntoIterator<Item = Name>) {
        match &mut self.touched {
            Touched::All => {}
            Touched::Some(some) => some.extend(names),
            Touched::Nothing => {
                let some: BTreeSet<Name> = names.into_iter().collect();
                if !some.is_empty() {
                    self.touched = Touched::Some(some);
                }
            }
        }
    }

    /// What has to be sent now, about `limit` bytes of it: `None` while a response is unanswered, and when whoever
    /// subscribed has everything already.
    pub fn next(&mut self, view: &impl View, limit: usize) -> Option<Sending> {
        if self.pending.is_some() || !self.has_begun {
            return None;
        }
        let touched = std::mem::take(&mut self.touched);
        if matches!(touched, Touched::Nothing) && !self.owes_answer {
            return None;
        }
        let mut offer = self.offer(view, &touched);
        if offer.changed.is_empty() && offer.removed.is_empty() && !self.owes_answer {
            return None;
        }
        let mut room = limit;
        let mut changed = Vec::new();
        while let Some((name, version)) = offer.changed.pop_first() {
            room = room.saturating_sub(view.size(&name));
            self.owed.remove(&name);
            changed.push((name, version));
            if room == 0 {
                break;
            }
        }
        let is_last = offer.changed.is_empty();
        if is_last {
            self.owes_answer = false;
            self.owed.clear();
        } else {
            match touched {
                Touched::All => self.touched = Touched::All,
                _ => self.mark(offer.changed.into_keys()),
            }
        }
        // What was asked for by a name comes with that name.
        let mut aliases: HashMap<&Name, Vec<Name>> = HashMap::new();
        for (alias, led_to) in &self.asked {
            for name in led_to.iter().filter(|name| *name != alias) {
                aliases.entry(name).or_default().push(alias.clone());
            }
        }
        let named = |(name, _): &(Name, Version)| (name.clone(), aliases.remove(name).unwrap_or_default());
        let shown = changed.iter().map(named).collect();
        self.last_nonce += 1;
        let removed: Vec<Name> = offer.removed.into_iter().collect();
        self.pending = Some(Pending {
            nonce: self.last_nonce,
            changed,
            removed: removed.clone(),
        });
        Some(Sending {
            nonce: self.last_nonce,
            changed: shown,
            removed,
            is_last,
        })
    }

    /// Everything that would have to be sent.
    fn offer(&mut self, view: &impl View, touched: &Touched) -> Offer {
        let mut offer = Offer::default();
        let wanted = self.look_up_asked(view, &mut offer);
        let mut judge = |name: &Name, now: Option<Version>| {
            let held = self.held.get(name);
            match now {
                Some(version) if held != Some(&version) => {
                    offer.changed.insert(name.clone(), version);
                }
                None if held.is_some() => {
                    offer.removed.insert(name.clone());
                }
                _ => {}
            }
        };
        let covered = |name: &Name| if self.wildcard { view.covered(name) } else { None };
        let now = |name: &Name| wanted.get(name).copied().or_else(|| covered(name));
        match touched {
            Touched::Nothing => {}
            Touched::Some(names) => names.iter().for_each(|name| judge(name, now(name))),
            Touched::All => {
                if self.wildcard {
                    view.each(&mut |name, version| judge(name, Some(version)));
                }
                self.held.keys().for_each(|name| judge(name, now(name)));
            }
        }
        wanted
            .iter()
            .for_each(|(name, version)| judge(name, Some(*version)));
        self.refused_removals.retain(|name, _| now(name).is_none());
        let is_new = |name: &Name, version: &Version| self.refused.get(name) != Some(version);
        let has_news = offer.changed.iter().any(|(name, version)| is_new(name, version))
            || offer
                .removed
                .iter()
                .any(|name| !self.refused_removals.contains_key(name));
        // What was refused is offered again beside something new, once, and never alone: it would be refused again.
        if has_news && std::mem::take(&mut self.may_retry) {
            let again: Vec<Name> = self.refused.keys().cloned().collect();
            for name in again {
                match now(&name) {
                    Some(version) if self.held.get(&name) != Some(&version) => {
                        offer.changed.insert(name, version);
                    }
                    _ => {
                        self.refused.remove(&name);
                    }
                }
            }
        } else {
            offer.changed.retain(|name, version| is_new(name, version));
            offer
                .removed
                .retain(|name| self.refused_removals.get(name) != Some(&true));
        }
        for name in &self.owed {
            if let Some(version) = now(name)
                && self.refused.get(name) != Some(&version)
            {
                offer.changed.insert(name.clone(), version);
            }
        }
        offer
    }

    /// What the names that were asked for lead to now. Tells of names that have begun to lead to nothing.
    fn look_up_asked(&mut self, view: &impl View, offer: &mut Offer) -> HashMap<Name, Version> {
        let mut wanted = HashMap::new();
        let unanswered = std::mem::take(&mut self.unanswered);
        for (name, led_to) in &mut self.asked {
            let found = view.find(name);
            let is_asking = unanswered.contains(name);
            let was_something = !led_to.is_empty() || is_asking;
            if found.is_empty() && was_something {
                offer.removed.insert(name.clone());
            } else if !found.is_empty() {
                self.refused_removals.remove(name);
            }
            if is_asking {
                self.owed.extend(found.iter().map(|(name, _)| name.clone()));
            }
            *led_to = found.iter().map(|(name, _)| name.clone()).collect();
            wanted.extend(found);
        }
        wanted
    }

    /// Whether a response waits for its answer.
    pub fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// How many resources are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether whoever subscribed holds this version of `name`.
    pub fn holds(&self, name: &str, version: Version) -> bool {
        self.held.get(name) == Some(&version)
    }

    /// How many names were asked for one by one.
    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Whose versions were refused.
    pub fn refused(&self) -> HashSet<&str> {
        self.refused.keys().map(AsRef::as_ref).collect()
    }
}

#[derive(Default)]
struct Offer {
    changed: BTreeMap<Name, Version>,
    removed: BTreeSet<Name>,
}
