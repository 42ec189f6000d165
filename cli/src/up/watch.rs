//! Shows what a running mesh does: states of its parts, lines of its applications, edges; and looks after its rules.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ferrule_daemon::logging::Chain;
use serde_json::json;

use super::control::{Event, Places, Unit, UnitState};
use super::edges::{Edge, Edges};
use super::plan::Plan;
use super::rules::{Sources, Texts};
use super::screen::Screen;
use super::tail::Tail;
use super::view::View;
use crate::context::Context;
use crate::failure::Failure;
use crate::print::{Cell, Table, Tone};
use crate::sidecar::Socket;

/// What is shown of a mesh, and what is known of its parts.
pub(super) struct Watch<'c> {
    screen: Screen<'c>,
    names: HashMap<Unit, String>,
    states: HashMap<Unit, UnitState>,
    pids: HashMap<Unit, u32>,
    logs: Vec<(String, Tail)>,
    proxy_logs: Vec<Tail>,
    edges: Edges,
    view: Option<View>,
    sockets: Vec<Socket>,
    /// The socket that is asked next.
    next: usize,
    /// Edges that are still to be told.
    seen: Vec<Edge>,
    is_changed: bool,
    sources: Sources,
    texts: Texts,
    known: PathBuf,
    looked: Instant,
    published: Vec<String>,
    up: bool,
    began: Instant,
    copies: usize,
}

impl<'c> Watch<'c> {
    /// Nothing has happened yet.
    pub(super) fn new(
        plan: &Plan,
        places: &Places,
        context: &'c Context,
        sources: Sources,
        texts: Texts,
    ) -> Self {
        let mut names = HashMap::from([
            (Unit::Authority, "the CA".to_owned()),
            (Unit::Directory, "the directory".to_owned()),
        ]);
        let (mut logs, mut proxy_logs, mut published) = (Vec::new(), Vec::new(), Vec::new());
        for (workload, replica) in plan.replicas() {
            let title = workload.title(replica);
            names.insert(Unit::Sidecar(replica.number), format!("the sidecar of {title}"));
            names.insert(Unit::Application(replica.number), title.clone());
            logs.push((title, Tail::from_end(places.log(workload, replica))));
            proxy_logs.push(Tail::from_end(places.proxy_log(workload, replica)));
        }
        for publisher in &plan.publishers {
            let namespace = &publisher.namespace;
            names.insert(
                Unit::Publisher(namespace.clone()),
                format!("the sidecar of published ports of {namespace}"),
            );
            proxy_logs.push(Tail::from_end(places.publisher_log(namespace)));
            for port in &publisher.ports {
                published.push(format!(
                    "{}.{namespace}:{} at 127.0.0.1:{}",
                    port.workload, port.port, port.at
                ));
            }
        }
        Self {
            screen: Screen::new(context),
            names,
            states: HashMap::new(),
            pids: HashMap::new(),
            logs,
            proxy_logs,
            edges: Edges::new(plan),
            view: View::new(plan, places),
            sockets: plan
                .replicas()
                .map(|(_, replica)| Socket::new(places.control(replica)))
                .collect(),
            next: 0,
            seen: Vec::new(),
            is_changed: false,
            sources,
            texts,
            known: places.known(),
            looked: Instant::now(),
            published,
            up: false,
            began: Instant::now(),
            copies: plan.replicas().count(),
        }
    }

    /// Whether everything has been ready once.
    pub(super) const fn is_up(&self) -> bool {
        self.up
    }

    /// The process of a part, as the process inside numbers it.
    pub(super) fn pid(&self, unit: &Unit) -> Option<u32> {
        self.pids.get(unit).copied()
    }

