//! Shows the ends of the CA's certificates and the numbers of what it publishes, as metrics.

use ferrule_daemon::metrics::{Family, Gauge, Metrics};

use crate::api::trust::Trust;
use crate::authority::View;
use crate::ledger::event::{Role, Step};

/// The gauges of what the CA holds.
#[derive(Debug)]
pub(crate) struct Gauges {
    not_after: Family<[(&'static str, &'static str); 1], Gauge>,
    bundle: Gauge,
    revocations: Gauge,
    can_issue: Gauge,
}

impl Gauges {
    /// Adds the gauges to `metrics`.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            not_after: metrics.family(
                "certificate_not_after_timestamp_seconds",
                "When the first of the certificates of a kind ends, in Unix seconds",
            ),
            bundle: metrics.gauge("bundle_generation", "The sequence of the trust bundle"),
            revocations: metrics.gauge("ca_revocation_generation", "The number of the deny list"),
            can_issue: metrics.gauge("ca_can_issue", "1 while a signing certificate is in use, else 0"),
        }
    }

    /// Shows what is so now.
    pub(crate) fn set(&self, view: &View, trust: &Trust) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (kind, role) in [("root", Role::Root), ("signing", Role::Signing)] {
            let in_use = view
                .all()
                .filter(|listed| listed.slot.role == role && listed.slot.state == Step::Active);
            if let Some(end) = in_use.map(|listed| listed.slot.lifetime.not_after()).min() {
                self.not_after.get_or_create(&[("kind", kind)]).set(end.unix());
            }
        }
        self.bundle.set(number(trust.sequence));
        self.revocations.set(number(trust.generation));
        self.can_issue.set(i64::from(view.active().is_ok()));
    }
}
