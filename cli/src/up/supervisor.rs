//! Runs a mesh from outside: reads its files, starts the process inside, watches, stops, tidies up.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ExitCode, Stdio};
use std::time::Duration;

use ferrule_credentials::join::Host;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::logging::Chain;
use ferrule_daemon::signals::Signals;
use ferrule_identity::Timestamp;
use nix::unistd::geteuid;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::announcer::{Announcer, News};
use super::control::{Event, Order, Places, Start};
use super::neighbours::Neighbours;
use super::plan::{JoinPlan, Machine, Plan, PlanError};
use super::rules::{self, Described, Sources, Texts};
use super::watch::Watch;
use super::{doors, outside, parts, probe, render, running};
use crate::context::Context;
use crate::failure::{EXIT_WRONG, Failure};
use crate::state::Capture;

/// A mesh to be run.
pub(super) struct Supervisor<'c> {
    pub(super) context: &'c Context,
    pub(super) sources: Sources,
    pub(super) mesh_file: PathBuf,
    /// None where connections are to be captured if that is possible.
    pub(super) capture: Option<Capture>,
}

impl Supervisor<'_> {
    /// Runs the mesh until it is told to stop.
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let texts = self
            .sources
            .texts()
            .map_err(Failure::could_not("read the mesh"))?;
        let described = texts.read().map_err(|problems| Failure::Usage {
            message: format!("the mesh cannot be used:\n{problems}"),
        })?;
        let (capture, notice) = match self.capture {
            Some(capture) => (capture, None),
            None => match probe::refusal() {
                None => (Capture::Transparent, None),
                Some(why) => (Capture::Explicit, Some(why)),
            },
        };
        if let Some(why) = notice {
            let _ = writeln!(
                std::io::stderr(),
                "ferrule: connections cannot be captured here, so explicit listeners are used: {why}"
            );
        }
        let ipv6 = Path::new("/proc/net/if_inet6").exists();
        let folder = self.mesh_file.parent().unwrap_or(Path::new("/"));
        let (loopback, _claim) = loopback(capture)?;
        let plan = Plan::new(
            &described.mesh,
            folder,
            Machine {
                capture,
                ipv6,
                loopback,
            },
        );
        let mut plan = plan.map_err(Failure::could_not("plan the mesh"))?;
        for title in plan.stay_who_we_are(geteuid().is_root()) {
            let _ = writeln!(
                std::io::stderr(),
                "ferrule: {title} runs as you, because only root can give it another user"
            );
        }
        let places = self.places(&described)?;
        if plan.host.is_some() && capture == Capture::Explicit {
            return Err(Failure::Missing {
                message: "a mesh of several hosts needs connections to be captured, on each of them"
                    .to_owned(),
            });
        }
        let host = match described.mesh.join {
            None => None,
            Some(directory) => {
                let host = joined(&places, &plan)?;
                plan.join = Some(first_host(&host, directory)?);
                Some(host)
            }
        };
        prepare(&plan, &places, &described, &texts)
            .map_err(Failure::could_not("prepare the state folder"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::could_not("start"))?;
        let ended = runtime.block_on(self.carry(&plan, &places, texts, host));
        running::remove(&places);
        runtime.shutdown_background();
        ended
    }

    fn places(&self, described: &Described) -> Result<Places, Failure> {
        let name = described.mesh.trust_domain.as_str();
        let states = self.context.states();
        let Some(state) = states.folder(name) else {
            return Err(Failure::Usage {
                message: "there is no place for the mesh's state: set HOME or FERRULE_STATE".to_owned(),
            });
        };
        if let Some(other) = states
            .running()?
            .into_iter()
            .find(|other| other.mesh.trust_domain == name)
        {
            return Err(Failure::Usage {
                message: format!(
                    "the mesh {name} runs already, as process {}; stop that one first",
                    other.mesh.pid
                ),
            });
        }
        Ok(Places::new(&state))
    }

    async fn carry(
        &self,
        plan: &Plan,
        places: &Places,
        texts: Texts,
        host: Option<Host>,
    ) -> Result<ExitCode, Failure> {
        let mut signals = Signals::system().map_err(Failure::could_not("listen for signals"))?;
        let relays = Drain::new();
        outside::serve(&places.relay_out(), &relays)
            .map_err(Failure::could_not("open the way out of the mesh"))?;
        let doors = doors::open(plan, places, &relays)?;
        if plan.join.is_none() {
            let settings = render::authority(plan, places, doors.directory);
            rules::replace(&places.authority_settings(), settings.as_bytes())
                .map_err(Failure::could_not("write the CA's settings"))?;
        }
        let part = match plan.capture {
            Capture::Transparent => ["root", "inside"].as_slice(),
            Capture::Explicit => ["inside"].as_slice(),
        };
        let mut announcer = announcer(plan, host.as_ref(), &relays)?;
        let mut neighbours = Neighbours::default();
        let mut inside = Inside::start(part, plan, places)?;
        let mut watch = Watch::new(plan, places, self.context, self.sources.clone(), texts);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = 0;
        let (mut failed, mut started) = (None, None);
        // Whether the state is written as it is.
        let mut is_told = true;
        loop {
            tokio::select! {
                event = inside.events.recv() => match event {
                    Some(Event::Failed(why)) => failed = Some(why),
                    Some(event) => {
                        watch.event(&event)?;
                        if event == Event::Up || (matches!(event, Event::Unit { .. }) && watch.is_up()) {
                            is_told = false;
                        }
                    }
                    None => break,
                },
                _ = ticks.tick() => {
                    watch.ask().await;
                    watch.tick()?;
                    is_told &= started.is_none() || !running::is_stale(places);
                    neighbours
                        .look(plan, places)
                        .map_err(Failure::could_not("write the names of other hosts' services"))?;
                }
                news = next(&mut announcer) => match news {
                    News::Services(services) => neighbours
                        .take(services, plan, places)
                        .map_err(Failure::could_not("write the names of other hosts' services"))?,
                    News::Notice(text) => watch.event(&Event::Notice(text))?,
                },
                _ = signals.next() => {
                    asked += 1;
                    watch.stopping(asked)?;
                    inside.order(if asked == 1 { &Order::Stop } else { &Order::Kill });
                }
            }
            if !is_told {
                let surroundings = running::Surroundings {
                    mesh_file: &self.mesh_file,
                    rules: self.sources.paths(),
                    authority: doors.authority,
                    started: *started.get_or_insert_with(|| Clock::system().unix()),
                    inside: match plan.capture {
                        Capture::Transparent => running::inside_of(inside.child.id()),
                        Capture::Explicit => inside.child.id(),
                    },
                };
                running::write(plan, places, &surroundings, &watch)
                    .map_err(Failure::could_not("write the state of the mesh"))?;
                is_told = true;
            }
        }
        watch.tick()?;
        if let Some(announcer) = &announcer {
            announcer.leave().await;
        }
        relays.cut_now();
        let status = inside
            .child
            .wait()
            .map_err(Failure::could_not("wait for the mesh's processes"))?;
        match failed {
            Some(why) => {
                let _ = writeln!(std::io::stderr(), "ferrule: {why}");
                Ok(ExitCode::from(EXIT_WRONG))
            }
            None if asked > 0 => Ok(ExitCode::SUCCESS),
            None => Err(Failure::Missing {
                message: format!("the mesh's processes ended unasked ({status})"),
            }),
        }
    }
}

