//! What a check found.

use serde_json::{Value, json};

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// How many things were looked at.
    pub(super) checks: usize,
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
    /// What is no better, and cannot be on this machine.
    pub(super) warnings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub(super) unseen: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// Where.
    pub(super) place: String,
    /// What.
    pub(super) what: String,
    /// What to do about it.
    pub(super) next: String,
}

/// Kinds of faults; their words are in the JSON, for programs to tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PlaintextListener,
    MissingRedirect,
    CertificateEnds,
    Clock,
    Permissive,
    StaleBundle,
    NotReady,
    Unmeshed,
    Webhook,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::PlaintextListener,
        Self::MissingRedirect,
        Self::CertificateEnds,
        Self::Clock,
        Self::Permissive,
        Self::StaleBundle,
        Self::NotReady,
        Self::Unmeshed,
        Self::Webhook,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::PlaintextListener => "plaintext-listener",
            Self::MissingRedirect => "missing-redirect",
            Self::CertificateEnds => "certificate-ends",
            Self::Clock => "clock",
            Self::Permissive => "permissive",
            Self::StaleBundle => "stale-bundle",
            Self::NotReady => "not-ready",
            Self::Unmeshed => "unmeshed",
            Self::Webhook => "webhook",
        }
    }
}

impl Finding {
    pub(super) fn to_json(&self) -> Value {
        json!({ "kind": self.kind.word(), "place": self.place, "what": self.what, "next": self.next })
    }
}

impl Looked {
    /// Counts a check; `found` when it is not as it should be.
    pub(super) fn check(&mut self, found: Option<Finding>) {
        self.checks += 1;
        self.findings.extend(found);
    }

    /// Counts a check that found what this machine does not allow to be better: to be told, but no failure, which would
    /// hide those that somebody can mend.
    pub(super) fn warn(&mut self, found: Finding) {
        self.checks += 1;
        self.warnings.push(found);
    }

    /// Notes what could not be looked at.
    pub(super) fn unseen(&mut self, what: &str, why: &str) {
        self.unseen.push(format!("{what}: {why}"));
    }

    /// Whether something of that kind is wrong.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.findings.iter().any(|finding| finding.kind == kind)
    }

    /// Whether something of that kind cannot be better on this machine.
    pub(super) fn is_warned(&self, kind: Kind) -> bool {
        self.warnings.iter().any(|warning| warning.kind == kind)
    }
}
