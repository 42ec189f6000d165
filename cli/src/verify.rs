//! `ferrule verify`: lets a workload's sidecar call another workload, and shows the evidence from the wire.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ferrule_daemon::logging::Chain;
use ferrule_identity::SpiffeId;
use ferrule_policy::{Ask, Inbound, Source, explain, judge};
use serde_json::{Value, json};

use crate::arguments::Verify;
use crate::context::Context;
use crate::failure::{EXIT_COULD_NOT, EXIT_WRONG, Failure};
use crate::meant::Replica;
use crate::picture::{Member, Picture};
use crate::print::Tone;
use crate::sidecar::Socket;

pub(crate) fn run(arguments: &Verify, context: &Context) -> Result<ExitCode, Failure> {
    let probes = match (&arguments.control, arguments.address, &arguments.expect) {
        (Some(control), Some(address), Some(expected)) => vec![Probe {
            title: format!("{} -> {address}", control.display()),
            socket: Socket::new(control),
            address,
            expected: expected.clone(),
            rules: None,
        }],
        _ => of_mesh(arguments, context)?,
    };
    let mut evidence = Vec::new();
    let mut unseen = 0;
    for probe in probes {
        match context.in_runtime(probe.run()) {
            Ok(told) => evidence.push((probe, told)),
            Err(failure) => {
                unseen += 1;
                context
                    .printer
                    .tell(&format!("{}: {}", probe.title, Chain(&failure)));
            }
        }
    }
    let is_fine = |(probe, told): &(Probe, Value)| probe.faults(told).is_empty();
    if context.is_json() {
        let told: Vec<Value> = evidence.iter().map(|(probe, told)| probe.to_json(told)).collect();
        context.printer.json(&told)?;
    } else {
        for (probe, told) in &evidence {
            probe.print(told, context)?;
        }
    }
    Ok(if !evidence.iter().all(is_fine) {
        ExitCode::from(EXIT_WRONG)
    } else if unseen > 0 {
        ExitCode::from(EXIT_COULD_NOT)
    } else {
        ExitCode::SUCCESS
    })
}

/// Each copy and port of B, called by the first copy of A whose sidecar runs.
fn of_mesh(arguments: &Verify, context: &Context) -> Result<Vec<Probe>, Failure> {
    let meant = context.meant(&arguments.cluster)?;
    let picture = meant.picture()?;
    let replicas = meant.replicas()?;
    let (from, to) = (
        arguments.from.as_deref().unwrap_or_default(),
        arguments.to.as_deref().unwrap_or_default(),
    );
    let callers = copies(&replicas, &picture, from)?;
    let called = copies(&replicas, &picture, to)?;
    let running = callers.iter().find(|replica| replica.is_started);
    let Some(caller) = running.or(callers.first()) else {
        return Err(nobody(from, &picture));
    };
    let mut probes = Vec::new();
    for replica in called {
        let ports: Vec<u16> = arguments
            .port
            .map_or_else(|| replica.ports.clone(), |port| vec![port]);
        for port in ports {
            for address in &replica.member.names.addresses {
                probes.push(Probe {
                    title: format!("{} -> {}:{port}", caller.title, replica.title),
                    socket: caller.socket.clone(),
                    address: (*address, replica.door(port)).into(),
                    expected: replica.member.id.clone(),
                    rules: Some(judged(&caller.member, &replica.member, port, &picture)),
                });
            }
        }
    }
    if probes.is_empty() {
        return Err(Failure::Usage {
            message: format!("{to} names no port, or lives nowhere yet; say a port with --port"),
        });
    }
    Ok(probes)
}

fn copies<'r>(replicas: &'r [Replica], picture: &Picture, text: &str) -> Result<Vec<&'r Replica>, Failure> {
    let meant = picture.copies(text)?;
    if meant.is_empty() {
        return Err(nobody(text, picture));
    }
    let copies = replicas.iter().filter(|replica| meant.contains(&&replica.member));
    Ok(copies.collect())
}

fn nobody(text: &str, picture: &Picture) -> Failure {
    let message = match picture.plain(text) {
        Some(_) => format!("{text} has no sidecar, so that there is nothing to verify"),
        None => format!("who is {text}? there are {}", picture.titles()),
    };
    Failure::Usage { message }
}

