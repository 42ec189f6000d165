//! Holds the code in `src/proto` to the messages in `proto`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What the generator makes, by path below `src/proto`.
fn generate() -> BTreeMap<String, String> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let roots = [
        "envoy/service/discovery/v3/discovery.proto",
        "istio/workload/workload.proto",
        "ferrule/v1/directory.proto",
        "spiffe/workload.proto",
    ];
    let described = protox::compile(roots, [&proto]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    config
        .out_dir(out.path())
        .btree_map(["."])
        .bytes(["."])
        .compile_well_known_types()
        .default_package_filename("spiffe")
        .compile_fds(described)
        .unwrap();
    let mut made = BTreeMap::new();
    for entry in fs::read_dir(out.path()).unwrap() {
        let path = entry.unwrap().path();
        let package = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let text = format!(
            "//! The messages of the package `{package}`, made from `wire/proto` by `wire/tests/generated.rs`.\n{text}"
        );
        made.insert(format!("{}.rs", package.replace('.', "/")), text);
    }
    made
}

// To write the files anew: FERRULE_GENERATE=1 cargo test -p ferrule-wire --test generated
#[test]
fn the_code_is_what_the_messages_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto");
    let made = generate();
    #[allow(clippy::disallowed_methods, reason = "a tool of developers, not a setting")]
    let write = std::env::var_os("FERRULE_GENERATE").is_some();
    for (name, text) in &made {
        if write {
            fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            fs::write(folder.join(name), text).unwrap();
        }
        let there = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(there == *text, "src/proto/{name} is not what wire/proto says");
    }
}
