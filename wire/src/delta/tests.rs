//! Lets a directory and a proxy lose, refuse and resume, and compares what both believe.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};

/// What there is: by name, its content, and whether `*` covers it. `@NAME` is another name of NAME.
#[derive(Debug, Clone, Default)]
struct World(BTreeMap<String, (u8, bool)>);

impl World {
    fn version(content: u8) -> Version {
        Version::of(&[content])
    }
}

impl View for World {
    fn each(&self, tell: &mut dyn FnMut(&Name, Version)) {
        for (name, (content, covered)) in &self.0 {
            if *covered {
                tell(&Name::from(name.as_str()), Self::version(*content));
            }
        }
    }

    fn covered(&self, name: &str) -> Option<Version> {
        let (content, covered) = self.0.get(name)?;
        covered.then(|| Self::version(*content))
    }

    fn find(&self, name: &str) -> Vec<(Name, Version)> {
        let own = name.strip_prefix('@').unwrap_or(name);
        let found = self.0.get(own);
        found
            .map(|(content, _)| (Name::from(own), Self::version(*content)))
            .into_iter()
            .collect()
    }

    fn size(&self, _name: &str) -> usize {
        10
    }
}

/// Both ends, with the stream between them.
#[derive(Default)]
struct Pair {
    world: World,
    server: Subscription,
    client: Mirror<u8>,
}

/// Whether the client takes a content; 13 is bad.
fn read(resource: &Resource) -> Result<u8, ()> {
    let content = resource.resource.as_ref().unwrap().value[0];
    if content == BAD { Err(()) } else { Ok(content) }
}

const BAD: u8 = 13;

impl Pair {
    fn connect(&mut self, wildcard: bool) {
        self.server = Subscription::default();
        self.client.interrupt();
        let mut subscribe: Vec<String> = self.client.asked().cloned().collect();
        if wildcard {
            subscribe.push(WILDCARD.to_owned());
        }
        let asked = Asked {
            subscribe,
            held: self.client.versions(),
            ..Asked::default()
        };
        assert_eq!(self.server.request(asked), Answered::Nothing);
    }

    fn respond(&mut self) -> Option<(DeltaDiscoveryResponse, bool)> {
        let sending = self.server.next(&self.world, 25)?;
        assert!(
            self.server.next(&self.world, 25).is_none(),
            "one response at a time"
        );
        let resource = |(name, aliases): &(Name, Vec<Name>)| {
            let (content, _) = self.world.0[&**name];
            Resource {
                name: name.to_string(),
                version: World::version(content).to_string(),
                aliases: aliases.iter().map(ToString::to_string).collect(),
                resource: Some(crate::proto::google::protobuf::Any {
                    type_url: String::new(),
                    value: vec![content].into(),
                }),
            }
        };
        let response = DeltaDiscoveryResponse {
            system_version_info: if sending.is_last {
                "1".to_owned()
            } else {
                String::new()
            },
            resources: sending.changed.iter().map(resource).collect(),
            nonce: sending.nonce.to_string(),
            removed_resources: sending.removed.iter().map(ToString::to_string).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        Some((response, sending.is_last))
    }

    /// One response and its answer; false when there was nothing to say.
    fn exchange(&mut self) -> bool {
        let Some((response, is_last)) = self.respond() else {
            return false;
        };
        let taken = self.client.take(&response, read);
        let asked = Asked {
            nonce: response.nonce,
            error: taken.is_err().then(|| "bad".to_owned()),
            ..Asked::default()
        };
        let answered = self.server.request(asked);
        match taken {
            Ok(taken) => {
                assert_eq!(answered, Answered::Taken);
                assert_eq!(taken == Taken::Whole, is_last);
            }
            Err(()) => assert_eq!(answered, Answered::Refused("bad".to_owned())),
        }
        true
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.exchange() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn holds(&self) -> BTreeMap<String, u8> {
        self.client
            .values()
            .map(|(name, content)| (name.to_owned(), *content))
            .collect()
    }

    fn set(&mut self, name: &str, content: Option<u8>) {
        match content {
            Some(content) => self.world.0.insert(name.to_owned(), (content, true)),
            None => self.world.0.remove(name),
        };
        self.server.touch([Name::from(name)]);
    }
}

#[test]
fn only_what_changed_is_sent() {
    let mut pair = Pair::default();
    pair.set("a", Some(1));
    pair.set("b", Some(2));
    pair.connect(true);
    pair.settle();
    pair.set("b", Some(3));
    let (response, _) = pair.respond().unwrap();
    assert_eq!(response.resources.len(), 1);
    assert_eq!(response.resources[0].name, "b");
}

#[test]
fn whoever_resumes_is_told_only_the_difference() {
    let mut pair = Pair::default();
    for (name, content) in [("a", 1), ("b", 2), ("c", 3)] {
        pair.set(name, Some(content));
    }
    pair.connect(true);
    pair.settle();
    pair.world.0.remove("a");
    pair.set("b", Some(9));
    pair.connect(true);
    let (response, is_last) = pair.respond().unwrap();
    assert_eq!((response.resources.len(), is_last), (1, true));
    assert_eq!(response.removed_resources, ["a"]);
}

#[test]
fn whoever_holds_everything_is_told_so_when_it_resumes() {
    let mut pair = Pair::default();
    pair.set("a", Some(1));
    pair.connect(true);
    pair.settle();
    pair.connect(true);
    let (response, is_last) = pair.respond().unwrap();
    assert_eq!(
        (
            response.resources.len(),
            response.removed_resources.len(),
            is_last
        ),
        (0, 0, true)
    );
}

// A refusal means that the version is not held, and it is not offered again by itself.
#[test]
fn what_is_refused_is_not_held_and_comes_with_the_next_change() {
    let mut pair = Pair::default();
    pair.set("a", Some(1));
    pair.connect(true);
    pair.settle();
    pair.set("a", Some(BAD));
    pair.settle();
    assert!(!pair.server.holds("a", World::version(BAD)));
    assert!(pair.server.holds("a", World::version(1)), "the last good one is");
    assert_eq!(pair.holds(), BTreeMap::from([("a".to_owned(), 1)]));
    assert!(pair.respond().is_none());
    pair.set("b", Some(2));
    let (response, _) = pair.respond().unwrap();
    assert_eq!(response.resources.len(), 2, "tried again beside something new");
}

#[test]
fn an_answer_to_another_response_is_stale() {
    let mut pair = Pair::default();
    pair.set("a", Some(1));
    pair.connect(true);
    pair.respond().unwrap();
    for nonce in ["0", "2", "x"] {
        let asked = Asked {
            nonce: nonce.to_owned(),
            ..Asked::default()
        };
        assert_eq!(pair.server.request(asked), Answered::Stale);
    }
    assert!(pair.server.is_waiting());
}

#[test]
fn whoever_asks_by_another_name_is_always_answered() {
    let mut pair = Pair::default();
    pair.world.0.insert("far".to_owned(), (1, false));
    pair.set("near", Some(2));
    pair.connect(true);
    pair.settle();
    assert_eq!(pair.holds().len(), 1);
    for name in ["@far", "@near", "@nobody"] {
        assert!(pair.client.ask(name.to_owned()));
        let asked = Asked {
            subscribe: vec![name.to_owned()],
            ..Asked::default()
        };
        pair.server.request(asked);
        pair.settle();
        assert!(pair.client.is_answered(name), "{name}");
    }
    assert_eq!(pair.holds().len(), 2);
    assert_eq!(pair.client.absent().into_iter().collect::<Vec<_>>(), ["@nobody"]);
    pair.world.0.insert("nobody".to_owned(), (3, false));
    pair.server.touch([Name::from("nobody")]);
    pair.settle();
    assert!(pair.client.absent().is_empty(), "it has come");
    pair.world.0.remove("far");
    pair.server.touch([Name::from("far")]);
    pair.settle();
    assert_eq!(pair.client.absent().into_iter().collect::<Vec<_>>(), ["@far"]);
    assert!(!pair.holds().contains_key("far"));
}

#[test]
fn what_many_ask_for_does_not_hold_up_the_rest() {
    let mut pair = Pair::default();
    pair.connect(true);
    pair.settle();
    for name in ["a", "b", "c"] {
        pair.world.0.insert(name.to_owned(), (1, false));
        let alias = format!("@{name}");
        pair.client.ask(alias.clone());
        let asked = Asked {
            subscribe: vec![alias],
            ..Asked::default()
        };
        pair.server.request(asked);
    }
    // More than one response holds.
    pair.set("d", Some(4));
    pair.settle();
    assert_eq!(pair.holds().len(), 4);
}

#[derive(Debug, Clone)]
enum Act {
    Set(u8, Option<(u8, bool)>),
    Exchange,
    Reconnect(bool),
    Ask(u8),
    Unask(u8),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..6_u8, proptest::option::of((10..16_u8, any::<bool>()))).prop_map(|(name, set)| Act::Set(name, set)),
        3 => Just(Act::Exchange),
        1 => any::<bool>().prop_map(Act::Reconnect),
        1 => (0..6_u8).prop_map(Act::Ask),
        1 => (0..6_u8).prop_map(Act::Unask),
    ];
    proptest::collection::vec(act, 0..60)
}

