//! Reads any text as PEM.
#![no_main]

use ferrule_identity::pem::{self, PemLimits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let limits = PemLimits {
        bytes: 16 * 1024,
        blocks: 4,
    };
    let Ok(blocks) = pem::read(text, limits) else {
        return;
    };
    assert!((1..=4).contains(&blocks.len()) && text.len() <= limits.bytes);
    let mut last = 0;
    for block in &blocks {
        assert!(block.line() > last && !block.der().is_empty());
        last = block.line();
        let again =
            pem::read(&pem::write(block.label(), block.der()), PemLimits::ONE).expect("what we write");
        assert_eq!((again[0].label(), again[0].der()), (block.label(), block.der()));
    }
});
