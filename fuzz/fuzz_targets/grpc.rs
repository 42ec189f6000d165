//! Cuts any bytes, in any pieces, into messages as a gRPC stream carries them.
#![no_main]

use ferrule_daemon::grpc::frame::{FrameError, Messages, frame};
use libfuzzer_sys::fuzz_target;

const MOST: usize = 1024;

/// All messages until the first fault.
fn read(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<FrameError>, bool) {
    let mut reading = Messages::new(MOST);
    let mut found = Vec::new();
    for part in bytes.chunks(piece.max(1)) {
        reading.add(part);
        loop {
            match reading.take() {
                Ok(Some(message)) => found.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => return (found, Some(error), false),
            }
        }
    }
    (found, None, reading.is_empty())
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (piece, bytes) = input;
    let (found, fault, is_empty) = read(&bytes, usize::from(piece));
    assert_eq!(
        read(&bytes, bytes.len()),
        (found.clone(), fault.clone(), is_empty),
        "how the bytes arrive changes nothing"
    );
    assert!(found.iter().all(|message| message.len() <= MOST));
    let again: Vec<u8> = found
        .iter()
        .flat_map(|message| frame(message).expect("short enough"))
        .collect();
    assert!(bytes.starts_with(&again), "what was read is what was there");
    assert_eq!(is_empty, fault.is_none() && again.len() == bytes.len());
});
