//! Counts what happens, for Prometheus to read.

use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::registry::{Metric, Registry};

pub use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// The media type of [`Metrics::encode`]: OpenMetrics 1.0.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry of a program's metrics; cheap to clone, all clones hold the same metrics.
///
/// Names carry the prefix `ferrule_`, and those of counters the suffix `_total`, without being asked. Counting
/// takes atomic operations only. Whoever counts often keeps the counter of its labels at hand instead of asking
/// the family each time, because a family is locked while a reader prints it.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("ferrule"))))
    }

    /// Adds a metric under `name`, without prefix and suffix; `help` is one sentence without its full stop.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.lock().register(name, help, metric);
    }

    /// Adds a counter that starts at zero.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.register(name, help, counter.clone());
        counter
    }

    /// Adds a gauge that starts at zero.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.register(name, help, gauge.clone());
        gauge
    }

    /// Adds a histogram with the upper bounds `buckets`, ascending.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let histogram = Histogram::new(buckets.iter().copied());
        self.register(name, help, histogram.clone());
        histogram
    }

    /// Adds a family: one counter or gauge for each set of labels. The values of each label come from a short
    /// list, such as an enum or a [`Capped`], and never straight from a client.
    pub fn family<L, M>(&self, name: &str, help: &str) -> Family<L, M>
    where
        L: Clone + Hash + Eq + EncodeLabelSet + Debug + Send + Sync + 'static,
        M: Default + 'static,
        Family<L, M>: Metric + Clone + Default,
    {
        let family = Family::default();
        self.register(name, help, family.clone());
        family
    }

    /// Adds a family of histograms with the upper bounds `buckets`, ascending.
    pub fn histograms<L>(
        &self,
        name: &str,
        help: &str,
        buckets: &'static [f64],
    ) -> Family<L, Histogram, Buckets>
    where
        L: Clone + Hash + Eq + EncodeLabelSet + Debug + Send + Sync + 'static,
    {
        let family = Family::new_with_constructor(Buckets(buckets));
        self.register(name, help, family.clone());
        family
    }

    /// Adds a counter that somebody else keeps: it is read whenever the metrics are. Where it cannot be read, nothing
    /// is shown.
    pub fn read_counter(
        &self,
        name: &str,
        help: &str,
        read: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) {
        self.register(name, help, ReadCounter(Box::new(read)));
    }

    /// All metrics as text, of the type [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// When a metric cannot be printed, which none of the metrics here does.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.lock())?;
        Ok(text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        // Registering pushes whole entries, so a panic elsewhere cannot have left one torn.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A counter that somebody else keeps.
struct ReadCounter(Box<dyn Fn() -> Option<u64> + Send + Sync>);

impl EncodeMetric for ReadCounter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match (self.0)() {
            Some(number) => encoder.encode_counter::<NoLabelSet, _, u64>(&number, None),
            None => Ok(()),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl Debug for ReadCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadCounter")
    }
}

/// Makes the histograms of a family.
#[derive(Debug, Clone)]
pub struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// The values that one label may take: the first `limit` that come, and [`OVERFLOW`] for all later ones, so that
/// the number of series stays bounded whatever the values are. Cheap to clone; clones share what they have seen.
#[derive(Debug, Clone)]
pub struct Capped {
    seen: Arc<Mutex<HashSet<Arc<str>>>>,
    limit: usize,
    overflow: Arc<str>,
}

impl Capped {
    /// Room for `limit` values.
    pub fn new(limit: usize) -> Self {
        Self {
            seen: Arc::default(),
            limit,
            overflow: OVERFLOW.into(),
        }
    }

    /// `value` itself when it has been seen before or there is room for one more; otherwise [`OVERFLOW`].
    pub fn value(&self, value: &str) -> Arc<str> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get(value) {
            return known.clone();
        }
        if seen.len() >= self.limit || value.len() > LABEL_BYTES {
            return self.overflow.clone();
        }
        let value: Arc<str> = value.into();
        seen.insert(value.clone());
        value
    }
}

/// The label value that stands for all those beyond the limit.
pub const OVERFLOW: &str = "overflow";

/// The longest label value in bytes; a longer one counts as [`OVERFLOW`]. A SPIFFE ID that we issue fits.
pub const LABEL_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    type Labels = [(&'static str, Arc<str>); 1];

    #[test]
    fn prints_names_with_prefix_and_suffix() {
        let metrics = Metrics::new();
        metrics
            .counter("log_dropped", "Log lines that found no room")
            .inc_by(3);
        metrics.gauge("bundle_generation", "The newest bundle").set(7);
        let histogram = metrics.histogram("wait_seconds", "Waiting", &[0.1, 1.0]);
        histogram.observe(0.5);
        metrics.read_counter("kept_elsewhere", "Kept elsewhere", || Some(5));
        metrics.read_counter("unreadable", "Not to be read", || None);
        let text = metrics.encode().unwrap();
        assert!(text.contains("\nferrule_kept_elsewhere_total 5\n"), "{text}");
        assert!(!text.contains("ferrule_unreadable_total "), "{text}");
        assert!(text.contains("\nferrule_log_dropped_total 3\n"), "{text}");
        assert!(text.contains("\nferrule_bundle_generation 7\n"), "{text}");
        assert!(
            text.contains("\nferrule_wait_seconds_bucket{le=\"1.0\"} 1\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    // E9: values that a peer chooses neither multiply the series nor break the format.
    #[test]
    fn label_values_are_capped_and_escaped() {
        let metrics = Metrics::new();
        let family: Family<Labels, Counter> = metrics.family("denied", "Refusals");
        let capped = Capped::new(2);
        for peer in ["a\"\n\\", "b", "c", "d", "b", &"x".repeat(300)] {
            family.get_or_create(&[("peer", capped.value(peer))]).inc();
        }
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"ferrule_denied_total{peer="a\"\n\\"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"ferrule_denied_total{peer="b"} 2"#), "{text}");
        assert!(
            text.contains(r#"ferrule_denied_total{peer="overflow"} 3"#),
            "{text}"
        );
        assert_eq!(text.matches("ferrule_denied_total{").count(), 3);
    }

    #[test]
    fn a_family_of_histograms_has_its_buckets() {
        let metrics = Metrics::new();
        let family = metrics.histograms::<Labels>("handshake_duration_seconds", "Handshakes", &[0.5]);
        family.get_or_create(&[("side", "server".into())]).observe(0.1);
        let text = metrics.encode().unwrap();
        let line = r#"ferrule_handshake_duration_seconds_bucket{le="0.5",side="server"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
