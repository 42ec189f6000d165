//! `ferrule explain`: says whether a connection would be let through, and by which rule.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::process::ExitCode;

use ferrule_identity::SpiffeId;
use ferrule_policy::{Ask, Decision, Grant, HostName, Inbound, Outbound, Source, Verdict, explain, judge};
use serde_json::json;

use crate::arguments::Explain;
use crate::context::Context;
use crate::failure::{EXIT_WRONG, Failure};
use crate::picture::{Member, Picture, Service};
use crate::print::Tone;

pub(crate) fn run(arguments: &Explain, context: &Context) -> Result<ExitCode, Failure> {
    let picture = context.picture(&arguments.files, &arguments.cluster)?;
    let mut answers: Vec<Answer> = Vec::new();
    for question in questions(arguments, &picture)? {
        let answer = question.answer(&picture, !arguments.cluster.namespaces.is_empty())?;
        if !answers.iter().any(|other| other.sentence == answer.sentence) {
            answers.push(answer);
        }
    }
    // Where copies differ, the one that is not let through comes first.
    answers.sort_by_key(|answer| answer.is_allowed);
    let is_allowed = answers.iter().all(|answer| answer.is_allowed);
    if context.is_json() {
        let Some((first, others)) = answers.split_first() else {
            return Err(unknown(&arguments.to, &picture));
        };
        let mut told = first.to_json(arguments);
        if !others.is_empty() {
            let others = others.iter().map(|answer| answer.to_json(arguments));
            told["other_copies"] = others.collect();
        }
        context.printer.json(&told)?;
    } else {
        for answer in &answers {
            let tone = match answer.word {
                "allow" => Tone::Good,
                "audit" => Tone::Doubtful,
                _ => Tone::Bad,
            };
            let (word, rest) = answer.sentence.split_once(':').unwrap_or(("", &answer.sentence));
            let word = context.printer.paint(tone, word);
            context.printer.line(&format!("{word}:{rest}"))?;
        }
        if answers.len() > 1 {
            context
                .printer
                .tell("its copies differ in their labels, so that rules are not the same for all of them");
        }
    }
    Ok(if is_allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_WRONG)
    })
}

/// What comes of a question.
struct Answer {
    is_allowed: bool,
    word: &'static str,
    reason: &'static str,
    rule: Option<String>,
    nearest: Option<String>,
    sentence: String,
}

impl Answer {
    fn of(ask: &Ask<'_>, verdict: &Verdict) -> Self {
        let nearest = verdict.would.nearest().or_else(|| verdict.is.nearest());
        Self {
            is_allowed: verdict.is_allowed(),
            word: verdict.word(),
            reason: verdict.is.reason(),
            rule: verdict.rule().map(ToString::to_string),
            nearest: nearest.map(ToString::to_string),
            sentence: explain(ask, verdict),
        }
    }

    /// Not even a matter of rules: the sidecar knows of nobody there.
    fn nowhere(sentence: String) -> Self {
        Self {
            is_allowed: false,
            word: "deny",
            reason: "unknown_destination",
            rule: None,
            nearest: None,
            sentence,
        }
    }

    fn to_json(&self, arguments: &Explain) -> serde_json::Value {
        json!({
            "from": arguments.from, "to": arguments.to, "port": arguments.port,
            "allowed": self.is_allowed, "verdict": self.word, "reason": self.reason,
            "rule": self.rule, "nearest": self.nearest, "sentence": self.sentence,
        })
    }
}

/// What is asked, whole, so that the question can borrow from it.
enum Question<'p> {
    /// A workload of the mesh is called.
    In {
        caller: Caller,
        called: &'p Member,
        port: u16,
    },
    /// A workload of the mesh calls out of it.
    Out {
        caller: &'p Member,
        address: IpAddr,
        host: Option<HostName>,
        service: Option<&'p Service>,
        port: u16,
    },
}

#[derive(Clone)]
enum Caller {
    Id(SpiffeId),
    InClear(IpAddr),
}

