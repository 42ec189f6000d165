//! A real Kubernetes for tests: one cluster for a test program, with the mesh installed, and namespaces for its tests.

mod api;
mod build;
mod cluster;
mod images;
mod mesh;
mod namespace;
mod pki;

pub use api::Api;
pub use build::{prefix, program};
pub use cluster::{Alone, Cluster, Node, Shared, alone, said, shared};
pub use namespace::{Namespace, container, pod, pod_spec, service};
