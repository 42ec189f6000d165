//! Chooses how the program is linked.

#![allow(
    clippy::disallowed_methods,
    reason = "cargo speaks to a build script in variables"
)]

use std::process::Command;

/// Packs the relocations that the loader makes at each start (DT_RELR): half a MiB less in the file, and in the
/// memory of each sidecar. Only where the C library of the machine can read them, from glibc 2.36 on; a program that
/// is built for another machine stays as it is.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let is_here = set("TARGET") == set("HOST");
    if is_here
        && set("CARGO_CFG_TARGET_OS") == "linux"
        && set("CARGO_CFG_TARGET_ENV") == "gnu"
        && reads_packed()
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether `getconf` names a glibc of 2.36 or later.
fn reads_packed() -> bool {
    let Ok(told) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else {
        return false;
    };
    let told = String::from_utf8_lossy(&told.stdout);
    let version = told.trim().strip_prefix("glibc ").unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (2, 36),
        _ => false,
    }
}
