//! Tests of the framing `ferrule/1`: words in and out of turn, in any pieces.

use super::*;

fn pair() -> (Streams, Streams) {
    (Streams::new(Side::Dialling), Streams::new(Side::Dialled))
}

fn said(say: impl FnOnce(&mut Buffer)) -> Buffer {
    let mut out = Buffer::new();
    say(&mut out);
    out
}

fn data(from: &mut Streams, bytes: &[u8]) -> Buffer {
    let mut piece = Buffer::new();
    piece.skip(from.head());
    piece.push(bytes);
    from.pack(piece.filled_mut());
    piece
}

/// Everything that `to` makes of `bytes`: words in their order, with the application's bytes before each.
fn heard(to: &mut Streams, bytes: &[u8]) -> Result<Vec<(Vec<u8>, Heard)>, FramingError> {
    let mut text = Buffer::new();
    text.push(bytes);
    let mut all = Vec::new();
    loop {
        let heard = to.unpack(&mut text, false)?;
        let is_last = heard == Heard::Data;
        if !is_last || !text.filled().is_empty() {
            all.push((text.filled().to_vec(), heard));
        }
        if is_last {
            return Ok(all);
        }
        text.clear();
    }
}

fn word(heard: Heard) -> Vec<(Vec<u8>, Heard)> {
    vec![(Vec::new(), heard)]
}

/// Both ends of a stream that is open.
fn opened() -> (Streams, Streams) {
    let (mut near, mut far) = pair();
    let open = said(|out| near.open(out));
    assert_eq!(heard(&mut far, open.filled()), Ok(word(Heard::Opened)));
    let accepted = said(|out| far.accept(out));
    assert_eq!(heard(&mut near, accepted.filled()), Ok(word(Heard::Accepted)));
    (near, far)
}

#[test]
fn a_stream_from_its_opening_to_both_ends_leaves_room_for_the_next() {
    let (mut near, mut far) = opened();
    for round in 0..3_u8 {
        let there = data(&mut near, &[round; 5]);
        assert_eq!(
            heard(&mut far, there.filled()),
            Ok(vec![(vec![round; 5], Heard::Data)])
        );
        let mut end = said(|out| assert_eq!(near.finish(out), End::Stream));
        assert!(near.is_reusable() && !near.is_idle());
        // A second end is not said.
        near.finish(&mut end);
        assert_eq!(heard(&mut far, end.filled()), Ok(word(Heard::Finished)));
        assert!(!far.is_reusable());
        let back = data(&mut far, b"after the end");
        assert_eq!(
            heard(&mut near, back.filled()),
            Ok(vec![(b"after the end".to_vec(), Heard::Data)])
        );
        let end = said(|out| assert_eq!(far.finish(out), End::Stream));
        assert_eq!(heard(&mut near, end.filled()), Ok(word(Heard::Finished)));
        assert!(near.is_idle() && far.is_idle());
        let open = said(|out| near.open(out));
        assert_eq!(heard(&mut far, open.filled()), Ok(word(Heard::Opened)));
        let accepted = said(|out| far.accept(out));
        assert_eq!(heard(&mut near, accepted.filled()), Ok(word(Heard::Accepted)));
    }
}

#[test]
fn frames_are_the_same_in_pieces_of_any_length() {
    let (mut near, _) = pair();
    let mut all = Buffer::new();
    near.open(&mut all);
    let mut expected = Vec::new();
    for length in [1_usize, 3, 700, 2, 5000] {
        let piece: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        all.push(data(&mut near, &piece).filled());
        expected.extend(piece);
    }
    near.reset("denied", &mut all);
    for step in [1, 2, 3, 4, 5, 7, 64, 1000, 100_000] {
        let mut far = Streams::new(Side::Dialled);
        let (mut text, mut words) = (Vec::new(), Vec::new());
        for piece in all.filled().chunks(step) {
            for (bytes, heard) in heard(&mut far, piece).unwrap() {
                text.extend(bytes);
                words.push(heard);
            }
        }
        words.retain(|heard| *heard != Heard::Data);
        assert_eq!(text, expected, "in steps of {step}");
        assert_eq!(words, [Heard::Opened, Heard::Reset("denied".to_owned())]);
    }
}