/// The second byte of loopback addresses that no other mesh uses, with the listener that keeps others from them. Of use
/// only where nothing is captured.
fn loopback(capture: Capture) -> Result<(u8, Option<TcpListener>), Failure> {
    if capture == Capture::Transparent {
        return Ok((LOOPBACKS.start, None));
    }
    let claim = |byte: u8| {
        Some((
            byte,
            Some(TcpListener::bind((Ipv4Addr::new(127, byte, 0, 1), CLAIM)).ok()?),
        ))
    };
    LOOPBACKS.clone().find_map(claim).ok_or_else(|| Failure::Missing {
        message: "no loopback addresses are free: do many meshes run here?".to_owned(),
    })
}

/// The process inside, from here.
struct Inside {
    child: std::process::Child,
    orders: ChildStdin,
    events: mpsc::Receiver<Event>,
}

impl Inside {
    fn start(part: &[&str], plan: &Plan, places: &Places) -> Result<Self, Failure> {
        let failed = || Failure::could_not("start the mesh's first process");
        let mut command = parts::command(part[0] == "root", part[0], &part[1..]);
        // Out of the terminal's process group: Ctrl-C is for this process, which then stops the others in order.
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = spawned.map_err(failed())?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed()(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        };
        let (send, events) = mpsc::channel(256);
        let reader = std::thread::Builder::new().name("events".to_owned());
        reader
            .spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let Ok(line) = line else { return };
                    if let Ok(event) = serde_json::from_str(&line)
                        && send.blocking_send(event).is_err()
                    {
                        return;
                    }
                }
            })
            .map_err(failed())?;
        let mut inside = Self {
            child,
            orders,
            events,
        };
        let start = Start {
            plan: plan.clone(),
            state: places.state.clone(),
        };
        inside.order(&Order::Start(Box::new(start)));
        Ok(inside)
    }

    /// Gives an order; when nobody is there to take it, the end of the events tells.
    fn order(&mut self, order: &Order) {
        if let Ok(line) = serde_json::to_string(order) {
            let _ = writeln!(self.orders, "{line}");
        }
    }
}

