//! Holds what was found against the controls of the hardening guidance; docs/guidance.md has them all.

use serde::Serialize;

use super::finding::{Kind, Looked};
use crate::print::{Cell, Tone};

/// A control, and how it stands.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    control: &'static str,
    asks: &'static str,
    state: &'static str,
    shown_by: &'static str,
}

/// Each control that a running mesh can be held against, as `looked` finds it.
pub(super) fn judged(looked: &Looked) -> Vec<Judged> {
    CONTROLS
        .iter()
        .map(|control| Judged {
            control: control.name,
            asks: control.asks,
            state: if control.broken_by.iter().any(|kind| looked.has(*kind)) {
                "broken"
            } else if control.broken_by.iter().any(|kind| looked.is_warned(*kind)) {
                "limited"
            } else if !looked.unseen.is_empty() {
                "unsure"
            } else {
                "met"
            },
            shown_by: control.shown_by,
        })
        .collect()
}

impl Judged {
    pub(super) fn row(&self) -> [Cell; 4] {
        let tone = match self.state {
            "met" => Tone::Good,
            "unsure" | "limited" => Tone::Doubtful,
            _ => Tone::Bad,
        };
        [
            self.control.into(),
            Cell::toned(self.state, tone),
            self.asks.into(),
            self.shown_by.into(),
        ]
    }
}

struct Control {
    name: &'static str,
    asks: &'static str,
    /// What is found where it is not met.
    broken_by: &'static [Kind],
    shown_by: &'static str,
}

const CONTROLS: [Control; 8] = [
    Control {
        name: "encryption",
        asks: "all traffic between workloads is encrypted",
        broken_by: &[
            Kind::PlaintextListener,
            Kind::MissingRedirect,
            Kind::Permissive,
            Kind::Unmeshed,
            Kind::Webhook,
        ],
        shown_by: "ferrule verify A B",
    },
    Control {
        name: "certificates",
        asks: "certificates reach every workload and are renewed without people",
        broken_by: &[Kind::CertificateEnds, Kind::NotReady],
        shown_by: "ferrule check; ferrule ca status",
    },
    Control {
        name: "rotation",
        asks: "the authority's own keys can be replaced while everything runs",
        broken_by: &[Kind::StaleBundle],
        shown_by: "ferrule ca rotate --help",
    },
    Control {
        name: "authentication",
        asks: "no anonymous access: both sides prove who they are",
        broken_by: &[Kind::PlaintextListener, Kind::Permissive, Kind::Unmeshed],
        shown_by: "ferrule verify A B",
    },
    Control {
        name: "least-privilege",
        asks: "what is not allowed is denied",
        broken_by: &[Kind::Permissive],
        shown_by: "ferrule explain --from A --to B --port N; ferrule policy report",
    },
    Control {
        name: "separation",
        asks: "a workload reaches nothing beyond what its rules name",
        broken_by: &[Kind::MissingRedirect, Kind::Permissive, Kind::Unmeshed],
        shown_by: "ferrule explain --from A --to HOST --port N",
    },
    Control {
        name: "logging",
        asks: "each connection is on record with both identities",
        broken_by: &[Kind::MissingRedirect, Kind::NotReady, Kind::Unmeshed],
        shown_by: "ferrule tap; ferrule edges",
    },
    Control {
        name: "time",
        asks: "clocks agree, so that records and certificates mean what they say",
        broken_by: &[Kind::Clock],
        shown_by: "ferrule check",
    },
];
