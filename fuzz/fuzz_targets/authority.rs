//! Lets any bytes pass as those of a client of the Workload API: nothing but `%` and `/` ever changes.
#![no_main]

use std::sync::LazyLock;

use ferrule_daemon::grpc::authority::Authority;
use ferrule_fuzz::bend;
use libfuzzer_sys::fuzz_target;

/// A client's first words, with the path of a socket in `:authority`, written in both ways.
const GOOD: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x1f\x01\x04\0\0\0\x01\x83\x86\x40\x0a:authority\x0d%2Frun%2Fsock\x44\x01/\
    \0\0\x10\x01\x04\0\0\0\x03\x83\x86\x01\x09/run/sock\x44\x01/";

fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut authority = Authority::default();
    for piece in bytes.chunks_mut(size) {
        authority.pass(piece);
    }
    bytes
}

static IS_GOOD: LazyLock<()> = LazyLock::new(|| {
    let passed = passed(GOOD, usize::MAX);
    for found in [&b"-2Frun-2Fsock"[..], b"-run-sock"] {
        assert!(passed.windows(found.len()).any(|part| part == found));
    }
});

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&IS_GOOD);
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let bytes = match how % 3 {
        0 => rest.to_vec(),
        1 => bend(GOOD, rest),
        _ => [&GOOD[..33], rest].concat(),
    };
    let whole = passed(&bytes, usize::MAX);
    assert_eq!(whole, passed(&bytes, usize::from(*how) + 1));
    assert_eq!(whole, passed(&whole, usize::MAX));
    assert_eq!(whole.len(), bytes.len());
    for (before, after) in bytes.iter().zip(&whole) {
        assert!(before == after || (*after == b'-' && matches!(before, b'%' | b'/')));
    }
});
