//! `ferrule explain`: says whether a connection would be let through, and by which rule.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::process::ExitCode;

use ferrule_identity::SpiffeId;
use ferrule_policy::{Ask, HostName, Inbound, Outbound, Source, Verdict, explain, judge};
use serde_json::json;

use crate::arguments::Explain;
use crate::context::Context;
use crate::failure::{EXIT_WRONG, Failure};
use crate::picture::{Member, Picture};
use crate::print::Tone;

pub(crate) fn run(arguments: &Explain, context: &Context) -> Result<ExitCode, Failure> {
    let picture = context.picture(&arguments.files)?;
    let question = Question::new(arguments, &picture)?;
    let ask = question.ask();
    let verdict = judge(&picture.policy, &ask);
    let sentence = explain(&ask, &verdict);
    if context.is_json() {
        context.printer.json(&told(arguments, &verdict, &sentence))?;
    } else {
        let tone = match verdict.word() {
            "allow" => Tone::Good,
            "audit" => Tone::Doubtful,
            _ => Tone::Bad,
        };
        let (word, rest) = sentence.split_once(':').unwrap_or(("", &sentence));
        let word = context.printer.paint(tone, word);
        context.printer.line(&format!("{word}:{rest}"))?;
    }
    Ok(if verdict.is_allowed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_WRONG)
    })
}

fn told(arguments: &Explain, verdict: &Verdict, sentence: &str) -> serde_json::Value {
    let nearest = verdict.would.nearest().or_else(|| verdict.is.nearest());
    json!({
        "from": arguments.from, "to": arguments.to, "port": arguments.port,
        "allowed": verdict.is_allowed(), "verdict": verdict.word(), "reason": verdict.is.reason(),
        "rule": verdict.rule().map(ToString::to_string), "nearest": nearest.map(ToString::to_string),
        "sentence": sentence,
    })
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
        port: u16,
    },
}

enum Caller {
    Id(SpiffeId),
    InClear(IpAddr),
}

impl<'p> Question<'p> {
    fn new(arguments: &Explain, picture: &'p Picture) -> Result<Self, Failure> {
        let port = arguments.port;
        let from = picture.member(&arguments.from)?;
        if let Some(called) = picture.member(&arguments.to)? {
            let caller = match from {
                Some(member) => Caller::Id(member.id.clone()),
                None => stranger(&arguments.from, picture)?,
            };
            return Ok(Self::In { caller, called, port });
        }
        let Some(caller) = from else {
            return Err(unknown(&arguments.to, picture));
        };
        if let Ok(address) = arguments.to.parse() {
            let host = None;
            return Ok(Self::Out {
                caller,
                address,
                host,
                port,
            });
        }
        let host = HostName::parse(&arguments.to).map_err(|_| unknown(&arguments.to, picture))?;
        let address = match arguments.address {
            Some(address) => address,
            None => lookup(&host, port)?,
        };
        Ok(Self::Out {
            caller,
            address,
            host: Some(host),
            port,
        })
    }

    fn ask(&self) -> Ask<'_> {
        match self {
            Self::In { caller, called, port } => Ask::Inbound(Inbound {
                source: match caller {
                    Caller::Id(id) => Source::Verified(id),
                    Caller::InClear(address) => Source::Plaintext(*address),
                },
                destination: called.workload(),
                port: *port,
            }),
            Self::Out {
                caller,
                address,
                host,
                port,
            } => Ask::Outbound(Outbound {
                source: caller.workload(),
                address: *address,
                port: *port,
                services: &[],
                host: host.as_ref(),
            }),
        }
    }
}

/// A caller that is none of the workloads: another identity, or an address in clear.
fn stranger(text: &str, picture: &Picture) -> Result<Caller, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(Caller::InClear(address));
    }
    SpiffeId::parse(text)
        .map(Caller::Id)
        .map_err(|_| unknown(text, picture))
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
