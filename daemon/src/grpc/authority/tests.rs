//! Follows what clients send, whole and in pieces.

use proptest::prelude::*;

use super::*;

/// What is left of `bytes`, which come in pieces of `size`.
fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut authority = Authority::default();
    for piece in bytes.chunks_mut(size) {
        authority.pass(piece);
    }
    bytes
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// A string that is not in Huffman's code.
fn string(text: &str) -> Vec<u8> {
    let mut bytes = number(0, 0x7f, text.len());
    bytes.extend(text.as_bytes());
    bytes
}

fn number(first: u8, mask: u8, value: usize) -> Vec<u8> {
    let Some(mut rest) = value.checked_sub(usize::from(mask)) else {
        return vec![first | u8::try_from(value).unwrap()];
    };
    let mut bytes = vec![first | mask];
    while rest >= 128 {
        bytes.push(0x80 | u8::try_from(rest % 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// A call as gRPC's C core writes it: names as text, every field put into the table.
fn call(authority: &str) -> Vec<u8> {
    let mut block = vec![0x86, 0x83];
    for (name, value) in [
        (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        (":authority", authority),
        ("x-path", "%2Fkeep/this"),
    ] {
        block.push(0x40);
        block.extend(string(name));
        block.extend(string(value));
    }
    block
}

fn whole(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &frame(4, 0, b"\0\0\0\0\0%"), &frames.concat()].concat()
}

const PATH: &str = "%2Frun%2Fspiffe%2Fworkload_api.sock";
const TAKEN: &str = "-2Frun-2Fspiffe-2Fworkload_api.sock";

#[test]
fn the_path_of_a_socket_becomes_an_authority_and_nothing_else_changes() {
    let of = |authority: &str| whole(&[frame(HEADERS, 4, &call(authority)), frame(0, 1, b"\0\0\0\0\0/%")]);
    for size in [1, 2, 7, 1000] {
        assert_eq!(passed(&of(PATH), size), of(TAKEN), "{size}");
        assert_eq!(passed(&of("/run/x.sock"), size), of("-run-x.sock"), "{size}");
        assert_eq!(passed(&of("localhost:80"), size), of("localhost:80"), "{size}");
    }
    assert!(http::uri::Authority::try_from(PATH).is_err());
    assert!(http::uri::Authority::try_from(TAKEN).is_ok());
}

#[test]
fn it_is_found_in_every_way_of_writing_it() {
    // By its place in the table: put into the table, not put there, never to be put there.
    for first in [0x41, 0x01, 0x11] {
        let of = |authority: &str| whole(&[frame(HEADERS, 4, &[&[first], &string(authority)[..]].concat())]);
        assert_eq!(passed(&of(PATH), 1000), of(TAKEN));
    }
    // After a change of the table's size, after a long value, with padding, a priority, and in several frames.
    let of = |authority: &str| {
        let long = [&[0x0f, 1], &string(&"/".repeat(5000))[..]].concat();
        let block = [number(0x20, 0x1f, 4096), long, call(authority)].concat();
        let (one, two) = block.split_at(5100);
        let padded = [&[3, 0, 0, 0, 0, 9][..], one, b"%/%"].concat();
        whole(&[
            frame(HEADERS, PADDED | PRIORITY, &padded),
            frame(CONTINUATION, 0, &[]),
            frame(CONTINUATION, 4, two),
            frame(6, 0, b"/%/%/%/%"),
            frame(HEADERS, 4, &call(authority)),
        ])
    };
    assert_eq!(passed(&of(PATH), 1000), of(TAKEN));
}

#[test]
fn what_cannot_be_followed_passes_as_it_is() {
    let huffman = [0x41, 0x82, b'%', b'/'];
    let other_name = [&[0x40], &string(":authoritx")[..], &string(PATH)].concat();
    let shorter_name = [&[0x40], &string(":author")[..], &string(PATH)].concat();
    let endless = [0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, b'/'];
    for block in [&huffman[..], &other_name, &shorter_name, &endless] {
        let bytes = whole(&[frame(HEADERS, 4, block)]);
        assert_eq!(passed(&bytes, 3), bytes);
    }
    let mut padded = vec![200];
    padded.extend(call(PATH));
    for bytes in [
        b"GET /%2F HTTP/1.1\r\nhost: a/b\r\n\r\n".to_vec(),
        whole(&[frame(HEADERS, PADDED, &padded[..50])]),
        whole(&[frame(HEADERS, PADDED, &[]), frame(HEADERS, 4, &call(PATH))]),
        whole(&[frame(HEADERS, PRIORITY, &[1]), frame(HEADERS, 4, &call(PATH))]),
    ] {
        assert_eq!(passed(&bytes, 3), bytes);
    }
}

proptest! {
    // Whatever comes, in whatever pieces: the same bytes but for `-` in the place of `%` and `/`, and a second look
    // finds nothing more to do.
    #[test]
    fn only_those_two_bytes_change(
        begins: bool,
        kinds in proptest::collection::vec((0..12_u8, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..6),
        size in 1..50_usize,
    ) {
        let frames: Vec<Vec<u8>> = kinds.iter().map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
        let bytes = if begins { whole(&frames) } else { frames.concat() };
        let once = passed(&bytes, size);
        prop_assert_eq!(&once, &passed(&bytes, usize::MAX));
        prop_assert_eq!(&once, &passed(&once, size));
        for (before, after) in bytes.iter().zip(&once) {
            prop_assert!(before == after || (*after == b'-' && matches!(before, b'%' | b'/')));
        }
    }
}
