//! Reads any bytes as YAML.
#![no_main]

use ferrule_document::{Document, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        bytes: 8 * 1024,
        depth: 16,
        nodes: 2_000,
    };
    match Document::parse("fuzz.yaml", bytes, limits) {
        Err(problems) => assert!(!problems.is_empty() && problems.to_string().contains("fuzz.yaml")),
        Ok(documents) => {
            for document in documents {
                // Nothing is read from it, so every field is one too many; it must be said, and not panic.
                let read = document.read(|fields| fields.optional("spec", |item| item.text()).map(drop));
                if let Err(problems) = read {
                    assert!(problems.iter().all(|problem| !problem.message().is_empty()));
                }
            }
        }
    }
});
