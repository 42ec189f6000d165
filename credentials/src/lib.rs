//! Keeps a workload's certificate and trust bundle fresh.
