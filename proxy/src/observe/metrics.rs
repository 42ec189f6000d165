//! Names what is counted.

use ferrule_daemon::metrics::{Buckets, Counter, Family, Gauge, Histogram, Metrics};

use super::peers::PeerMetrics;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The counters of the sidecar; cheap to clone. Every label's value is one of a fixed few, but
/// for those of peers.
#[derive(Debug, Clone)]
pub struct ProxyMetrics {
    /// Ended connections: direction, tls, verdict, reason.
    pub connections: Family<Labels<4>, Counter>,
    /// Open connections: direction.
    pub open: Family<Labels<1>, Gauge>,
    /// Bytes of applications: direction, flow.
    pub bytes: Family<Labels<2>, Counter>,
    /// Handshakes: side, outcome.
    pub handshakes: Family<Labels<2>, Histogram, Buckets>,
    /// Connections in clear: direction, reason.
    pub plaintext: Family<Labels<2>, Counter>,
    /// Names of hosts beyond the mesh that were waited for: outcome.
    pub names: Family<Labels<1>, Counter>,
    /// Datagrams of the sidecar's own; not shown, but taken off those of the workload.
    pub own_datagrams: Counter,
    /// Attempts at endpoints of the mesh that failed: reason.
    pub endpoint_failures: Family<Labels<1>, Counter>,
    /// Connections that travelled over one that was there already: direction.
    pub reused: Family<Labels<1>, Counter>,
    /// Connections to other workloads that carry nothing now.
    pub pooled: Gauge,
    /// Refusals by rules or trust: direction, reason.
    pub denied: Family<Labels<2>, Counter>,
    /// Clients of permissive ports who said nothing for the time that they are waited for.
    pub silent: Counter,
    /// Lines that somebody who looks on was too slow for.
    pub tap_dropped: Counter,
    /// Ends of certificates in seconds since the epoch: kind.
    pub not_after: Family<Labels<1>, Gauge>,
    /// The sequence of the trust bundle.
    pub bundle_generation: Gauge,
    /// How far our clock is behind the CA's.
    pub clock_skew: Gauge,
    /// Rules in force.
    pub rules: Gauge,
    /// Times that documents were not taken because of their faults.
    pub documents_refused: Counter,
    /// 1 while the directory is followed.
    pub directory_connected: Gauge,
    /// Times that the directory could not be followed, or not any more: reason.
    pub directory_failures: Family<Labels<1>, Counter>,
    /// Connections and bytes by peer.
    pub peers: PeerMetrics,
}

impl ProxyMetrics {
    /// Adds them to `metrics`; once for each program.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.family("connections", "Connections that have ended, by how"),
            open: metrics.family("connections_open", "Connections that are open"),
            bytes: metrics.family("bytes", "Bytes of applications that were carried"),
            handshakes: metrics.histograms(
                "handshake_duration_seconds",
                "How long TLS handshakes took",
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0],
            ),
            plaintext: metrics.family("plaintext", "Connections that were carried or offered in clear"),
            names: metrics.family(
                "egress_names",
                "Connections whose client had to name a host beyond the mesh, by what came of it",
            ),
            own_datagrams: Counter::default(),
            endpoint_failures: metrics.family(
                "endpoint_failures",
                "Attempts at endpoints of the mesh that failed; another one may have been tried",
            ),
            reused: metrics.family(
                "connections_reused",
                "Connections that travelled over a TLS connection that was there already",
            ),
            pooled: metrics.gauge(
                "connections_pooled",
                "TLS connections to other workloads that are kept for the next connection",
            ),
            denied: metrics.family("denied", "Connections that rules or trust refused"),
            silent: metrics.counter(
                "sniff_timeouts",
                "Connections in permissive mode whose client said nothing for the time that it is waited for",
            ),
            tap_dropped: metrics.counter(
                "tap_dropped",
                "Lines of connections that somebody who looks on at the debug socket was too slow for",
            ),
            not_after: metrics.family(
                "certificate_not_after_timestamp_seconds",
                "When certificates end, in seconds since the epoch",
            ),
            bundle_generation: metrics.gauge("bundle_generation", "The sequence number of the trust bundle"),
            clock_skew: metrics.gauge("clock_skew_seconds", "How far this clock is behind the CA's"),
            rules: metrics.gauge("rules", "Rules in force"),
            directory_connected: metrics.gauge("directory_connected", "1 while the directory is followed"),
            directory_failures: metrics.family(
                "directory_failures",
                "Times that the directory could not be reached, or ended what it told",
            ),
            documents_refused: metrics.counter(
                "documents_refused",
                "Times that documents could not be read and the last good ones stayed in force",
            ),
            peers: PeerMetrics::register(metrics),
        }
    }
}
