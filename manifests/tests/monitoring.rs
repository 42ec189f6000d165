//! Holds the alerts and the dashboard to the metrics that there are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeSet;

use serde_json::Value;

const RULES: &str = include_str!("../../deploy/monitoring/rules.yaml");
const DASHBOARD: &str = include_str!("../../deploy/monitoring/dashboard.json");

/// The files that name what is counted; `metrics.counter` adds `_total`, a histogram has `_bucket`.
const SOURCES: [&str; 6] = [
    include_str!("../../proxy/src/control/credentials.rs"),
    include_str!("../../proxy/src/observe/metrics.rs"),
    include_str!("../../ca/src/gauges.rs"),
    include_str!("../../ca/src/api/metrics.rs"),
    include_str!("../../directory/src/gauges.rs"),
    include_str!("../../daemon/src/logging.rs"),
];

fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    text.match_indices("ferrule_")
        .map(|(at, _)| {
            let rest = &text[at..];
            &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
        })
        .collect()
}

#[test]
fn every_metric_of_an_alert_or_a_panel_exists() {
    let all = named(RULES).into_iter().chain(named(DASHBOARD));
    let mut looked = 0;
    for name in all.collect::<BTreeSet<_>>() {
        let bare = name.strip_prefix("ferrule_").unwrap();
        let bare = ["_total", "_bucket"]
            .iter()
            .find_map(|end| bare.strip_suffix(end))
            .unwrap_or(bare);
        let quoted = format!("\"{bare}\"");
        assert!(
            SOURCES.iter().any(|source| source.contains(&quoted)),
            "nobody counts {name}"
        );
        looked += 1;
    }
    assert!(looked > 15, "{looked}");
    for (_, rest) in RULES
        .match_indices("kind=")
        .map(|(at, word)| RULES.split_at(at + word.len()))
    {
        let kind = rest.split('"').nth(1).unwrap();
        let quoted = format!("\"{kind}\"");
        assert!(
            SOURCES.iter().any(|source| source.contains(&quoted)),
            "no certificate of the kind {kind}"
        );
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_it_means() {
    let rules: Value = serde_saphyr::from_str(RULES).unwrap();
    let groups = rules["spec"]["groups"].as_array().unwrap();
    let alerts: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert!(
            alert["expr"]
                .as_str()
                .is_some_and(|text| text.contains("ferrule_")),
            "{alert}"
        );
        assert!(
            ["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()),
            "{alert}"
        );
        assert!(
            alert["annotations"]["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{alert}"
        );
    }
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}