    /// Takes note of an event.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Unit { unit, state } => self.unit(unit, state),
            Event::Notice(text) => {
                self.screen
                    .say(Tone::Doubtful, text, &json!({ "event": "notice", "text": text }))
            }
            Event::Up => {
                self.up = true;
                let text = format!(
                    "all {} are up after {:.1} s",
                    self.copies,
                    self.began.elapsed().as_secs_f32()
                );
                self.screen.say(
                    Tone::Good,
                    &text,
                    &json!({ "event": "up", "workloads": self.copies }),
                )?;
                for port in &self.published {
                    self.screen.say(
                        Tone::Good,
                        &format!("published: {port}"),
                        &json!({ "event": "published", "port": port }),
                    )?;
                }
                Ok(())
            }
            Event::Failed(_) => Ok(()),
        }
    }

    fn unit(&mut self, unit: &Unit, state: &UnitState) -> Result<(), Failure> {
        let name = self.names.get(unit).map_or("?", String::as_str).to_owned();
        match state {
            UnitState::Running { pid } => {
                self.pids.insert(unit.clone(), *pid);
            }
            UnitState::Restarting { .. } | UnitState::Ended { .. } => {
                self.pids.remove(unit);
            }
            UnitState::Ready => {}
        }
        let last = self.states.insert(unit.clone(), state.clone());
        let (tone, text) = match state {
            UnitState::Running { .. } => return Ok(()),
            UnitState::Ready if matches!(unit, Unit::Sidecar(_) | Unit::Publisher(_)) && !self.up => {
                return Ok(());
            }
            UnitState::Ready if last == Some(UnitState::Ready) => return Ok(()),
            UnitState::Ready => (Tone::Good, format!("{name} is ready")),
            UnitState::Restarting { how } => (
                Tone::Bad,
                format!("{name} has ended ({how}) and is started again"),
            ),
            UnitState::Ended { how } => (Tone::Doubtful, format!("{name} has ended ({how})")),
        };
        self.screen.say(
            tone,
            &text,
            &json!({ "event": "unit", "unit": name, "text": text }),
        )
    }

    /// Says that everything ends.
    pub(super) fn stopping(&mut self, asked: u32) -> Result<(), Failure> {
        let text = if asked == 1 {
            "stopping; again to stop at once"
        } else {
            "stopping at once"
        };
        self.screen
            .say(Tone::Faint, text, &json!({ "event": "stopping" }))
    }

    /// Looks at everything that changes without telling.
    pub(super) fn tick(&mut self) -> Result<(), Failure> {
        if self.looked.elapsed() >= LOOK_AT_RULES {
            self.looked = Instant::now();
            self.look_at_rules()?;
        }
        for (title, tail) in &mut self.logs {
            for line in tail.lines().unwrap_or_default() {
                self.screen.application(title, &line)?;
            }
        }
        let (mut seen, mut is_changed) = (
            std::mem::take(&mut self.seen),
            std::mem::take(&mut self.is_changed),
        );
        for tail in &mut self.proxy_logs {
            for line in tail.lines().unwrap_or_default() {
                is_changed = true;
                seen.extend(self.edges.take(&line));
            }
        }
        for edge in seen {
            let traffic = self.edges.all().remove(&edge).unwrap_or_default();
            let Edge {
                who,
                whom,
                port,
                tls,
                verdict,
            } = &edge;
            let why = if traffic.rule.is_empty() {
                &traffic.detail
            } else {
                &traffic.rule
            };
            let text = format!("{who} -> {whom}:{port}  {tls}  {verdict}  {why}");
            self.screen.edge(
                tone(verdict),
                text.trim_end(),
                &json!({ "event": "edge", "edge": edge, "rule": traffic.rule, "detail": traffic.detail }),
            )?;
        }
        if let Some(view) = &mut self.view {
            view.show(&self.edges, is_changed);
        }
        if is_changed || self.screen.is_dirty() {
            self.screen.draw(&self.table())?;
        }
        Ok(())
    }

    /// Asks the next few sidecars what is open.
    pub(super) async fn ask(&mut self) {
        if !self.up {
            return;
        }
        let count = self.sockets.len().min(AT_ONCE);
        let asked: Vec<usize> = (0..count)
            .map(|step| (self.next + step) % self.sockets.len())
            .collect();
        self.next = (self.next + count) % self.sockets.len().max(1);
        for number in asked {
            let Some(socket) = self.sockets.get(number) else {
                continue;
            };
            let answer = tokio::time::timeout(PATIENCE, socket.get("/connections")).await;
            // A sidecar that does not answer is being started again, and has nothing open.
            let open = answer.ok().and_then(Result::ok).unwrap_or_default();
            self.seen.extend(self.edges.take_open(number, &open));
            self.is_changed = true;
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new([
            "WHO",
            "WHOM",
            "PORT",
            "TLS",
            "VERDICT",
            "CONNECTIONS",
            "OPEN",
            "BYTES IN",
            "BYTES OUT",
            "RULE",
        ]);
        for (edge, traffic) in self.edges.all() {
            table.row([
                edge.who.as_str().into(),
                edge.whom.as_str().into(),
                edge.port.to_string().into(),
                edge.tls.as_str().into(),
                Cell::toned(edge.verdict.as_str(), tone(&edge.verdict)),
                traffic.connections.to_string().into(),
                traffic.open.to_string().into(),
                traffic.bytes_in.to_string().into(),
                traffic.bytes_out.to_string().into(),
                traffic.rule.as_str().into(),
            ]);
        }
        table
    }

    /// Hands rules on that have changed and are good; tells what is wrong with those that are not.
    fn look_at_rules(&mut self) -> Result<(), Failure> {
        let texts = match self.sources.texts() {
            Ok(texts) => texts,
            // An editor replaces a file by taking it away first; what stays away is seen at the next start.
            Err(_) => return Ok(()),
        };
        if texts == self.texts {
            return Ok(());
        }
        let read = texts.read();
        self.texts = texts;
        match read {
            Ok(described) => match self.texts.publish(&self.known) {
                Ok(()) => {
                    let text = format!("rules taken: {}", described.rules);
                    self.screen.say(
                        Tone::Good,
                        &text,
                        &json!({ "event": "rules", "rules": described.rules }),
                    )
                }
                Err(error) => {
                    let text = format!("the rules are not taken: {}", Chain(&error));
                    self.screen
                        .say(Tone::Bad, &text, &json!({ "event": "rules", "fault": text }))
                }
            },
            Err(problems) => {
                let text = format!("the rules are not taken, the last good ones stay in force:\n{problems}");
                self.screen.say(
                    Tone::Bad,
                    &text,
                    &json!({ "event": "rules", "faults": problems.to_string() }),
                )
            }
        }
    }
}

fn tone(verdict: &str) -> Tone {
    match verdict {
        "allow" => Tone::Good,
        "audit" => Tone::Doubtful,
        _ => Tone::Bad,
    }
}

/// How many sidecars are asked at once.
const AT_ONCE: usize = 8;

/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the rules are looked at.
const LOOK_AT_RULES: Duration = Duration::from_millis(400);
