//! Checks that whatever was answered is on record.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;

use super::server::Server;

/// What the record of a CA says after the measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    /// Rows in all.
    pub(crate) rows: u64,
    /// Certificates that were answered, each of which is on record once.
    pub(crate) answered: usize,
    /// Certificates on record, those of other purposes included.
    pub(crate) issued: usize,
}

/// Proves the record of `server`, and looks for each of the `serials` in it.
pub(crate) fn check(server: &Server, serials: &[String]) -> anyhow::Result<Record> {
    let proof = server.command(&["audit", "verify", "--output", "json"])?;
    let proof: Value = serde_json::from_slice(&proof).context("the proof is no JSON")?;
    ensure!(
        proof["sound"] == true,
        "the record does not hold together: {proof}"
    );
    let exported = server.command(&["audit", "export", "--kind", "issued"])?;
    let mut issued: HashMap<String, usize> = HashMap::new();
    for line in exported
        .split(|octet| *octet == b'\n')
        .filter(|line| !line.is_empty())
    {
        let row: Value = serde_json::from_slice(line).context("a row is no JSON")?;
        let serial = row["body"]["serial"]
            .as_str()
            .context("a row has no serial number")?;
        *issued.entry(serial.to_owned()).or_default() += 1;
    }
    for serial in serials {
        let times = issued.get(serial).copied().unwrap_or_default();
        ensure!(
            times == 1,
            "the certificate {serial} was answered, and is on record {times} times"
        );
    }
    let rows = proof["rows"].as_u64().context("the proof names no rows")?;
    Ok(Record {
        rows,
        answered: serials.len(),
        issued: issued.len(),
    })
}