/// Whether the rules let the caller in, with the sentence about it.
fn judged(caller: &Member, called: &Member, port: u16, picture: &Picture) -> (bool, String) {
    let ask = Ask::Inbound(Inbound {
        source: Source::Verified(&caller.id),
        destination: called.workload(),
        port,
    });
    let verdict = judge(&picture.policy, &ask);
    (verdict.is_allowed(), explain(&ask, &verdict))
}

/// One call to be made.
struct Probe {
    title: String,
    socket: Socket,
    address: SocketAddr,
    expected: SpiffeId,
    /// What the rules say, where they are known.
    rules: Option<(bool, String)>,
}

impl Probe {
    async fn run(&self) -> Result<Value, Failure> {
        let order = json!({ "address": self.address, "expected": self.expected.as_str() });
        let told = self.socket.post("/probe", &order, LIMIT).await?;
        if let Some(error) = told["error"].as_str() {
            return Err(Failure::Missing {
                message: format!("{}: {error}", self.title),
            });
        }
        Ok(told)
    }

    /// What is not as it should be.
    fn faults(&self, told: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let mutual = &told["mutual"];
        if mutual["established"] != true {
            faults.push("there is no mutual TLS".to_owned());
        } else if mutual["admitted"] != true {
            faults.push("the connection is not let through".to_owned());
        }
        let clear = told["plaintext"]["outcome"].as_str().unwrap_or_default();
        if clear == "open" || clear == "answered" {
            faults.push("a connection in clear is not refused".to_owned());
        }
        if let Some((allowed, _)) = self.rules
            && mutual["established"] == true
            && mutual["admitted"] != allowed
        {
            faults.push("what happens is not what the rules say".to_owned());
        }
        faults
    }

    fn to_json(&self, told: &Value) -> Value {
        let mut told = told.clone();
        told["name"] = self.title.clone().into();
        told["allowed_by_rules"] = self.rules.as_ref().map(|(allowed, _)| *allowed).into();
        told["explained"] = self.rules.as_ref().map(|(_, sentence)| sentence.as_str()).into();
        told["faults"] = self.faults(&told).into();
        told
    }

    fn print(&self, told: &Value, context: &Context) -> Result<(), Failure> {
        let printer = &context.printer;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let say = |name: &str, tone: Tone, what: String| {
            printer.line(&format!("  {name:<12}{}", printer.paint(tone, &what)))
        };
        let mutual = &told["mutual"];
        printer.line(&format!("{} ({})", self.title, self.address))?;
        let caller = format!(
            "{}, serial {}",
            text(&told["source"]),
            text(&told["source_serial"])
        );
        say("caller", Tone::Plain, caller)?;
        if mutual["established"] == true {
            let called = format!(
                "{}, serial {}, until {}",
                text(&mutual["peer"]),
                text(&mutual["peer_serial"]),
                text(&mutual["peer_not_after"])
            );
            say("called", Tone::Plain, called)?;
            let agreed = format!(
                "mutual {}, {}, {}, in {} ms",
                text(&mutual["tls_version"]),
                text(&mutual["tls_group"]),
                text(&mutual["tls_cipher"]),
                mutual["handshake_ms"]
            );
            say("tls", Tone::Good, agreed)?;
            let (tone, word) = if mutual["admitted"] == true {
                (Tone::Good, "taken")
            } else {
                (Tone::Bad, "not taken")
            };
            say("connection", tone, format!("{word}: {}", text(&mutual["detail"])))?;
        } else {
            say("tls", Tone::Bad, format!("none: {}", text(&mutual["error"])))?;
        }
        if let Some((_, sentence)) = &self.rules {
            say("rules", Tone::Plain, sentence.clone())?;
        }
        let clear = &told["plaintext"];
        let outcome = text(&clear["outcome"]);
        let tone = match outcome.as_str() {
            "refused" => Tone::Good,
            "unreachable" => Tone::Plain,
            _ => Tone::Bad,
        };
        say("in clear", tone, format!("{outcome}: {}", text(&clear["detail"])))?;
        for fault in self.faults(told) {
            say("fault", Tone::Bad, fault)?;
        }
        Ok(())
    }
}

/// Longer than two connects and a handshake may take.
const LIMIT: Duration = Duration::from_secs(30);
