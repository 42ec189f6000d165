//! Reads any first bytes as a hello or a request, whole and in parts: what was once told is not taken back.
#![no_main]

use std::sync::LazyLock;

use ferrule_fuzz::bend;
use ferrule_proxy::sniff::name::{MOST_BYTES, Told, name_in};
use ferrule_proxy::sniff::{Sniffer, Speech};
use libfuzzer_sys::fuzz_target;

/// A hello for `db.example` in two records, with a list of protocols.
static HELLO: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("short");
        [&length.to_be_bytes(), bytes].concat()
    };
    let name = sized(&[&[0], &sized(b"db.example")[..]].concat());
    let protocols = sized(b"\x02h2\x08http/1.1");
    let mut extensions = [&[0, 0], &sized(&name)[..]].concat();
    extensions.extend([0, 16]);
    extensions.extend(sized(&protocols));
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(sized(&extensions));
    let message = [&[1, 0], &sized(&body)[..]].concat();
    let (one, two) = message.split_at(20);
    let record = |part: &[u8]| [&[22, 3, 1], &sized(part)[..]].concat();
    let hello = [record(one), record(two)].concat();
    assert!(matches!(name_in(&hello), Told::Host(_)), "a good hello");
    hello
});

const REQUEST: &[u8] =
    b"GET http://db.example/a?b HTTP/1.1\r\naccept: */*\r\nHost: db.example:8080\r\n\r\nbody";

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let bytes = match how % 3 {
        0 => rest.to_vec(),
        1 => bend(&HELLO, rest),
        _ => bend(REQUEST, rest),
    };
    let whole = name_in(&bytes);
    match &whole {
        Told::Host(host) => {
            let host = host.to_string();
            assert!(!host.is_empty() && host.is_ascii() && host == host.to_ascii_lowercase());
            assert!(host.parse::<std::net::IpAddr>().is_err(), "{host}");
        }
        Told::Nameless(why) => assert!(!why.to_string().chars().any(|c| c == '\n'), "{why}"),
        Told::Unclear => assert!(bytes.len() < MOST_BYTES),
    }
    // Cut anywhere, the beginning says the same as the whole, or nothing yet.
    let cut = usize::from(*how) * bytes.len() / 256;
    match name_in(&bytes[..cut]) {
        Told::Unclear => {}
        told => assert_eq!(told, whole),
    }
    // The mesh's way of telling must not depend on how bytes arrive either.
    let (mut once, mut twice) = (Sniffer::default(), Sniffer::default());
    let all = once.take(&bytes);
    let first = twice.take(&bytes[..cut]);
    let last = if first == Speech::Unclear {
        twice.take(&bytes[cut..])
    } else {
        first
    };
    assert_eq!(all, last);
});