#[test]
fn what_is_said_before_the_stream_is_taken_counts() {
    let (mut near, mut far) = pair();
    let mut first = said(|out| near.open(out));
    first.push(data(&mut near, b"GET /").filled());
    near.finish(&mut first);
    assert_eq!(
        heard(&mut far, first.filled()),
        Ok(vec![
            (vec![], Heard::Opened),
            (b"GET /".to_vec(), Heard::Finished)
        ])
    );
    let mut answer = said(|out| far.accept(out));
    answer.push(data(&mut far, b"200").filled());
    far.finish(&mut answer);
    assert_eq!(
        heard(&mut near, answer.filled()),
        Ok(vec![
            (vec![], Heard::Accepted),
            (b"200".to_vec(), Heard::Finished)
        ])
    );
    assert!(near.is_idle() && far.is_idle());
}

#[test]
fn a_refusal_is_over_when_it_is_answered() {
    let (mut near, mut far) = pair();
    let mut first = said(|out| near.open(out));
    first.push(data(&mut near, b"for nobody").filled());
    assert!(heard(&mut far, first.filled()).is_ok());
    let no = said(|out| assert_eq!(far.refuse("denied", out), End::Stream));
    assert!(far.is_reusable() && !far.is_idle());
    assert_eq!(
        heard(&mut near, no.filled()),
        Ok(word(Heard::Refused("denied".to_owned())))
    );
    assert!(!near.is_reusable());
    // What was on its way already concerns nobody, and the next stream begins after the answer.
    let mut more = data(&mut near, b"more for nobody");
    assert_eq!(near.reset("", &mut more), End::Stream);
    near.open(&mut more);
    assert_eq!(heard(&mut far, more.filled()), Ok(word(Heard::Opened)));
}

#[test]
fn resets_that_cross_end_the_stream_on_both_sides() {
    let (mut near, mut far) = opened();
    let mut there = data(&mut near, b"lost");
    assert_eq!(near.reset("", &mut there), End::Stream);
    let mut back = data(&mut far, b"lost, too");
    assert_eq!(far.reset("revoked", &mut back), End::Stream);
    assert_eq!(heard(&mut far, there.filled()), Ok(vec![]));
    assert_eq!(heard(&mut near, back.filled()), Ok(vec![]));
    assert!(near.is_idle() && far.is_idle());
}

#[test]
fn a_reset_meets_an_acceptance_and_an_end() {
    let (mut near, mut far) = pair();
    let mut there = said(|out| near.open(out));
    assert_eq!(near.reset("", &mut there), End::Stream);
    assert_eq!(
        heard(&mut far, there.filled()),
        Ok(vec![
            (vec![], Heard::Opened),
            (vec![], Heard::Reset(String::new()))
        ])
    );
    // It was accepted before the reset was heard.
    let mut back = said(|out| far.accept(out));
    far.finish(&mut back);
    assert_eq!(heard(&mut near, back.filled()), Ok(vec![]));
    assert!(near.is_idle() && far.is_idle());
}

#[test]
fn whoever_has_finished_resets_by_the_end_of_the_connection() {
    let (mut near, _) = opened();
    let mut out = Buffer::new();
    near.finish(&mut out);
    let before = out.filled().len();
    assert_eq!(near.reset("", &mut out), End::Connection);
    assert_eq!(out.filled().len(), before);
}

#[test]
fn leaving_is_an_end_only_where_no_stream_is_open() {
    let over = |streams: &mut Streams| streams.unpack(&mut Buffer::new(), true);
    let (mut near, mut far) = pair();
    assert_eq!(over(&mut far), Ok(Heard::Left));
    assert!(!far.is_reusable());
    // Asked, and not answered: it was not taken.
    near.open(&mut Buffer::new());
    assert_eq!(over(&mut near), Ok(Heard::Left));
    let (mut near, mut far) = opened();
    assert_eq!(over(&mut near), Err(FramingError::Unfinished));
    assert_eq!(over(&mut far), Err(FramingError::Unfinished));
    assert!(!near.is_reusable() && !far.is_reusable());
    // After its last word nothing is missing.
    let (mut near, mut far) = opened();
    let end = said(|out| {
        far.finish(out);
    });
    heard(&mut near, end.filled()).unwrap();
    assert_eq!(over(&mut near), Ok(Heard::Data));
    near.finish(&mut Buffer::new());
    assert!(!near.is_reusable());
    // Within a frame.
    let (_, mut far) = opened();
    heard(&mut far, &[4, 0, 0, 9, 1]).unwrap();
    assert_eq!(over(&mut far), Err(FramingError::Unfinished));
}

