//! `ferrule edges`: shows who talks to whom.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::arguments::Watched;
use crate::context::Context;
use crate::failure::{EXIT_COULD_NOT, Failure};
use crate::print::{Cell, Table, Tone, size};
use crate::sidecars::Sidecars;

pub(crate) fn run(arguments: &Watched, context: &Context) -> Result<ExitCode, Failure> {
    let sidecars = Sidecars::of(&arguments.control, &arguments.cluster, context)?;
    let (answers, silent) = context.in_runtime(async { Ok(sidecars.ask("/edges", context).await) })?;
    let mut edges: BTreeMap<Edge, Sum> = BTreeMap::new();
    let both = arguments.all || sidecars.are_alone();
    for (_, answer) in &answers {
        for row in answer.as_array().into_iter().flatten() {
            if both || sidecars.show(row) {
                edges
                    .entry(Edge::read(row, both))
                    .or_default()
                    .add(&Sum::read(row));
            }
        }
    }
    if context.is_json() {
        let rows: Vec<Value> = edges.iter().map(|(edge, sum)| edge.to_json(sum)).collect();
        context.printer.json(&rows)?;
    } else if edges.is_empty() {
        context.printer.tell("nobody has talked to anybody yet");
    } else {
        context.printer.table(&table(&edges, &sidecars))?;
    }
    Ok(if silent > 0 {
        ExitCode::from(EXIT_COULD_NOT)
    } else {
        ExitCode::SUCCESS
    })
}

fn table(edges: &BTreeMap<Edge, Sum>, sidecars: &Sidecars) -> Table {
    let mut table = Table::new([
        "FROM",
        "TO",
        "PORT",
        "TLS",
        "VERDICT",
        "CONNECTIONS",
        "SENT",
        "ANSWERED",
        "RULE",
    ]);
    for (edge, sum) in edges {
        table.row([
            sidecars.name(&edge.source, &edge.source_address).into(),
            sidecars.name(&edge.destination, &edge.destination_address).into(),
            edge.port.to_string().into(),
            Cell::toned(edge.tls.as_str(), tls_tone(&edge.tls)),
            Cell::toned(edge.verdict.as_str(), verdict_tone(&edge.verdict)),
            sum.connections.to_string().into(),
            size(sum.bytes_in).into(),
            size(sum.bytes_out).into(),
            edge.rule.as_str().into(),
        ]);
    }
    table
}

/// The colour of a word for how a connection is protected.
pub(crate) fn tls_tone(tls: &str) -> Tone {
    match tls {
        "mutual" => Tone::Good,
        "plaintext" => Tone::Doubtful,
        _ => Tone::Plain,
    }
}

/// The colour of a verdict.
pub(crate) fn verdict_tone(verdict: &str) -> Tone {
    match verdict {
        "allow" => Tone::Good,
        "deny" => Tone::Bad,
        "audit" => Tone::Doubtful,
        _ => Tone::Plain,
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    source: String,
    source_address: String,
    destination: String,
    destination_address: String,
    port: u64,
    service: String,
    /// Empty where only one side is shown.
    direction: String,
    tls: String,
    verdict: String,
    rule: String,
}

#[derive(Debug, Default)]
struct Sum {
    connections: u64,
    bytes_in: u64,
    bytes_out: u64,
    last_seen: u64,
}

impl Edge {
    fn read(row: &Value, both: bool) -> Self {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Self {
            source: text("src_id"),
            source_address: text("src_addr"),
            destination: text("dst_id"),
            destination_address: text("dst_addr"),
            port: row["dst_port"].as_u64().unwrap_or_default(),
            service: text("service"),
            direction: if both { text("direction") } else { String::new() },
            tls: text("tls"),
            verdict: text("verdict"),
            rule: text("rule"),
        }
    }

    fn to_json(&self, sum: &Sum) -> Value {
        json!({
            "src_id": self.source, "src_addr": self.source_address,
            "dst_id": self.destination, "dst_addr": self.destination_address, "dst_port": self.port,
            "service": self.service, "direction": self.direction, "tls": self.tls, "verdict": self.verdict,
            "rule": self.rule, "connections": sum.connections, "bytes_in": sum.bytes_in,
            "bytes_out": sum.bytes_out, "last_seen": sum.last_seen,
        })
    }
}

impl Sum {
    fn read(row: &Value) -> Self {
        let number = |name: &str| row[name].as_u64().unwrap_or_default();
        Self {
            connections: number("connections"),
            bytes_in: number("bytes_in"),
            bytes_out: number("bytes_out"),
            last_seen: number("last_seen"),
        }
    }

    fn add(&mut self, more: &Self) {
        self.connections += more.connections;
        self.bytes_in += more.bytes_in;
        self.bytes_out += more.bytes_out;
        self.last_seen = self.last_seen.max(more.last_seen);
    }
}
