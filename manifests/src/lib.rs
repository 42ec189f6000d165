//! Renders the manifests of an installation, offline, from the templates of the Helm chart.
//!
//! The templates keep to a small part of Helm's language, which is read here: values, and one kind of condition.
//! Anything else in a template is a fault, so that Helm and this room cannot come to different ends.

use std::collections::BTreeMap;

use ferrule_document::{Document, Fields, Item, Limits, Problems};
use ferrule_identity::TrustDomain;

/// What an installation can be told, by the names of the chart's `values.yaml`, such as `image.prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    values: BTreeMap<String, String>,
    namespace: String,
}

impl Values {
    /// The chart's own values, for an installation into `namespace`.
    ///
    /// # Errors
    /// When the chart that was compiled in has a fault, which a test excludes.
    pub fn new(namespace: &str) -> Result<Self, RenderError> {
        let document = Document::parse_one("values.yaml", VALUES.as_bytes(), Limits::default());
        let values = document
            .and_then(|document| document.read(values))
            .map_err(|source| RenderError::Values { source })?;
        Ok(Self {
            values: values.into_iter().collect(),
            namespace: namespace.to_owned(),
        })
    }

    /// Sets one value.
    ///
    /// # Errors
    /// When the chart has no such value, or the text would not stay within its place in a document.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), RenderError> {
        if value.contains(['\n', '\r']) || value.contains(": ") || value.contains(" #") {
            return Err(RenderError::Text {
                name: name.to_owned(),
            });
        }
        let place = self.values.get_mut(name).ok_or_else(|| RenderError::Unknown {
            name: name.to_owned(),
        })?;
        value.clone_into(place);
        Ok(())
    }

    fn look_up(&self, name: &str) -> Option<&str> {
        match name {
            ".Release.Namespace" => Some(&self.namespace),
            _ => self
                .values
                .get(name.strip_prefix(".Values.")?)
                .map(String::as_str),
        }
    }
}

/// All manifests of an installation, as one stream of YAML documents: the definitions of our resources first.
///
/// # Errors
/// When the trust domain is missing or none, or a value is not one of those that are possible.
pub fn render(values: &Values) -> Result<String, RenderError> {
    let trust_domain = values.look_up(".Values.trustDomain").unwrap_or_default();
    TrustDomain::parse(trust_domain).map_err(|_| RenderError::TrustDomain {
        found: trust_domain.chars().take(255).collect(),
    })?;
    let capture = values.look_up(".Values.capture").unwrap_or_default();
    if !["cni", "init", "none"].contains(&capture) {
        return Err(RenderError::Capture {
            found: capture.chars().take(32).collect(),
        });
    }
    let mut all = Vec::new();
    for (_, text) in DEFINITIONS {
        all.push((*text).to_owned());
    }
    for (name, text) in TEMPLATES {
        all.push(template(name, text, values)?);
    }
    let all: Vec<&str> = all.iter().map(|text| text.trim_matches('\n')).collect();
    let written = all.into_iter().filter(|text| !text.is_empty());
    Ok(written.collect::<Vec<_>>().join("\n---\n") + "\n")
}

/// What an installation has outside of its namespaces, and these themselves, in the order in which to delete it: the
/// webhooks first, so that nothing asks them while they go. Deleting the definitions deletes every rule, too.
///
/// # Errors
/// When the chart that was compiled in has a fault, which a test excludes.
pub fn remains(namespace: &str) -> Result<String, RenderError> {
    let mut values = Values::new(namespace)?;
    for (name, value) in [
        ("trustDomain", "any"),
        ("capture", "cni"),
        ("namespaces", "create"),
    ] {
        values.set(name, value)?;
    }
    let all = render(&values)?;
    let mut found: Vec<(usize, String)> = Vec::new();
    for document in all.split("\n---\n") {
        let field = |name: &str| document.lines().find_map(|line| line.strip_prefix(name));
        let (Some(version), Some(kind)) = (field("apiVersion: "), field("kind: ")) else {
            continue;
        };
        // What a binding binds has a name and a namespace, too: only those of the object itself count.
        let metadata = |name: &str| {
            let below = document.lines().skip_while(|line| *line != "metadata:").skip(1);
            below
                .take_while(|line| line.starts_with("  "))
                .find_map(|line| line.strip_prefix(name))
        };
        let is_namespaced = metadata("  namespace: ").is_some();
        if let Some(name) = metadata("  name: ").filter(|_| !is_namespaced) {
            let place = DELETED
                .iter()
                .position(|first| *first == kind)
                .unwrap_or(DELETED.len());
            let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n");
            found.push((place, text));
        }
    }
    found.sort();
    let texts: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    Ok(texts.join("---\n"))
}

