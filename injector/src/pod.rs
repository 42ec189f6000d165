//! Reads a pod as the API server sends it, without a type for what nobody here asks about.

use serde_json::{Map, Value};

/// A pod's document. What is missing, or not of the type that Kubernetes gives it, reads as absent; the API server
/// has checked it before anybody here is asked.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a>(&'a Value);

/// One container of a pod.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    /// The list that it stands in.
    pub list: List,
    /// Its place in the list.
    pub at: usize,
    value: &'a Value,
}

/// The lists of containers in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Run before the application, or beside it from the start.
    Init,
    /// The application.
    Main,
    /// Added to a running pod for a look.
    Ephemeral,
}

impl List {
    /// The field of a pod's `spec`.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Main => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

impl<'a> Pod<'a> {
    /// The pod of `document`.
    pub const fn new(document: &'a Value) -> Self {
        Self(document)
    }

    /// The pod's name, or the start of the name that it will get.
    pub fn name(self) -> &'a str {
        let metadata = &self.0["metadata"];
        text(&metadata["name"])
            .or_else(|| text(&metadata["generateName"]))
            .unwrap_or_default()
    }

    /// The value of a label.
    pub fn label(self, name: &str) -> Option<&'a str> {
        text(&self.0["metadata"]["labels"][name])
    }

    /// The value of an annotation.
    pub fn annotation(self, name: &str) -> Option<&'a str> {
        text(&self.0["metadata"]["annotations"][name])
    }

    /// All annotations, by name.
    pub fn annotations(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let annotations = self.0["metadata"]["annotations"].as_object();
        entries(annotations).filter_map(|(name, value)| Some((name, text(value)?)))
    }

    /// A field of `spec`.
    pub fn spec(self, field: &str) -> &'a Value {
        &self.0["spec"][field]
    }

    /// The containers of one list.
    pub fn list(self, list: List) -> impl Iterator<Item = Container<'a>> {
        let values = self.spec(list.field()).as_array();
        let values = values.map(Vec::as_slice).unwrap_or_default();
        values
            .iter()
            .enumerate()
            .map(move |(at, value)| Container { list, at, value })
    }

    /// The containers of all lists.
    pub fn containers(self) -> impl Iterator<Item = Container<'a>> {
        [List::Init, List::Main, List::Ephemeral]
            .into_iter()
            .flat_map(move |list| self.list(list))
    }

    /// The names of the pod's volumes.
    pub fn volumes(self) -> impl Iterator<Item = &'a Value> {
        self.spec("volumes").as_array().into_iter().flatten()
    }
}

impl<'a> Container<'a> {
    /// Its name, unique in the pod.
    pub fn name(self) -> &'a str {
        text(&self.value["name"]).unwrap_or_default()
    }

    /// Its whole document.
    pub const fn value(self) -> &'a Value {
        self.value
    }

    /// The ports that it declares.
    pub fn ports(self) -> impl Iterator<Item = Port<'a>> {
        let ports = self.value["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| {
            Some(Port {
                number: u16::try_from(port["containerPort"].as_u64()?).ok()?,
                name: text(&port["name"]),
                is_tcp: matches!(text(&port["protocol"]), None | Some("TCP")),
            })
        })
    }

    /// Where it stands in the pod, as a JSON pointer (RFC 6901).
    pub fn pointer(self) -> String {
        format!("/spec/{}/{}", self.list.field(), self.at)
    }
}

/// A port that a container declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port<'a> {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub name: Option<&'a str>,
    /// Whether it is one of TCP.
    pub is_tcp: bool,
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn entries(map: Option<&Map<String, Value>>) -> impl Iterator<Item = (&str, &Value)> {
    map.into_iter()
        .flat_map(Map::iter)
        .map(|(name, value)| (name.as_str(), value))
}
