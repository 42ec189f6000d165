//! Traffic that sidecars tell of, with the labels of whoever was there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use super::arguments::Traffic as Arguments;
use crate::context::Context;
use crate::failure::{EXIT_COULD_NOT, Failure};
use crate::meant::Meant;
use crate::picture::Picture;
use crate::sidecars::{ask_all, tell_silent};
use crate::state::Running;
use crate::traffic::{Kind, Traffic};

/// Traffic that sidecars tell of, sidecar by sidecar.
#[derive(Debug, Default)]
pub(super) struct Watched {
    of_each: Vec<(Option<BTreeMap<String, String>>, Traffic)>,
    /// How many did not tell.
    silent: usize,
}

/// The mesh that `arguments` mean, none where they name rules of their own; and who is in it, under which rules.
///
/// # Errors
/// When there is none, or its rules have faults.
pub(super) fn subject(arguments: &Arguments, context: &Context) -> Result<(Option<Meant>, Picture), Failure> {
    if let Some(trust_domain) = &arguments.files.trust_domain {
        return Ok((None, Picture::of_files(trust_domain, &arguments.files.rules)?));
    }
    let meant = context.meant(&arguments.cluster)?;
    let picture = meant.picture()?;
    Ok((Some(meant), picture))
}

/// Reads the logs that `arguments` name; without any, those of the mesh that runs; in a cluster, what sidecars tell of
/// since their start.
///
/// # Errors
/// When a log cannot be read, or there is none.
pub(super) fn read(
    arguments: &Arguments,
    meant: Option<&Meant>,
    context: &Context,
) -> Result<Watched, Failure> {
    let mut watched = Watched::default();
    if !arguments.logs.is_empty() {
        for path in &arguments.logs {
            watched.add_log(path, None)?;
        }
        return Ok(watched);
    }
    match meant {
        Some(meant @ Meant::Cluster(_)) => watched.add_edges(meant, context)?,
        Some(Meant::Here(running)) => watched.add_logs(running)?,
        None => watched.add_logs(&context.running()?)?,
    }
    Ok(watched)
}

impl Watched {
    fn add_logs(&mut self, running: &Running) -> Result<(), Failure> {
        for workload in &running.mesh.workloads {
            self.add_log(&workload.proxy_log, Some(workload.labels.clone()))?;
        }
        Ok(())
    }

    fn add_log(&mut self, path: &Path, labels: Option<BTreeMap<String, String>>) -> Result<(), Failure> {
        let mut traffic = Traffic::default();
        traffic.add_file(path)?;
        if traffic.dropped > 0 {
            return Err(Failure::Missing {
                message: format!(
                    "{} has more kinds of connections than any mesh; somebody scanned it. Cut the log, and look again",
                    path.display()
                ),
            });
        }
        self.of_each.push((labels, traffic));
        Ok(())
    }

    fn add_edges(&mut self, meant: &Meant, context: &Context) -> Result<(), Failure> {
        let replicas = meant.replicas()?;
        let sockets = replicas.iter().map(|replica| &replica.socket);
        let answers = context.in_runtime(async { Ok(ask_all(sockets, "/edges").await) })?;
        for (replica, answer) in replicas.iter().zip(answers) {
            match answer {
                Ok(edges) => {
                    let mut traffic = Traffic::default();
                    traffic.add_edges(&edges, &replica.member.namespace, &replica.pod);
                    if traffic.dropped > 0 {
                        context.printer.tell(&format!(
                            "{}: it has met more kinds of connections than it keeps apart; {} are missing here",
                            replica.title, traffic.dropped
                        ));
                    }
                    self.of_each.push((Some(replica.member.labels.clone()), traffic));
                }
                Err(error) => {
                    self.silent += 1;
                    tell_silent(&replica.title, &error, context);
                }
            }
        }
        Ok(())
    }

    /// How a command ends that has shown this.
    pub(super) fn code(&self) -> ExitCode {
        if self.silent > 0 {
            ExitCode::from(EXIT_COULD_NOT)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Every kind of connection, with the labels of the workload that told of it where they are known.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&Kind, Option<&BTreeMap<String, String>>)> {
        self.counted().map(|(kind, labels, _)| (kind, labels))
    }

    /// The same, with how many there were.
    pub(super) fn counted(&self) -> impl Iterator<Item = (&Kind, Option<&BTreeMap<String, String>>, u64)> {
        self.of_each.iter().flat_map(|(labels, traffic)| {
            let kinds = traffic.kinds.iter();
            kinds.map(move |(kind, count)| (kind, labels.as_ref(), *count))
        })
    }
}
