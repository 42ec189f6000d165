//! Whole meshes in network namespaces of a test's own: hosts, their sidecars, the wire between them.
//!
//! A test calls [`alone`], which runs it once more, by itself, in new namespaces; an ordinary user may. There it
//! gets a [`Mesh`]: a bridge, hosts on it with an IPv4 and an IPv6 address each, a sidecar before each host that
//! has one. The redirect rules, the settings, the programs are the real ones. All of it goes with the namespaces,
//! however the test ends.

pub mod capture;
pub mod host;
pub mod mesh;
pub mod process;
pub mod sidecar;

mod own;

pub use capture::Capture;
pub use host::Host;
pub use mesh::Mesh;
pub use own::{alone, proxy};
pub use process::{Process, run};
pub use sidecar::Sidecar;
