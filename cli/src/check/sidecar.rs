//! Looks at one sidecar: is it ready, does its clock agree, how long do its certificates last, is its bundle the newest.

use std::time::Duration;

use ferrule_daemon::logging::Chain;
use ferrule_identity::Timestamp;
use serde_json::Value;

use super::Limits;
use super::finding::{Finding, Kind, Looked};
use crate::print::distance;
use crate::sidecar::SocketError;
use crate::sidecars::Sidecar;

/// Looks at `one`; `newest` is the number of the CA's bundle, where that is known; `is_up` says that `ferrule up` keeps it.
pub(super) async fn look(
    one: &Sidecar,
    newest: Option<u64>,
    is_up: bool,
    limits: &Limits,
    looked: &mut Looked,
) {
    let finding = |kind, what: String, next: &str| Finding {
        kind,
        place: one.title.clone(),
        what,
        next: next.to_owned(),
    };
    match one.socket.text("/ready").await {
        Ok(_) => looked.check(None),
        Err(SocketError::Status { text, .. }) if text.contains("redirect") => looked.check(Some(finding(
            Kind::MissingRedirect,
            text,
            if is_up {
                "stop the mesh and start it again: ferrule up puts the rules in force, and somebody has taken them away"
            } else {
                "put the rules in force again, where the workload runs: ferrule proxy redirect install"
            },
        ))),
        Err(SocketError::Status { text, .. }) => looked.check(Some(finding(
            Kind::NotReady,
            text,
            "its log tells what it waits for",
        ))),
        Err(error) => return looked.unseen(&one.title, &Chain(&error).to_string()),
    }
    match one.socket.text("/metrics").await {
        Ok(metrics) => {
            // Without the CA there is no other clock to go by.
            if let Some(skew) = metric(&metrics, "ferrule_clock_skew_seconds") {
                looked.check(clock_fault(&one.title, skew));
            }
        }
        Err(error) => looked.unseen(&one.title, &Chain(&error).to_string()),
    }
    match one.socket.get("/certificates").await {
        Ok(told) => certificates(&told, one, newest, limits, looked),
        Err(error) => looked.unseen(&one.title, &Chain(&error).to_string()),
    }
}

/// The finding that a clock is wrong by `skew` seconds.
pub(super) fn clock_fault(place: &str, skew: i64) -> Option<Finding> {
    let off = Duration::from_secs(skew.unsigned_abs());
    (off > MOST_SKEW).then(|| Finding {
        kind: Kind::Clock,
        place: place.to_owned(),
        what: format!(
            "its clock is {} s {} the CA's",
            off.as_secs(),
            if skew > 0 { "behind" } else { "ahead of" }
        ),
        next: "let NTP set the clock: timedatectl set-ntp true".to_owned(),
    })
}

fn certificates(told: &Value, one: &Sidecar, newest: Option<u64>, limits: &Limits, looked: &mut Looked) {
    let chain = told["own"]["chain"].as_array().map_or(&[][..], Vec::as_slice);
    if chain.is_empty() {
        looked.check(Some(Finding {
            kind: Kind::NotReady,
            place: one.title.clone(),
            what: "it has no certificate".to_owned(),
            next: "its log tells why the CA does not give it one".to_owned(),
        }));
    }
    for (at, certificate) in chain.iter().enumerate() {
        let Some((starts, ends)) = life(certificate) else {
            continue;
        };
        let left = ends.since(limits.now);
        // A leaf is renewed long before its end, and that is nobody's work: only one that is not is a fault.
        let (what, is_fault) = match at {
            0 => (
                "the workload's certificate",
                left < ends.since(starts) / LEAF_SHARE,
            ),
            _ => ("the signing certificate", limits.is_near(starts, ends)),
        };
        looked.check(is_fault.then(|| ending(&one.title, what, ends, limits.now)));
    }
    for bundle in told["trust"].as_array().into_iter().flatten() {
        for anchor in bundle["anchors"].as_array().into_iter().flatten() {
            if let Some((starts, ends)) = life(anchor) {
                let fault = limits.is_near(starts, ends);
                let what = format!(
                    "the root {:.16}",
                    anchor["fingerprint"].as_str().unwrap_or_default()
                );
                looked.check(fault.then(|| ending(&one.title, &what, ends, limits.now)));
            }
        }
        let held = bundle["sequence"].as_u64();
        if let (Some(held), Some(newest)) = (held, newest) {
            looked.check((held < newest).then(|| {
                Finding {
                    kind: Kind::StaleBundle,
                    place: one.title.clone(),
                    what: format!("it holds bundle {held}, and the CA is at {newest}"),
                    next:
                        "a new root is not used before it follows; its log tells why it cannot reach the CA"
                            .to_owned(),
                }
            }));
        }
    }
}

/// The finding that a certificate ends soon.
pub(super) fn ending(place: &str, what: &str, ends: Timestamp, now: Timestamp) -> Finding {
    let next = if what.contains("root") {
        "replace it in good time: ferrule ca rotate --help"
    } else {
        "it should have been replaced by itself; the CA's log and `ferrule ca status` tell why not"
    };
    Finding {
        kind: Kind::CertificateEnds,
        place: place.to_owned(),
        what: format!("{what} ends {}, at {ends}", distance(ends, now)),
        next: next.to_owned(),
    }
}

fn life(certificate: &Value) -> Option<(Timestamp, Timestamp)> {
    let time = |name: &str| certificate[name].as_i64().map(Timestamp::from_unix);
    Some((time("starts")?, time("ends")?))
}

/// The number of the first series of that name.
fn metric(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Certificates are dated back five minutes at most; a clock that is off by more than this fails soon.
const MOST_SKEW: Duration = Duration::from_secs(60);

/// A leaf that has less than this part of its life left was not renewed when it should have been.
const LEAF_SHARE: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_either_way() {
        assert_eq!(clock_fault("web", 60), None);
        assert_eq!(clock_fault("web", -60), None);
        assert_eq!(
            clock_fault("web", 120).unwrap().what,
            "its clock is 120 s behind the CA's"
        );
        assert_eq!(
            clock_fault("web", -120).unwrap().what,
            "its clock is 120 s ahead of the CA's"
        );
    }

    #[test]
    fn metrics_are_read_by_name() {
        let text = "# HELP ferrule_clock_skew_seconds x\nferrule_clock_skew_seconds -130\n";
        assert_eq!(metric(text, "ferrule_clock_skew_seconds"), Some(-130));
        assert_eq!(metric(text, "ferrule_other"), None);
    }
}
