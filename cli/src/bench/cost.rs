//! Makes one sentence of what both ways gave.

use ferrule_load::spread::{Spread, short};
use serde::Serialize;

/// One load on both ways, a sample of each for every round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Compared {
    /// One word.
    pub(super) name: &'static str,
    /// What people call it.
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) direct: Vec<f64>,
    pub(super) through: Vec<f64>,
}

impl Compared {
    /// What is lost or added on the way through, within each round.
    fn added(&self) -> Spread {
        let rounds = self.through.iter().zip(&self.direct);
        Spread::of(rounds.map(|(through, direct)| through - direct))
    }

    /// The way through in times of the direct one, within each round.
    pub(super) fn ratio(&self) -> Option<Spread> {
        Spread::of_ratios(&self.through, &self.direct)
    }
}

/// What Ferrule costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Cost {
    /// Percent of the throughput of one connection that is lost; below 0 when the way through was faster.
    pub(super) throughput_percent: Option<f64>,
    /// Microseconds that a request takes longer, p50.
    pub(super) request_us: f64,
    /// Microseconds that a new connection takes longer, p50.
    pub(super) connection_us: f64,
    /// MiB that one sidecar holds; none when no sidecar was named.
    pub(super) sidecar_mib: Option<f64>,
}

impl Cost {
    /// The cost, from bulk in one direction, requests, new connections, and what each sidecar holds in memory.
    pub(super) fn of(bulk: &Compared, requests: &Compared, connections: &Compared, sidecars: &[f64]) -> Self {
        Self {
            throughput_percent: bulk.ratio().map(|ratio| 100.0 * (1.0 - ratio.median)),
            request_us: requests.added().median,
            connection_us: connections.added().median,
            sidecar_mib: (!sidecars.is_empty()).then(|| Spread::of(sidecars.iter().copied()).median),
        }
    }

    /// One sentence for people.
    pub(super) fn sentence(&self) -> String {
        let mut parts = Vec::new();
        if let Some(percent) = self.throughput_percent {
            parts.push(format!("{} % of throughput", short(percent)));
        }
        parts.push(format!("{} µs per request", short(self.request_us)));
        parts.push(format!("{} µs per new connection", short(self.connection_us)));
        if let Some(mebibytes) = self.sidecar_mib {
            parts.push(format!("{} MiB per pod", short(mebibytes)));
        }
        format!("mTLS costs you {}.", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(direct: &[f64], through: &[f64]) -> Compared {
        Compared {
            name: "x",
            title: "x",
            unit: "x",
            direct: direct.to_vec(),
            through: through.to_vec(),
        }
    }

    #[test]
    fn costs_are_those_of_the_round_in_the_middle() {
        // The second round was slow both ways, and costs as much as the others.
        let bulk = compared(&[10.0, 5.0, 20.0], &[9.6, 4.8, 19.2]);
        let requests = compared(&[20.0, 80.0, 21.0], &[58.0, 118.0, 60.0]);
        let connections = compared(&[50.0], &[300.0]);
        let cost = Cost::of(&bulk, &requests, &connections, &[11.0, 10.0, 12.0]);
        assert_eq!(
            cost.sentence(),
            "mTLS costs you 4.00 % of throughput, 38.0 µs per request, 250 µs per new connection, 11.0 MiB per pod."
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let nothing = compared(&[0.0], &[0.0]);
        let cost = Cost::of(&nothing, &nothing, &nothing, &[]);
        assert_eq!(
            cost.sentence(),
            "mTLS costs you 0 µs per request, 0 µs per new connection."
        );
        assert_eq!(cost.sidecar_mib, None);
    }
}