/// One template with its values.
fn template(name: &str, text: &str, values: &Values) -> Result<String, RenderError> {
    let mut rendered = String::new();
    // Whether each open condition holds.
    let mut open: Vec<bool> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fault = || RenderError::Template {
            template: name.to_owned(),
            line: number + 1,
        };
        let control = line
            .trim()
            .strip_prefix("{{-")
            .and_then(|rest| rest.strip_suffix("}}"));
        match control.map(str::trim) {
            Some("end") => {
                open.pop().ok_or_else(fault)?;
            }
            Some(words) => open.push(holds(words, values).ok_or_else(fault)?),
            None if open.iter().all(|holds| *holds) => {
                rendered.push_str(&filled(line, values).ok_or_else(fault)?);
                rendered.push('\n');
            }
            None => {}
        }
    }
    if open.is_empty() {
        Ok(rendered)
    } else {
        Err(RenderError::Template {
            template: name.to_owned(),
            line: text.lines().count(),
        })
    }
}

/// `if eq .Values.x "y"`.
fn holds(words: &str, values: &Values) -> Option<bool> {
    let (name, wanted) = words.strip_prefix("if eq ")?.split_once(' ')?;
    let wanted = wanted.strip_prefix('"')?.strip_suffix('"')?;
    Some(values.look_up(name)? == wanted)
}

/// A line with its values put in.
fn filled(line: &str, values: &Values) -> Option<String> {
    let mut filled = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{ ") {
        let (name, after) = after.split_once(" }}")?;
        filled.push_str(before);
        filled.push_str(values.look_up(name)?);
        rest = after;
    }
    if rest.contains("{{") {
        return None;
    }
    filled.push_str(rest);
    Some(filled)
}

fn values(fields: &mut Fields<'_>) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for section in SECTIONS {
        let read = fields.required(section, |item| flat(section, &item));
        all.push(read);
    }
    let all: Option<Vec<_>> = all.into_iter().collect();
    Some(all?.concat())
}

fn flat(name: &str, item: &Item<'_>) -> Option<Vec<(String, String)>> {
    if !item.is_map() {
        return Some(vec![(name.to_owned(), item.block()?)]);
    }
    let below = item.map(|item| item.block())?;
    Some(
        below
            .into_iter()
            .map(|(below, value)| (format!("{name}.{below}"), value))
            .collect(),
    )
}

const SECTIONS: [&str; 10] = [
    "trustDomain",
    "image",
    "digests",
    "capture",
    "namespaces",
    "cniNamespace",
    "cluster",
    "ca",
    "injector",
    "directory",
];

const VALUES: &str = include_str!("../../deploy/chart/values.yaml");

macro_rules! chart {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../deploy/chart/", $name)))),*]
    };
}

/// What Helm installs as it is, before the templates.
const DEFINITIONS: &[(&str, &str)] = chart![
    "crds/accesspolicies.yaml",
    "crds/egresspolicies.yaml",
    "crds/meshpolicies.yaml",
];

/// What is deleted first, in that order.
const DELETED: [&str; 4] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "Namespace",
    "CustomResourceDefinition",
];

/// In the order in which they are to be applied.
const TEMPLATES: &[(&str, &str)] = chart![
    "templates/namespaces.yaml",
    "templates/trust.yaml",
    "templates/networkpolicies.yaml",
    "templates/ca.yaml",
    "templates/directory.yaml",
    "templates/cni.yaml",
    "templates/injector.yaml",
];

/// Why there are no manifests.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The chart's own values.
    #[error("the chart's values cannot be read")]
    Values {
        /// Why.
        source: Problems,
    },
    /// No such value.
    #[error("the chart has no value {name}")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A value that would run out of its place.
    #[error("the value of {name} has a line break, `: ` or ` #` in it")]
    Text {
        /// Its name.
        name: String,
    },
    /// No trust domain, or none that is one.
    #[error("{found:?} is no trust domain; name the mesh, such as shop.local")]
    TrustDomain {
        /// What was given.
        found: String,
    },
    /// Another way of capture.
    #[error("capture is {found:?}, and can be cni, init or none")]
    Capture {
        /// What was given.
        found: String,
    },
    /// A template that says more than is understood here.
    #[error("line {line} of {template} is not understood")]
    Template {
        /// Which.
        template: String,
        /// Where.
        line: usize,
    },
}
