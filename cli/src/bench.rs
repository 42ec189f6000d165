//! `ferrule bench`: measures what Ferrule costs at the user's own place.

pub(crate) mod arguments;
mod cost;

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use ferrule_load::bulk::{self, Bulk, Direction};
use ferrule_load::openings::{self, Opening};
use ferrule_load::requests::{self, Asking};
use ferrule_load::spread::Spread;
use ferrule_load::{LoadError, no_meter, runtime, server};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::context::Context;
use crate::failure::Failure;
use crate::print::Table;
use arguments::{Bench, Run, Serve};
use cost::{Compared, Cost};

pub(crate) fn run(bench: &Bench, context: &Context) -> Result<ExitCode, Failure> {
    match bench {
        Bench::Serve(serve) => be_far(serve, context),
        Bench::Run(run) => be_near(run, context),
    }
}

fn be_far(serve: &Serve, context: &Context) -> Result<ExitCode, Failure> {
    let ended = runtime::run(async {
        let listener = TcpListener::bind(serve.listen).await?;
        context
            .printer
            .tell(&format!("listening on {}", listener.local_addr()?));
        tokio::select! {
            served = server::serve(listener) => served,
            stopped = tokio::signal::ctrl_c() => stopped,
        }
    });
    let ended = ended.map_err(Failure::could_not("be the far end"))?;
    ended.map_err(Failure::could_not(format!("listen on {}", serve.listen)))?;
    Ok(ExitCode::SUCCESS)
}

/// What is printed for programs.
#[derive(Debug, Serialize)]
struct Found {
    rounds: u16,
    seconds: f64,
    summary: String,
    cost: Cost,
    /// MiB of each sidecar that was named, afterwards.
    sidecars_mib: Vec<f64>,
    measures: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    compared: Compared,
    direct_spread: Spread,
    through_spread: Spread,
    /// The way through in times of the direct one, within each round.
    ratio: Option<Spread>,
}

fn be_near(run: &Run, context: &Context) -> Result<ExitCode, Failure> {
    let (direct, through) = (address(&run.direct)?, address(&run.through)?);
    let measure = |load: Load, way: SocketAddr, name: &str| {
        load.put(way, run.time)
            .map_err(Failure::could_not(format!("measure the way {name}")))
    };
    let mut all = LOADS.map(Load::nothing);
    for round in 0..run.rounds {
        context
            .printer
            .tell(&format!("round {} of {} …", round + 1, run.rounds));
        for (load, compared) in LOADS.into_iter().zip(&mut all) {
            // Who goes first changes: what the first one warms up the other one finds warm.
            if round % 2 == 0 {
                compared.direct.push(measure(load, direct, "without Ferrule")?);
                compared.through.push(measure(load, through, "through Ferrule")?);
            } else {
                compared.through.push(measure(load, through, "through Ferrule")?);
                compared.direct.push(measure(load, direct, "without Ferrule")?);
            }
        }
    }
    let sidecars: Vec<f64> = run
        .sidecar
        .iter()
        .map(|id| memory(*id))
        .collect::<Result<_, _>>()?;
    let [up, down, requests, _, connections] = &all;
    let ratio = |compared: &Compared| compared.ratio().map_or(f64::INFINITY, |ratio| ratio.median);
    // The direction in which more is lost.
    let bulk = if ratio(up) < ratio(down) { up } else { down };
    let cost = Cost::of(bulk, requests, connections, &sidecars);
    let found = Found {
        rounds: run.rounds,
        seconds: run.time.as_secs_f64(),
        summary: cost.sentence(),
        cost,
        sidecars_mib: sidecars,
        measures: all.into_iter().map(measured).collect(),
    };
    if context.is_json() {
        context.printer.json(&found)?;
    } else {
        context.printer.table(&table(&found))?;
        context.printer.line(&format!("\n{}", found.summary))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measured(compared: Compared) -> Measured {
    Measured {
        direct_spread: Spread::of(compared.direct.iter().copied()),
        through_spread: Spread::of(compared.through.iter().copied()),
        ratio: compared.ratio(),
        compared,
    }
}

fn table(found: &Found) -> Table {
    let mut table = Table::new(["LOAD", "UNIT", "WITHOUT", "THROUGH", "TIMES"]);
    for measured in &found.measures {
        table.row([
            measured.compared.title.into(),
            measured.compared.unit.into(),
            measured.direct_spread.to_string().into(),
            measured.through_spread.to_string().into(),
            measured
                .ratio
                .map_or_else(String::new, |ratio| ratio.to_string())
                .into(),
        ]);
    }
    table
}

/// The loads that are put on both ways.
#[derive(Debug, Clone, Copy)]
enum Load {
    Bulk(Direction),
    Requests(usize),
    Connections,
}

const LOADS: [Load; 5] = [
    Load::Bulk(Direction::Up),
    Load::Bulk(Direction::Down),
    Load::Requests(1),
    Load::Requests(16),
    Load::Connections,
];

impl Load {
    fn nothing(self) -> Compared {
        let (name, title, unit) = match self {
            Self::Bulk(Direction::Up) => ("up", "1 connection, to the far end", "Gbit/s"),
            Self::Bulk(Direction::Down) => ("down", "1 connection, from the far end", "Gbit/s"),
            Self::Requests(1) => ("requests-1", "requests of 1 KiB, 1 connection", "p50 µs"),
            Self::Requests(_) => ("requests-16", "requests of 1 KiB, 16 connections", "p50 µs"),
            Self::Connections => ("connections", "a new connection for each request", "p50 µs"),
        };
        Compared {
            name,
            title,
            unit,
            direct: Vec::new(),
            through: Vec::new(),
        }
    }

    fn put(self, way: SocketAddr, time: Duration) -> Result<f64, LoadError> {
        let warm_up = time / 4;
        match self {
            Self::Bulk(direction) => {
                let bulk = Bulk {
                    direction,
                    connections: 1,
                    warm_up,
                    time,
                };
                Ok(runtime::run(bulk::run(bulk, way, &no_meter))??.gigabits())
            }
            Self::Requests(connections) => {
                let asking = Asking {
                    connections,
                    size: REQUEST_BYTES,
                    rate: None,
                    warm_up,
                    time,
                };
                Ok(runtime::run(requests::run(asking, way, &no_meter))??
                    .delays
                    .micros(0.5))
            }
            Self::Connections => {
                let opening = Opening {
                    parallel: 1,
                    size: REQUEST_BYTES,
                    warm_up,
                    time,
                };
                Ok(runtime::run(openings::run(opening, way, &no_meter))??
                    .delays
                    .micros(0.5))
            }
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, Failure> {
    let mut found = text.to_socket_addrs().map_err(|error| Failure::Usage {
        message: format!("{text} is no HOST:PORT that is known here: {error}"),
    })?;
    found.next().ok_or_else(|| Failure::Missing {
        message: format!("{text} has no address"),
    })
}

/// What process `id` holds in memory, in MiB.
fn memory(id: u32) -> Result<f64, Failure> {
    let path = format!("/proc/{id}/status");
    let cannot = || Failure::could_not(format!("read {path}"));
    let status = fs::read_to_string(&path).map_err(cannot())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    let kib = kib.ok_or(io::ErrorKind::InvalidData);
    Ok(kib.map_err(|kind| cannot()(io::Error::from(kind)))? / 1024.0)
}

const REQUEST_BYTES: u32 = 1024;
