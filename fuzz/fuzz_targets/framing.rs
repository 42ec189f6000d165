//! Reads any bytes as frames of `ferrule/1`, at either end, in any pieces.
#![no_main]

use ferrule_proxy::buffer::Buffer;
use ferrule_proxy::framing::streams::{Side, Streams};
use ferrule_proxy::framing::{Framing as _, FramingError, Heard};
use libfuzzer_sys::fuzz_target;

/// What was heard: the application's bytes, words, and how it ended.
type Told = (Vec<u8>, Vec<Heard>, Option<FramingError>);

fuzz_target!(|input: &[u8]| {
    let Some((&how, bytes)) = input.split_first() else {
        return;
    };
    let side = if how & 1 == 0 {
        Side::Dialled
    } else {
        Side::Dialling
    };
    let answers = how & 2 != 0;
    let whole = read(side, answers, bytes.chunks(usize::MAX));
    let pieces = read(side, answers, bytes.chunks(usize::from(how >> 2) + 1));
    // How the bytes are cut up says nothing; what came in one piece with a fault is lost with it.
    assert_eq!((&whole.1, &whole.2), (&pieces.1, &pieces.2));
    assert!(pieces.0.starts_with(&whole.0));
    assert!(whole.2.is_some() || whole.0 == pieces.0);
    // Nothing of the application's is made up: heads and reasons only take away.
    assert!(pieces.0.len() <= bytes.len());
});

fn read<'b>(side: Side, answers: bool, pieces: impl Iterator<Item = &'b [u8]>) -> Told {
    let mut streams = Streams::new(side);
    let (mut text, mut words) = (Vec::new(), Vec::new());
    if side == Side::Dialling {
        streams.open(&mut Buffer::new());
    }
    for piece in pieces {
        let mut buffer = Buffer::new();
        buffer.push(piece);
        loop {
            let heard = match streams.unpack(&mut buffer, false) {
                Ok(heard) => heard,
                Err(error) => {
                    assert!(!streams.is_reusable() && !streams.is_idle());
                    return (text, words, Some(error));
                }
            };
            text.extend_from_slice(buffer.filled());
            buffer.clear();
            answer(&mut streams, side, answers, &heard);
            if heard == Heard::Data {
                break;
            }
            words.push(heard);
        }
    }
    // Idle means that another stream may follow.
    assert!(!streams.is_idle() || streams.is_reusable());
    (text, words, None)
}

/// Says what a proxy would.
fn answer(streams: &mut Streams, side: Side, answers: bool, heard: &Heard) {
    let mut out = Buffer::new();
    match (heard, side) {
        (Heard::Opened, _) if answers => streams.accept(&mut out),
        (Heard::Opened, _) => {
            streams.refuse("denied", &mut out);
        }
        (Heard::Refused(_) | Heard::Reset(_), _) => {
            streams.reset("", &mut out);
        }
        (Heard::Finished, _) => {
            streams.finish(&mut out);
        }
        _ => {}
    }
    if side == Side::Dialling && streams.is_idle() {
        streams.open(&mut out);
    }
}
