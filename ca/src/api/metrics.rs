//! Counts what the API answers.

use std::time::Duration;

use ferrule_daemon::metrics::{Counter, Family, Histogram, Metrics};

/// The metrics of the API. No label holds what a client chose: routes and outcomes are words of our own.
#[derive(Debug)]
pub(super) struct ApiMetrics {
    requests: Family<[(&'static str, &'static str); 2], Counter>,
    issue_time: Histogram,
}

impl ApiMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.family("ca_requests", "Requests answered, by route and outcome"),
            issue_time: metrics.histogram(
                "ca_issue_duration_seconds",
                "From the headers of a request for a certificate to its answer",
                BUCKETS,
            ),
        }
    }

    /// Counts an answer: `ok`, or the word of the refusal.
    pub(super) fn count(&self, route: &'static str, outcome: &'static str, took: Duration) {
        self.requests
            .get_or_create(&[("route", route), ("outcome", outcome)])
            .inc();
        if outcome == "ok" && matches!(route, "issue" | "renew") {
            self.issue_time.observe(took.as_secs_f64());
        }
    }
}

/// An issue takes a millisecond, or some tens of them behind others; a slow disk makes seconds of that.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