proptest! {
    // Whatever happens in between: at rest the proxy holds what it wants as it is, unless it refused that.
    #[test]
    fn both_ends_agree_in_the_end(acts in acts()) {
        let mut pair = Pair::default();
        let mut wildcard = true;
        pair.connect(true);
        for act in acts {
            match act {
                Act::Set(name, Some(set)) => {
                    let name = name.to_string();
                    pair.world.0.insert(name.clone(), set);
                    pair.server.touch([Name::from(name)]);
                }
                Act::Set(name, None) => pair.set(&name.to_string(), None),
                Act::Exchange => { pair.exchange(); }
                Act::Reconnect(all) => {
                    wildcard = all || pair.client.asked().next().is_none();
                    pair.connect(wildcard);
                }
                Act::Ask(name) => {
                    let name = format!("@{name}");
                    if pair.client.ask(name.clone()) {
                        pair.server.request(Asked { subscribe: vec![name], ..Asked::default() });
                    }
                }
                Act::Unask(name) => {
                    let name = format!("@{name}");
                    pair.client.forget(&name);
                    pair.server.request(Asked { unsubscribe: vec![name], ..Asked::default() });
                }
            }
        }
        pair.settle();
        let wanted = |name: &str, covered: bool| {
            (wildcard && covered) || pair.client.asked().any(|asked| asked[1..] == *name)
        };
        let holds = pair.holds();
        let refused = pair.server.refused();
        for (name, (content, covered)) in &pair.world.0 {
            if wanted(name, *covered) && !refused.contains(name.as_str()) {
                prop_assert_eq!(holds.get(name), Some(content), "{} is not as it is", name);
                let version = World::version(*content);
                prop_assert!(pair.server.holds(name, version));
            }
        }
        for (name, content) in &holds {
            prop_assert!(*content != BAD);
            let there = pair.world.0.get(name);
            // What was asked for and is not wanted any more may stay: it is not told of any more.
            if wildcard && there.is_none() && wanted(name, true) {
                prop_assert!(refused.contains(name.as_str()), "{} is gone", name);
            }
        }
        for name in pair.client.asked() {
            prop_assert!(pair.client.is_answered(name) || !refused.is_empty(), "{} is not answered", name);
        }
    }
}
