//! The asking end: what is held of one type, to be resumed from when the stream breaks.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};

/// What is held of one type, each resource with its version.
#[derive(Debug, Clone)]
pub struct Mirror<T> {
    held: BTreeMap<String, Held<T>>,
    /// Names that were asked for, with whether the answer was that there is nothing.
    asked: BTreeMap<String, Option<Answer>>,
    is_complete: bool,
}

#[derive(Debug, Clone)]
struct Held<T> {
    version: String,
    value: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Something,
    Nothing,
}

/// What a response that was taken amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// More belongs to it; nothing of it is to be used yet.
    Part,
    /// What is held is whole, and to be used.
    Whole,
}

impl<T> Default for Mirror<T> {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            is_complete: false,
        }
    }
}

impl<T> Mirror<T> {
    /// Takes a response in, each resource as `read` reads it.
    ///
    /// # Errors
    /// The first that `read` gives; then nothing of the response was taken.
    pub fn take<E>(
        &mut self,
        response: &DeltaDiscoveryResponse,
        read: impl Fn(&Resource) -> Result<T, E>,
    ) -> Result<Taken, E> {
        let read: Vec<T> = response.resources.iter().map(read).collect::<Result<_, E>>()?;
        for (resource, value) in response.resources.iter().zip(read) {
            for name in resource.aliases.iter().chain([&resource.name]) {
                if let Some(answer) = self.asked.get_mut(name) {
                    *answer = Some(Answer::Something);
                }
            }
            let version = resource.version.clone();
            self.held.insert(resource.name.clone(), Held { version, value });
        }
        for name in &response.removed_resources {
            self.held.remove(name);
            if let Some(answer) = self.asked.get_mut(name) {
                *answer = Some(Answer::Nothing);
            }
        }
        let is_part = response.system_version_info.is_empty();
        self.is_complete |= !is_part;
        Ok(if is_part { Taken::Part } else { Taken::Whole })
    }

    /// What is held, by name.
    pub fn values(&self) -> impl Iterator<Item = (&str, &T)> {
        self.held.iter().map(|(name, held)| (name.as_str(), &held.value))
    }

    /// How many resources are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether everything has come at least once.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// What to resume from: the version of everything that is held.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let version = |(name, held): (&String, &Held<T>)| (name.clone(), held.version.clone());
        self.held.iter().map(version).collect()
    }

    /// Notes that `name` is asked for; false when it was before.
    pub fn ask(&mut self, name: String) -> bool {
        let is_new = !self.asked.contains_key(&name);
        if is_new {
            self.asked.insert(name, None);
        }
        is_new
    }

    /// Notes that `name` is not asked for any more.
    pub fn forget(&mut self, name: &str) {
        self.asked.remove(name);
    }

    /// The names that are asked for.
    pub fn asked(&self) -> impl Iterator<Item = &String> {
        self.asked.keys()
    }

    /// Whether an answer to `name` has come.
    pub fn is_answered(&self, name: &str) -> bool {
        self.asked.get(name).is_some_and(Option::is_some)
    }

    /// The asked-for names that lead to nothing.
    pub fn absent(&self) -> BTreeSet<&str> {
        let absent = self
            .asked
            .iter()
            .filter(|(_, answer)| **answer == Some(Answer::Nothing));
        absent.map(|(name, _)| name.as_str()).collect()
    }

    /// Notes that the stream broke: answers are to be given anew, what is held stays.
    pub fn interrupt(&mut self) {
        self.asked.values_mut().for_each(|answer| *answer = None);
    }
}
