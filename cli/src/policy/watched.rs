//! Traffic that was logged, with the labels of whoever logged it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::arguments::Traffic as Arguments;
use crate::context::Context;
use crate::failure::Failure;
use crate::traffic::{Kind, Traffic};

/// Traffic that was logged, log by log.
#[derive(Debug, Default)]
pub(super) struct Watched {
    logs: Vec<(Option<BTreeMap<String, String>>, Traffic)>,
}

/// Reads the logs that `arguments` name; without any, those of the mesh that runs.
///
/// # Errors
/// When a log cannot be read, or there is none.
pub(super) fn read(arguments: &Arguments, context: &Context) -> Result<Watched, Failure> {
    let logs: Vec<(PathBuf, Option<BTreeMap<String, String>>)> = if arguments.logs.is_empty() {
        let running = context.running()?;
        let workloads = running.mesh.workloads.into_iter();
        workloads
            .map(|workload| (workload.proxy_log, Some(workload.labels)))
            .collect()
    } else {
        arguments.logs.iter().map(|log| (log.clone(), None)).collect()
    };
    let mut watched = Watched::default();
    for (path, labels) in logs {
        let mut traffic = Traffic::default();
        traffic.add_file(&path)?;
        if traffic.dropped > 0 {
            return Err(Failure::Missing {
                message: format!(
                    "{} has more kinds of connections than any mesh; somebody scanned it. Cut the log, and look again",
                    path.display()
                ),
            });
        }
        watched.logs.push((labels, traffic));
    }
    Ok(watched)
}

impl Watched {
    /// Every kind of connection, with the labels of the workload that logged it where they are known.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&Kind, Option<&BTreeMap<String, String>>)> {
        self.counted().map(|(kind, labels, _)| (kind, labels))
    }

    /// The same, with how many there were.
    pub(super) fn counted(&self) -> impl Iterator<Item = (&Kind, Option<&BTreeMap<String, String>>, u64)> {
        self.logs.iter().flat_map(|(labels, traffic)| {
            let kinds = traffic.kinds.iter();
            kinds.map(move |(kind, count)| (kind, labels.as_ref(), *count))
        })
    }
}