/// What is asked, for each copy whose labels may make a difference.
fn questions<'p>(arguments: &Explain, picture: &'p Picture) -> Result<Vec<Question<'p>>, Failure> {
    let port = arguments.port;
    let called = picture.copies(&arguments.to)?;
    if !called.is_empty() {
        let caller = caller(&arguments.from, picture)?;
        let asked = called.into_iter().map(|called| Question::In {
            caller: caller.clone(),
            called,
            port,
        });
        return Ok(asked.collect());
    }
    let callers = picture.copies(&arguments.from)?;
    let named = picture.beyond(&arguments.to);
    let plain = picture.plain(&arguments.to);
    let plain = plain.and_then(|plain| plain.names.addresses.first().copied());
    let (address, host) = match (
        arguments.to.parse().ok(),
        named.and_then(|service| service.addresses.first()),
    ) {
        (Some(address), _) => (address, None),
        (None, Some(address)) => (*address, None),
        (None, None) => match (plain, HostName::parse(&arguments.to)) {
            (Some(address), _) => (address, None),
            (None, Err(_)) => return Err(unknown(&arguments.to, picture)),
            (None, Ok(_)) if callers.is_empty() => return Err(unknown(&arguments.to, picture)),
            (None, Ok(host)) => {
                let address = match arguments.address {
                    Some(address) => address,
                    None => lookup(&host, port)?,
                };
                (address, Some(host))
            }
        },
    };
    if callers.is_empty() {
        return Err(unknown(&arguments.from, picture));
    }
    let service = named.or_else(|| picture.beyond(&address.to_string()));
    let asked = callers.into_iter().map(|caller| Question::Out {
        caller,
        address,
        host: host.clone(),
        service,
        port,
    });
    Ok(asked.collect())
}

impl Question<'_> {
    /// The answer, out of a picture that may be only a part of the whole.
    fn answer(&self, picture: &Picture, is_partial: bool) -> Result<Answer, Failure> {
        let judged = |ask: &Ask<'_>| Answer::of(ask, &judge(&picture.policy, ask));
        Ok(match self {
            Self::In { caller, called, port } => judged(&Ask::Inbound(Inbound {
                source: match caller {
                    Caller::Id(id) => Source::Verified(id),
                    Caller::InClear(address) => Source::Plaintext(*address),
                },
                destination: called.workload(),
                port: *port,
            })),
            Self::Out {
                caller,
                address,
                host,
                service,
                port,
            } => {
                let ask = Ask::Outbound(Outbound {
                    source: caller.workload(),
                    address: *address,
                    port: *port,
                    services: service.map_or(&[][..], |service| std::slice::from_ref(&service.name)),
                    host: host.as_ref(),
                });
                let verdict = judge(&picture.policy, &ask);
                let is_built_in = matches!(verdict.is, Decision::Allowed(Grant::BuiltIn(_)));
                // A sidecar finds its way before it asks for leave.
                let refused = match service {
                    _ if is_built_in => None,
                    Some(service) if !service.ports.contains(port) => {
                        Some(format!("the service {} has no port {port}", service.name))
                    }
                    None if host.is_none() && picture.policy.is_in_mesh_ranges(*address) => Some(format!(
                        "{address} lies within the mesh's ranges, and nobody with a sidecar is known there"
                    )),
                    _ => None,
                };
                match refused {
                    Some(_) if is_partial => {
                        return Err(Failure::Missing {
                            message: format!(
                                "nobody is known at {address}, port {port}, in these namespaces; ask without --namespace"
                            ),
                        });
                    }
                    Some(why) => {
                        Answer::nowhere(format!("denied: {} to {address}:{port}: {why}", caller.title()))
                    }
                    None => Answer::of(&ask, &verdict),
                }
            }
        })
    }
}

/// Who calls a workload of the mesh: another of them, somebody beside it, or a stranger.
fn caller(text: &str, picture: &Picture) -> Result<Caller, Failure> {
    if let Ok(id) = SpiffeId::parse(text) {
        return Ok(Caller::Id(id));
    }
    let called = picture.called(text);
    let ids: BTreeSet<&SpiffeId> = called.iter().map(|member| &member.id).collect();
    match (ids.first(), ids.len()) {
        (Some(id), 1) => return Ok(Caller::Id((*id).clone())),
        (Some(_), _) => {
            picture.copies(text)?;
        }
        (None, _) => {}
    }
    let plain = picture.plain(text);
    match plain.and_then(|plain| plain.names.addresses.first()) {
        Some(address) => Ok(Caller::InClear(*address)),
        None => stranger(text, picture),
    }
}

/// A caller that is none of the workloads: another identity, or an address in clear.
fn stranger(text: &str, picture: &Picture) -> Result<Caller, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(Caller::InClear(address));
    }
    Err(unknown(text, picture))
}

fn unknown(text: &str, picture: &Picture) -> Failure {
    let known = match picture.titles() {
        none if none.is_empty() => "no workload is known; name one of kind Workload with --rules".to_owned(),
        titles => {
            format!("there are {titles}, identities (spiffe://…), addresses, and names of hosts to call")
        }
    };
    Failure::Usage {
        message: format!("who is {text}? {known}"),
    }
}

fn lookup(host: &HostName, port: u16) -> Result<IpAddr, Failure> {
    let cannot = format!("find the address of {host}; give one with --address");
    let found = (host.as_str(), port).to_socket_addrs();
    let mut found = found.map_err(Failure::could_not(cannot.clone()))?;
    let first = found.next().ok_or("it has none");
    Ok(first.map_err(Failure::could_not(cannot))?.ip())
}
