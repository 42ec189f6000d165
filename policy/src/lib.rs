//! Decides who may reach what: documents, judgement, explanation.
//!
//! Nothing here opens a socket or a file, starts a task, reads the environment or a clock.
//! [`PolicyDocument`]s are what operators write; [`compile()`] arranges them as a [`Policy`];
//! [`judge()`] answers an [`Ask`] with a [`Verdict`], which [`explain()`] says in
//! a sentence. [`suggest()`] writes the rules that observed connections need.
//! A [`Stack`] is all documents of a mesh, with those that say who lives where.
//!
//! Doubt means no: a document with anything unknown is refused as a whole, emptiness never means everything,
//! and without a rule there is no connection.

mod ask;
mod cidr;
mod compile;
mod document;
mod explain;
mod host;
mod index;
mod joined;
mod judge;
mod maps;
mod pattern;
mod places;
mod policy;
mod preset;
mod rule;
mod scope;
mod stack;
mod suggest;
mod verdict;
mod written;

pub use ask::{Ask, Inbound, Outbound, Source, Workload};
pub use cidr::{Cidr, CidrError};
pub use compile::compile;
pub use document::{
    API_VERSION, AccessPolicy, AccessRule, Action, EgressPolicy, EgressRule, Enforcement, MeshPolicy, Meta,
    Mode, PolicyDocument,
};
pub use explain::explain;
pub use host::{HostError, HostName, HostPattern};
pub use joined::{Joined, JoinedService, JoinedWorkload, contested, join, join_workload};
pub use judge::{judge, judge_port};
pub use pattern::{IdentityPattern, Ports, ServiceName, SourcePattern, TargetPattern, Workloads};
pub use places::{Behind, PlaceDocument, PublishedPort, ServiceDocument, ServicePort, WorkloadDocument};
pub use policy::{BuiltIn, Mesh, Policy, ResolvedError};
pub use preset::{Preset, PresetError};
pub use rule::{Peers, PolicyName, Rule};
pub use stack::{Stack, WrittenPolicy};
pub use suggest::{Edge, Observed, Suggestion, missing_edges, suggest};
pub use verdict::{Decision, Denial, Grant, Nearest, Verdict};
pub use written::Peer;
