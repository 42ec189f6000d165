//! Tests of the judgement of framing.

use proptest::prelude::*;

use super::*;

/// What the screen says of `bytes`, the same in one piece and byte by byte.
fn judge(bytes: &str) -> Result<Place, (usize, Fault)> {
    let bytes = bytes.as_bytes();
    let mut whole = Screen::default();
    let at_once = whole.check(bytes).map(|()| whole.place());
    let mut pieces = Screen::default();
    let one_by_one = bytes
        .iter()
        .enumerate()
        .try_for_each(|(at, byte)| pieces.check(&[*byte]).map_err(|(_, fault)| (at, fault)))
        .map(|()| pieces.place());
    assert_eq!(
        at_once.map_err(|(_, fault)| fault),
        one_by_one.map_err(|(_, fault)| fault)
    );
    at_once
}

fn fault(bytes: &str) -> Fault {
    judge(bytes).expect_err(bytes).1
}

#[test]
fn follows_plain_requests_from_one_to_the_next() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:5 \r\n\r\n\r\n\n x";
    let chunked =
        "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nab\n\r\nA\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(judge(get), Ok(Place::Start));
    assert_eq!(judge(post), Ok(Place::Start));
    assert_eq!(judge(chunked), Ok(Place::Start));
    assert_eq!(
        judge(&format!("{chunked}{post}{get}{post}{chunked}{get}")),
        Ok(Place::Start)
    );
}

#[test]
fn knows_where_it_is() {
    assert_eq!(judge(""), Ok(Place::Start));
    assert_eq!(judge("G"), Ok(Place::Head));
    assert_eq!(judge("GET / HTTP/1.1\r\nHost: a\r\n\r"), Ok(Place::Head));
    assert_eq!(
        judge("PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\n"),
        Ok(Place::Body)
    );
    assert_eq!(
        judge("PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\na"),
        Ok(Place::Body)
    );
    assert_eq!(
        judge("PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        Ok(Place::Start)
    );
}

// E6: every form that two readers could frame differently.
#[test]
fn refuses_whatever_could_be_read_in_two_ways() {
    let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let cases = [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Fault::LengthAndCoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Fault::LengthAndCoding,
        ),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Fault::TwoLengths),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Fault::TwoLengths),
        ("Content-Length: 5, 5\r\n", Fault::BadLength),
        ("Content-Length: +5\r\n", Fault::BadLength),
        ("Content-Length: -5\r\n", Fault::BadLength),
        ("Content-Length: 0x5\r\n", Fault::BadLength),
        ("Content-Length:\r\n", Fault::BadLength),
        ("Content-Length: 1234567890123456789\r\n", Fault::BadLength),
        ("Transfer-Encoding: xchunked\r\n", Fault::BadCoding),
        ("Transfer-Encoding: gzip, chunked\r\n", Fault::BadCoding),
        ("Transfer-Encoding: chunked, identity\r\n", Fault::BadCoding),
        ("Transfer-Encoding:\r\n", Fault::BadCoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Fault::BadCoding,
        ),
        ("X: 1\r\n Content-Length: 5\r\n", Fault::FoldedLine),
        ("X: 1\r\n\tfolded\r\n", Fault::FoldedLine),
        ("X: 1\r\n folded\n", Fault::FoldedLine),
        ("X: 1\nContent-Length: 5\r\n", Fault::BareLineFeed),
        ("X: 1\rContent-Length: 5\r\n", Fault::BareCarriageReturn),
        ("X: 1\r\r\n", Fault::BareCarriageReturn),
        ("Host: b\r\n", Fault::TwoHosts),
    ];
    for (lines, expected) in cases {
        assert_eq!(fault(&head(lines)), expected, "{lines:?}");
    }
    assert_eq!(fault("GET / HTTP/1.1\n\n"), Fault::BareLineFeed);
    assert_eq!(fault("\r\nGET / HTTP/1.1\r\n\r\n"), Fault::EmptyRequestLine);
    // A value that is padded out of what is kept of a line is not silently cut short.
    let padded = format!("Content-Length: {}5\r\n", " ".repeat(100));
    assert_eq!(fault(&head(&padded)), Fault::BadLength);
    let padded = format!(
        "Transfer-Encoding:{}chunked{}x\r\n",
        " ".repeat(39),
        " ".repeat(100)
    );
    assert_eq!(fault(&head(&padded)), Fault::BadCoding);
}

#[test]
fn refuses_chunks_that_say_more_than_their_size() {
    let chunked = |body: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for body in [
        "5;ext=1\r\n",
        " 5\r\n",
        "5 \r\n",
        "0x5\r\n",
        "+5\r\n",
        "\r\n",
        "fffffffffffffffff\r\n",
        "1\r\nab\r\n",
    ] {
        assert_eq!(fault(&chunked(body)), Fault::BadChunk, "{body:?}");
    }
    assert_eq!(fault(&chunked("1\na")), Fault::BareLineFeed);
    assert_eq!(fault(&chunked("0\r\nX: 1\r\n\r\n")), Fault::Trailers);
}

#[test]
fn the_sound_part_ends_before_the_fault_can_take_effect() {
    let first = "GET /a HTTP/1.1\r\n\r\n";
    let second = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r";
    let (sound, _) = judge(&format!("{first}{second}\n\r\nabc")).unwrap_err();
    assert_eq!(sound, first.len() + second.len());
    let (sound, _) = judge("GET / HTTP/1.1\r\nX: 1\r\n folded\r\n\r\n").unwrap_err();
    assert_eq!(sound, "GET / HTTP/1.1\r\nX: 1\r\n".len());
}

/// Pieces of requests, sound and not; whatever is put together from them must be judged alike however it arrives.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\nHost: x\r\n",
        "Content-Length: 3\r\n",
        "content-length:0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X-Long: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n",
        "\r\n",
        "\r",
        "\n",
        " ",
        ":",
        "3\r\n",
        "a0\r\n",
        "0\r\n\r\n",
        "abc",
        ";x=1",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn judges_alike_however_the_bytes_arrive(bytes in pieces(), cuts in prop::collection::vec(1_usize..40, 1..40)) {
        let mut whole = Screen::default();
        let at_once = whole.check(&bytes);
        let mut parts = Screen::default();
        let (mut at, mut outcome) = (0, Ok(()));
        for cut in cuts.iter().cycle() {
            let end = (at + cut).min(bytes.len());
            outcome = parts.check(&bytes[at..end]).map_err(|(sound, fault)| (at + sound, fault));
            at = end;
            if outcome.is_err() || at == bytes.len() {
                break;
            }
        }
        prop_assert_eq!(at_once.map_err(|(_, fault)| fault), outcome.map_err(|(_, fault)| fault));
        if at_once.is_ok() {
            prop_assert_eq!(whole.place(), parts.place());
        }
    }

    #[test]
    fn any_bytes_at_all_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Err((sound, _)) = Screen::default().check(&bytes) {
            prop_assert!(sound < bytes.len());
        }
    }
}