/// Who this host is in the mesh that it has joined.
fn joined(places: &Places, plan: &Plan) -> Result<Host, Failure> {
    let now = Timestamp::from_unix(Clock::system().unix());
    Host::read(&places.host(), now).map_err(|error| Failure::Usage {
        message: format!(
            "this host has not joined {} ({}); join first: ferrule join TOKEN",
            plan.trust_domain,
            Chain(&error)
        ),
    })
}

fn first_host(host: &Host, directory: SocketAddr) -> Result<JoinPlan, Failure> {
    let named = host.addresses.first().map(String::as_str).unwrap_or_default();
    let found = named.to_socket_addrs();
    let found = found.map_err(Failure::could_not(format!("find the address of the CA {named}")))?;
    let authority = found.into_iter().next().ok_or_else(|| Failure::Missing {
        message: format!("the CA {named} has no address"),
    })?;
    Ok(JoinPlan {
        name: host.name.clone(),
        authority,
        directory,
    })
}

/// Who speaks for this host, where it is not the first one.
fn announcer(plan: &Plan, host: Option<&Host>, relays: &Drain) -> Result<Option<Announcer>, Failure> {
    let (Some(host), Some(join)) = (host, &plan.join) else {
        return Ok(None);
    };
    let mut documents = BTreeMap::new();
    for namespace in plan.namespaces() {
        let text = render::places_of(plan, namespace).map_err(Failure::could_not("tell who lives here"))?;
        documents.insert(namespace.to_owned(), text);
    }
    Announcer::start(host, join, documents, relays).map(Some)
}

async fn next(announcer: &mut Option<Announcer>) -> News {
    match announcer {
        Some(announcer) => announcer.next().await,
        None => std::future::pending().await,
    }
}

/// Makes the folders and files that the parts find at their start.
fn prepare(plan: &Plan, places: &Places, described: &Described, texts: &Texts) -> Result<(), PrepareError> {
    let make = |path: PathBuf| {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| PrepareError::Write { path, source })
    };
    make(places.state.clone())?;
    for stale in [places.run(), places.known()] {
        match fs::remove_dir_all(&stale) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(PrepareError::Write { path: stale, source });
            }
            _ => make(stale)?,
        }
    }
    make(places.view())?;
    make(places.state.join("logs"))?;
    let machine = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let namespaces = plan.namespaces();
    let write = |path: PathBuf, text: String| {
        rules::replace(&path, text.as_bytes()).map_err(|source| PrepareError::Write { path, source })
    };
    for namespace in &namespaces {
        make(places.state.join("logs").join(namespace))?;
        write(
            render::hosts_file(places, namespace),
            render::hosts(plan, namespace, &machine, &[]),
        )?;
    }
    write(places.resolvers(), render::resolvers_file(plan))?;
    let known = render::places(plan).map_err(|source| PrepareError::Plan { source })?;
    write(places.known().join("places.yaml"), known)?;
    let preset = described.mesh.access.documents(namespaces);
    if !preset.is_empty() {
        write(places.known().join("access.yaml"), preset)?;
    }
    texts
        .publish(&places.known())
        .map_err(|source| PrepareError::Rules { source })
}

const LOOPBACKS: std::ops::Range<u8> = 213..253;

/// A port that says that a mesh's loopback addresses are in use.
const CLAIM: u16 = 15_999;

/// How often files are looked at.
const TICK: Duration = Duration::from_millis(200);

/// Why the state folder is not ready.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    /// A file or folder.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Who lives where.
    #[error("cannot tell who lives where")]
    Plan {
        /// Why.
        source: PlanError,
    },
    /// The rules.
    #[error("cannot hand the rules on")]
    Rules {
        /// Why.
        source: rules::RulesError,
    },
}
