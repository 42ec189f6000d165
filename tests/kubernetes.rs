//! Runs the mesh on a real Kubernetes: API server, scheduler, controllers, and two nodes with kubelet and containerd.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

// By this name `tests/run --without kubernetes` leaves them out.
#[path = "kubernetes"]
mod on_kubernetes {
    mod admission;
    mod apps;
    mod changes;
    mod commands;
    mod control;
    mod crash;
    mod families;
    mod modes;
    mod outages;
    mod rolling;
    mod running;
    mod tokens;
    mod traffic;
    mod webhook;
    mod wire;
}
