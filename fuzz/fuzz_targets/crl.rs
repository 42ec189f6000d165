//! Reads any bytes as a revocation list, and bends a good one.
#![no_main]

use ferrule_fuzz::{NOW, PKI, bend};
use ferrule_identity::Crl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let der = match how % 2 {
        0 => rest.to_vec(),
        _ => bend(&PKI.crl, rest),
    };
    if let Ok(crl) = Crl::from_der(&der, std::slice::from_ref(&PKI.root), NOW) {
        assert_eq!(der, PKI.crl, "a list that nobody signed");
        assert!(crl.next_update() >= NOW);
    }
});
