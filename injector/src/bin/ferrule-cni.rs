//! The CNI plugin `ferrule-cni`: a container runtime runs it on the node, for each pod.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrule_injector::cni::plugin::run()
}
