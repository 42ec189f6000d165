//! The certificate authority for short-lived workload certificates, useful on its own.
