//! Reads the annotations with which a pod may adjust its sidecar; none of them can weaken a rule.

use std::collections::BTreeMap;
use std::time::Duration;

use ferrule_daemon::logging::Filter;
use ferrule_document::{nearest, parse_duration};

use crate::names::{INJECT, PREFIX, PROBES, STATUS};
use crate::pod::Pod;
use crate::quantity::Quantity;

/// What a pod asks of its sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Processor and memory, where the mesh's own figures do not fit.
    pub resources: Resources,
    /// The sidecar's log filter.
    pub log_level: Option<String>,
    /// How long open connections may go on when the pod ends.
    pub drain: Option<Duration>,
    /// Whether the trust bundle is mounted into the application's containers.
    pub mount_trust: bool,
    /// Explicit ways out, where nothing is captured.
    pub upstreams: Vec<Upstream>,
    /// Explicit ways in, where nothing is captured.
    pub serves: Vec<Serve>,
}

/// Requests and limits of the sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Processor time that is set aside.
    pub cpu: Option<Quantity>,
    /// Processor time at most.
    pub cpu_limit: Option<Quantity>,
    /// Memory that is set aside.
    pub memory: Option<Quantity>,
    /// Memory at most.
    pub memory_limit: Option<Quantity>,
}

/// A port of the pod's loopback that leads to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The port on loopback.
    pub listen: u16,
    /// `NAME.NAMESPACE:PORT`.
    pub service: String,
}

/// A port for peers that leads to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serve {
    /// Where peers dial.
    pub listen: u16,
    /// The application's port.
    pub to: u16,
}

/// Every annotation that a pod may carry, with what it is for; `docs/operating.md` lists the same.
pub const ALLOWED: [(&str, &str); 9] = [
    (
        "ferrule.dev/proxy-cpu",
        "the sidecar's processor request, such as 50m",
    ),
    (
        "ferrule.dev/proxy-cpu-limit",
        "the sidecar's processor limit, such as 2",
    ),
    (
        "ferrule.dev/proxy-memory",
        "the sidecar's memory request, such as 64Mi",
    ),
    (
        "ferrule.dev/proxy-memory-limit",
        "the sidecar's memory limit, such as 512Mi",
    ),
    (
        "ferrule.dev/proxy-log-level",
        "the sidecar's log filter, such as info,access=debug",
    ),
    (
        "ferrule.dev/drain",
        "how long open connections may go on when the pod ends, such as 20s",
    ),
    (
        "ferrule.dev/trust",
        "`mount` puts the trust bundle into the application's containers",
    ),
    (
        "ferrule.dev/upstreams",
        "without capture: PORT=NAME.NAMESPACE:PORT, separated by commas",
    ),
    (
        "ferrule.dev/serves",
        "without capture: PORT=PORT, separated by commas",
    ),
];

impl Options {
    /// Reads the annotations of `pod`.
    ///
    /// # Errors
    /// The first annotation of ours that is unknown, or whose value cannot be used. Annotations of others are let
    /// pass.
    pub fn read(pod: Pod<'_>) -> Result<Self, OptionError> {
        let ours: BTreeMap<&str, &str> = pod
            .annotations()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .filter(|(name, _)| ![STATUS, PROBES].contains(name))
            .collect();
        let mut options = Self::default();
        for (name, value) in ours {
            options.take(name, value)?;
        }
        options.resources.check()?;
        Ok(options)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let unusable = |wanted| OptionError::Value {
            name: name.to_owned(),
            value: shortened(value),
            wanted,
        };
        let quantity = || value.parse::<Quantity>().map_err(|_| unusable(QUANTITY));
        match name.strip_prefix(PREFIX).unwrap_or_default() {
            "proxy-cpu" => self.resources.cpu = Some(quantity()?),
            "proxy-cpu-limit" => self.resources.cpu_limit = Some(quantity()?),
            "proxy-memory" => self.resources.memory = Some(quantity()?),
            "proxy-memory-limit" => self.resources.memory_limit = Some(quantity()?),
            "proxy-log-level" => {
                let read = value.parse::<Filter>();
                read.map_err(|_| unusable("a filter such as info or ferrule_proxy=debug,info"))?;
                self.log_level = Some(value.to_owned());
            }
            "drain" => {
                let drain = parse_duration(value).ok().filter(|drain| *drain <= LONGEST_DRAIN);
                self.drain = Some(drain.ok_or_else(|| unusable("a time of at most 1h, such as 20s"))?);
            }
            "trust" if value == "mount" => self.mount_trust = true,
            "trust" => return Err(unusable("`mount`")),
            "upstreams" => {
                self.upstreams = each(value, upstream).ok_or_else(|| unusable("PORT=NAME.NAMESPACE:PORT"))?;
            }
            "serves" => self.serves = each(value, serve).ok_or_else(|| unusable("PORT=PORT"))?,
            _ => return Err(OptionError::unknown(name)),
        }
        Ok(())
    }
}

