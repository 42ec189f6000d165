//! Keeps the file in which workloads with `view: true` find who speaks with whom.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control::Places;
use super::edges::Edges;
use super::plan::Plan;
use super::rules::replace;

/// The file, and what stands in it at all times.
pub(super) struct View {
    path: PathBuf,
    trust_domain: String,
    members: Vec<Value>,
    /// When it was last written.
    written: Option<Instant>,
    /// Whether something has changed since.
    is_stale: bool,
}

impl View {
    /// The file of the mesh of `plan`; none where nobody may read it.
    pub(super) fn new(plan: &Plan, places: &Places) -> Option<Self> {
        if !plan.workloads.iter().any(|workload| workload.view) {
            return None;
        }
        let mut members: Vec<Value> = plan
            .workloads
            .iter()
            .map(|workload| {
                json!({
                    "name": format!("{}.{}", workload.name, workload.namespace),
                    "identity": workload.identity, "copies": workload.replicas.len(),
                })
            })
            .collect();
        for publisher in &plan.publishers {
            members.push(json!({
                "name": format!("publish.{}", publisher.namespace), "identity": publisher.identity, "copies": 1,
            }));
        }
        Some(Self {
            path: places.view().join(FILE),
            trust_domain: plan.trust_domain.clone(),
            members,
            written: None,
            is_stale: true,
        })
    }

    /// Writes the file anew where `edges` has changed, but not all the time.
    pub(super) fn show(&mut self, edges: &Edges, is_changed: bool) {
        self.is_stale |= is_changed;
        if !self.is_stale || self.written.is_some_and(|written| written.elapsed() < PAUSE) {
            return;
        }
        self.written = Some(Instant::now());
        // The disk is full, or somebody took the folder away: what stood there stays, and the next change tries again.
        self.is_stale = replace(&self.path, self.text(edges).as_bytes()).is_err();
    }

    fn text(&self, edges: &Edges) -> String {
        let all = edges.all();
        let rows: Vec<Value> = all
            .iter()
            .take(MOST)
            .map(|(edge, traffic)| json!({ "edge": edge, "traffic": traffic }))
            .collect();
        json!({
            "trust_domain": self.trust_domain, "members": self.members,
            "left_out": all.len() - rows.len(), "edges": rows,
        })
        .to_string()
    }
}

/// The file's name.
pub(super) const FILE: &str = "edges.json";

/// The variable in which a workload that may read the file finds its path.
pub(super) const VARIABLE: &str = "FERRULE_VIEW";

/// How long the file stays at least.
const PAUSE: Duration = Duration::from_millis(500);

/// More edges than anybody looks at.
const MOST: usize = 500;