#[test]
fn words_out_of_turn_are_refused_by_name() {
    let wrong = |streams: &mut Streams, bytes: &[u8], what| {
        let before = format!("{streams:?}");
        let result = heard(streams, bytes);
        assert_eq!(result, Err(FramingError::OutOfTurn { what }), "{before}");
        // Nothing else may follow, and nothing can be said but the end of the connection.
        assert!(!streams.is_reusable());
        assert_eq!(streams.reset("", &mut Buffer::new()), End::Connection);
    };
    let (open, accepted, refused) = ([1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 1, b'x']);
    let (piece, finish, reset) = ([4, 0, 0, 1, 7], [5, 0, 0, 0], [6, 0, 0, 0]);
    for (bytes, what) in [
        (&accepted[..], "accepted"),
        (&refused[..], "refused"),
        (&piece[..], "data"),
        (&finish[..], "finish"),
        (&reset[..], "reset"),
    ] {
        let (mut near, mut far) = pair();
        wrong(&mut near, bytes, what);
        wrong(&mut far, bytes, what);
    }
    // The dialled side opens nothing.
    wrong(&mut pair().0, &open, "open");
    wrong(&mut opened().0, &open, "open");
    // One stream at a time.
    wrong(&mut opened().1, &open, "open");
    // Answered once, and nothing before.
    wrong(&mut opened().0, &accepted, "accepted");
    wrong(&mut opened().0, &refused, "refused");
    wrong(&mut opened().1, &accepted, "accepted");
    for (bytes, what) in [(&piece[..], "data"), (&finish[..], "finish")] {
        let (mut near, _) = pair();
        near.open(&mut Buffer::new());
        wrong(&mut near, bytes, what);
    }
    // Nothing after a last word.
    for (bytes, what) in [
        (&piece[..], "data"),
        (&finish[..], "finish"),
        (&reset[..], "reset"),
    ] {
        let (_, mut far) = opened();
        heard(&mut far, &finish).unwrap();
        wrong(&mut far, bytes, what);
    }
}

#[test]
fn broken_frames_are_refused_by_name() {
    for (bytes, error) in [
        (&[9, 0, 0, 0][..], FramingError::UnknownKind { byte: 9 }),
        (
            &[1, 0, 0, 1, 0],
            FramingError::Length {
                what: "open",
                length: 1,
            },
        ),
        (
            &[4, 255, 255, 255],
            FramingError::Length {
                what: "data",
                length: 0xFF_FF_FF,
            },
        ),
        (&[6, 0, 0, 2, b'N', b'o'], FramingError::Reason),
    ] {
        let (_, mut far) = opened();
        assert_eq!(heard(&mut far, bytes), Err(error));
        assert!(!far.is_reusable());
    }
}

#[test]
fn a_thousand_streams_keep_nothing_of_each_other() {
    let (mut near, mut far) = pair();
    for round in 0..1000_u32 {
        let mut there = said(|out| near.open(out));
        there.push(data(&mut near, &round.to_be_bytes()).filled());
        match round % 3 {
            0 => near.finish(&mut there),
            _ => near.reset("", &mut there),
        };
        let told = heard(&mut far, there.filled()).unwrap();
        let text: Vec<u8> = told.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        assert_eq!(text, round.to_be_bytes());
        let mut back = Buffer::new();
        match round % 2 {
            0 => far.refuse("denied", &mut back),
            _ => {
                far.accept(&mut back);
                far.finish(&mut back)
            }
        };
        heard(&mut near, back.filled()).unwrap();
        assert!(near.is_idle() && far.is_idle(), "round {round}");
    }
}