impl Resources {
    /// A limit below its request is refused by the API server, in words that do not name the annotation.
    fn check(&self) -> Result<(), OptionError> {
        let pairs = [
            (&self.cpu, &self.cpu_limit, "ferrule.dev/proxy-cpu-limit"),
            (&self.memory, &self.memory_limit, "ferrule.dev/proxy-memory-limit"),
        ];
        for (request, limit, name) in pairs {
            if let (Some(request), Some(limit)) = (request, limit)
                && request > limit
            {
                return Err(OptionError::Value {
                    name: name.to_owned(),
                    value: limit.to_string(),
                    wanted: "no less than the request",
                });
            }
        }
        Ok(())
    }
}

fn each<T>(value: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    value.split(',').map(|item| read(item.trim())).collect()
}

fn upstream(item: &str) -> Option<Upstream> {
    let (listen, service) = item.split_once('=')?;
    let (name, to) = service.rsplit_once(':')?;
    port(to)?;
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let (name, namespace) = name.split_once('.')?;
    (is_name(name) && is_name(namespace)).then_some(Upstream {
        listen: port(listen)?,
        service: service.to_owned(),
    })
}

fn serve(item: &str) -> Option<Serve> {
    let (listen, to) = item.split_once('=')?;
    Some(Serve {
        listen: port(listen)?,
        to: port(to)?,
    })
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Why a pod's annotations cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No annotation of that name is read, and a slip must not pass for a setting.
    #[error("the annotation {name} is unknown{hint}")]
    Unknown {
        /// Its name.
        name: String,
        /// What may have been meant, with the words around it; empty for nothing.
        hint: String,
    },
    /// The value is no good.
    #[error("the annotation {name} is {value:?}, and should be {wanted}")]
    Value {
        /// Its name.
        name: String,
        /// The value, cut short.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

impl OptionError {
    fn unknown(name: &str) -> Self {
        let hint = if name == INJECT {
            "; it is a label, not an annotation".to_owned()
        } else {
            nearest(name, ALLOWED.iter().map(|(known, _)| *known))
                .map(|known| format!("; did you mean {known}?"))
                .unwrap_or_default()
        };
        Self::Unknown {
            name: shortened(name),
            hint,
        }
    }
}

const QUANTITY: &str = "a quantity such as 100m, 1, 64Mi";
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(annotations: serde_json::Value) -> Result<Options, String> {
        let pod = json!({ "metadata": { "annotations": annotations } });
        Options::read(Pod::new(&pod)).map_err(|error| error.to_string())
    }

    #[test]
    fn annotations_of_others_are_let_pass() {
        assert_eq!(read(json!({ "team": "shop" })), Ok(Options::default()));
    }

    #[test]
    fn every_allowed_annotation_is_read() {
        let good = ["50m", "2", "64Mi", "512Mi", "info,access=debug", "20s", "mount"];
        let good = good.into_iter().chain(["15101=api.shop:8080", "18080=8080"]);
        for ((name, _), value) in ALLOWED.iter().zip(good) {
            let read = read(json!({ *name: value })).unwrap();
            assert_ne!(read, Options::default(), "{name}");
        }
    }

    #[test]
    fn a_slip_is_refused_and_the_right_name_told() {
        assert_eq!(
            read(json!({ "ferrule.dev/proxy-cup": "1" })).unwrap_err(),
            "the annotation ferrule.dev/proxy-cup is unknown; did you mean ferrule.dev/proxy-cpu?"
        );
        assert_eq!(
            read(json!({ "ferrule.dev/inject": "disabled" })).unwrap_err(),
            "the annotation ferrule.dev/inject is unknown; it is a label, not an annotation"
        );
    }

    #[test]
    fn values_out_of_their_bounds_are_refused() {
        for (name, value) in [
            ("proxy-cpu", "-1"),
            ("proxy-cpu", ""),
            ("proxy-memory", "64MiB"),
            ("proxy-log-level", "loud=very"),
            ("drain", "2h"),
            ("drain", "20"),
            ("trust", "yes"),
            ("upstreams", "15101=api:8080"),
            ("upstreams", "0=api.shop:8080"),
            ("upstreams", "15101=api.shop.evil:8080"),
            ("serves", "18080"),
        ] {
            assert!(
                read(json!({ format!("ferrule.dev/{name}"): value })).is_err(),
                "{name} {value}"
            );
        }
        let upside_down = json!({ "ferrule.dev/proxy-cpu": "2", "ferrule.dev/proxy-cpu-limit": "500m" });
        assert!(
            read(upside_down)
                .unwrap_err()
                .contains("no less than the request")
        );
    }
}
