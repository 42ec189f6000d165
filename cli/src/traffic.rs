//! Reads the connections that sidecars tell of, one kind of them at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;

/// Connections of one kind: the same two ends, the same port, the same verdict by the same rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// Which side logged it: `inbound` or `outbound`.
    pub(crate) direction: String,
    /// The namespace of the workload that logged it.
    pub(crate) namespace: String,
    /// Its name as its sidecar knows it.
    pub(crate) pod: String,
    /// Who called, as far as it was proved; empty in clear.
    pub(crate) source: String,
    /// Where the caller was, for those in clear.
    pub(crate) source_address: String,
    /// Who was called, as far as it was known.
    pub(crate) destination: String,
    /// Where that was.
    pub(crate) destination_address: String,
    /// The port that was called.
    pub(crate) port: u16,
    /// The service that was called.
    pub(crate) service: String,
    /// `mutual`, `plaintext`, `local` or `none`.
    pub(crate) tls: String,
    /// `allow`, `audit`, `deny`, or nothing when it was not judged.
    pub(crate) verdict: String,
    /// The rule that decided.
    pub(crate) rule: String,
}

/// The connections of some logs, by their kinds.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// How many connections of each kind ended.
    pub(crate) kinds: BTreeMap<Kind, u64>,
    /// Kinds beyond the most that are kept.
    pub(crate) dropped: u64,
}

impl Traffic {
    /// Adds the lines of the log at `path`; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read. Lines that are about something else are passed over.
    pub(crate) fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        let cannot = || Failure::could_not(format!("read the log {}", path.display()));
        if path == Path::new("-") {
            return self.add(io::stdin().lock()).map_err(cannot());
        }
        let file = File::open(path).map_err(cannot())?;
        self.add(BufReader::new(file)).map_err(cannot())
    }

    fn add(&mut self, mut lines: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.by_ref().take(MOST_BYTES).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if let Some(kind) = serde_json::from_slice(&line).ok().as_ref().and_then(read) {
                self.count(kind, 1);
            }
        }
    }

    /// Adds what the sidecar of a pod sums up of its connections since its start.
    pub(crate) fn add_edges(&mut self, edges: &Value, namespace: &str, pod: &str) {
        for row in edges.as_array().into_iter().flatten() {
            let count = row["connections"].as_u64().unwrap_or_default();
            if row["src_id"] == OVERFLOW {
                self.dropped += count;
            } else if let Some(kind) = kind(row) {
                let kind = Kind {
                    namespace: namespace.to_owned(),
                    pod: pod.to_owned(),
                    ..kind
                };
                self.count(kind, count);
            }
        }
    }

    fn count(&mut self, kind: Kind, more: u64) {
        if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&kind) {
            self.dropped += more;
        } else {
            *self.kinds.entry(kind).or_default() += more;
        }
    }
}

/// The connection whose end a line tells; `None` for every other line.
fn read(line: &Value) -> Option<Kind> {
    (line["event"] == "close").then(|| kind(line)).flatten()
}

/// The kind of a connection, as a line of a log tells it, or a row of a sum.
fn kind(line: &Value) -> Option<Kind> {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    line["direction"].as_str()?;
    let host = |address: String| match address.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => address,
    };
    Some(
        Kind {
            direction: text("direction"),
            namespace: text("namespace"),
            pod: text("pod"),
            source: text("src_id"),
            source_address: host(text("src_addr")),
            destination: text("dst_id"),
            destination_address: text("dst_addr"),
            port: u16::try_from(line["dst_port"].as_u64()?).ok()?,
            service: text("service"),
            tls: text("tls"),
            verdict: text("verdict"),
            rule: text("rule"),
        }
        .without_what_is_proved(),
    )
}

impl Kind {
    /// Addresses beside a proved identity only tell copies apart.
    fn without_what_is_proved(mut self) -> Self {
        if !self.source.is_empty() {
            self.source_address.clear();
        }
        if !self.destination.is_empty() {
            self.destination_address.clear();
        }
        self
    }

    /// Who called, in as few words as tell it.
    pub(crate) fn caller(&self) -> &str {
        if self.source.is_empty() {
            &self.source_address
        } else {
            &self.source
        }
    }

    /// Who was called.
    pub(crate) fn called(&self) -> &str {
        [&self.service, &self.destination, &self.destination_address]
            .into_iter()
            .find(|text| !text.is_empty())
            .map_or("", |text| text.as_str())
    }

    /// Where the caller in clear was.
    pub(crate) fn clear_caller(&self) -> Option<IpAddr> {
        self.source_address.parse().ok()
    }
}

/// The longest line that is read as one.
const MOST_BYTES: u64 = 64 * 1024;

/// What a sidecar calls the sum of all that found no room of its own.
const OVERFLOW: &str = "overflow";

/// Kinds that are kept: more are no traffic but a scan.
const MOST_KINDS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"time":"t","event":"close","direction":"inbound","namespace":"shop","pod":"api-0",
        "src_id":"spiffe://shop.local/ns/shop/sa/web","dst_id":"","src_addr":"10.1.0.2:40000","dst_addr":"10.1.0.3",
        "dst_port":8080,"service":"","tls":"mutual","verdict":"allow","rule":"shop/api rule 1","reason":"finished"}"#;

    #[test]
    fn connections_of_one_kind_are_counted_together() {
        let line = LINE.replace('\n', " ");
        let text = [
            line.clone(),
            line.replace(":40000", ":50000"),
            "no json".to_owned(),
            line.replace("close", "open"),
            line.replace("allow", "deny"),
        ]
        .join("\n");
        let mut traffic = Traffic::default();
        traffic.add(text.as_bytes()).unwrap();
        let counts: Vec<_> = traffic
            .kinds
            .iter()
            .map(|(kind, count)| (kind.verdict.as_str(), *count))
            .collect();
        assert_eq!(counts, [("allow", 2), ("deny", 1)]);
        let (kind, _) = traffic.kinds.first_key_value().unwrap();
        assert_eq!(kind.caller(), "spiffe://shop.local/ns/shop/sa/web");
        assert_eq!(kind.called(), "10.1.0.3");
    }

    #[test]
    fn what_a_sidecar_sums_up_is_of_the_same_kinds() {
        let line: Value = serde_json::from_str(&LINE.replace('\n', " ")).unwrap();
        let mut row = line.clone();
        row["src_addr"] = "".into();
        row["connections"] = 7.into();
        let overflow = serde_json::json!({ "src_id": "overflow", "direction": "overflow", "dst_port": 0, "connections": 3 });
        let mut traffic = Traffic::default();
        traffic.add_edges(&serde_json::json!([row, overflow]), "shop", "api-0");
        let kinds: Vec<_> = traffic.kinds.into_iter().collect();
        assert_eq!(kinds, [(read(&line).unwrap(), 7)]);
        assert_eq!(traffic.dropped, 3);
    }
}
