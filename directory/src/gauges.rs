//! Shows in metrics what the directory tells, and to how many.

use ferrule_daemon::metrics::{Counter, Gauge, Histogram, Metrics};

use crate::picture::Picture;

/// The metrics of the directory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gauges {
    workloads: Gauge,
    services: Gauge,
    rules: Gauge,
    bundle_generation: Gauge,
    deny_generation: Gauge,
    faults: Gauge,
    /// Proxies that are connected.
    pub proxies: Gauge,
    /// Responses that were sent.
    pub responses: Counter,
    /// Bytes of responses.
    pub bytes: Counter,
    /// Responses that proxies refused.
    pub refused: Counter,
    /// From a response to its answer.
    pub answer_time: Histogram,
}

impl Gauges {
    /// Adds them to `metrics`; once for each program.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            workloads: metrics.gauge("directory_workloads", "Workloads that are known"),
            services: metrics.gauge("directory_services", "Services that are known"),
            rules: metrics.gauge("rules", "Rule documents in force"),
            bundle_generation: metrics.gauge("bundle_generation", "The sequence number of the trust bundle"),
            deny_generation: metrics.gauge("directory_deny_generation", "The number of the deny list"),
            faults: metrics.gauge(
                "directory_faults",
                "Faults that keep the newest documents from being taken",
            ),
            proxies: metrics.gauge("directory_proxies", "Proxies that are connected"),
            responses: metrics.counter("directory_responses", "Responses sent to proxies"),
            bytes: metrics.counter("directory_response_bytes", "Bytes of responses sent to proxies"),
            refused: metrics.counter("directory_responses_refused", "Responses that a proxy refused"),
            answer_time: metrics.histogram(
                "directory_answer_seconds",
                "From a response to the answer of its proxy",
                &[
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
                ],
            ),
        }
    }

    pub(crate) fn show(&self, picture: &Picture) {
        let (workloads, services, rules) = picture.model.counts();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.workloads.set(number(workloads));
        self.services.set(number(services));
        self.rules.set(number(rules));
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.bundle_generation.set(number(picture.bundle_sequence));
        self.deny_generation.set(number(picture.deny_generation));
    }

    pub(crate) fn faults(&self, count: usize) {
        self.faults.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
