//! Holds records to those of RFC 8448 §3, and to their limits.

use super::*;

/// Reads hexadecimal digits, spaces aside.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn keys(key: &str, iv: &str, sequence: u64) -> Keys {
    Keys::from_parts(&AES_128_GCM, &hex(key), &hex(iv), sequence).unwrap()
}

fn client(sequence: u64) -> Keys {
    let key = "17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51";
    keys(key, "5b 78 92 3d ee 08 57 90 33 e5 23 d9", sequence)
}

fn server(sequence: u64) -> Keys {
    let key = "9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56";
    keys(key, "cf 78 2b 88 dd 83 54 9a ad f1 e9 84", sequence)
}

fn open(keys: &mut Keys, record: &[u8]) -> Result<(ContentType, Vec<u8>), Error> {
    let mut text = Buffer::new();
    let kind = keys.open(&Record::first(record)?.unwrap(), &mut text)?;
    Ok((kind, text.filled().to_vec()))
}

const CLIENT_DATA: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 \
     bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee \
     bb 21 69 49 15 e4";
const CLIENT_CLOSE: &str = "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
const SERVER_DATA: &str = "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 \
     aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 \
     32 e1 67 c2 95 5d";
const SERVER_CLOSE: &str = "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

#[test]
fn records_are_those_of_the_standard() {
    let data: Vec<u8> = (0..50).collect();
    let sides = [
        (client as fn(u64) -> Keys, 0, CLIENT_DATA, CLIENT_CLOSE),
        // The server's first record carries a ticket.
        (server, 1, SERVER_DATA, SERVER_CLOSE),
    ];
    for (side, first, sealed_data, sealed_close) in sides {
        let mut sealing = side(first);
        let mut out = Buffer::new();
        sealing
            .seal(ContentType::ApplicationData, &data, &mut out)
            .unwrap();
        sealing.seal(ContentType::Alert, &[1, 0], &mut out).unwrap();
        assert_eq!(out.filled(), [hex(sealed_data), hex(sealed_close)].concat());

        let mut opening = side(first);
        let opened = open(&mut opening, &hex(sealed_data)).unwrap();
        assert_eq!(opened, (ContentType::ApplicationData, data.clone()));
        let opened = open(&mut opening, &hex(sealed_close)).unwrap();
        assert_eq!(opened, (ContentType::Alert, vec![1, 0]));
    }
}

#[test]
fn a_record_is_taken_in_its_turn_alone_and_unchanged() {
    let record = hex(CLIENT_DATA);
    for sequence in [1, 1 << 32, u64::MAX - 1] {
        assert_eq!(open(&mut client(sequence), &record), Err(Error::DecryptError));
    }
    for at in 0..record.len() {
        let mut altered = record.clone();
        altered[at] ^= 1;
        // A changed length makes another record of it, or none yet.
        let is_whole = !matches!(Record::first(&altered), Ok(None));
        assert!(!is_whole || open(&mut client(0), &altered).is_err(), "byte {at}");
    }
}

#[test]
fn padding_is_left_out() {
    let mut out = Buffer::new();
    // The kind that ends up last is a zero, so what `seal` takes for content is content, kind and padding.
    let inner = [b"text".as_slice(), &[23, 0, 0, 0]].concat();
    client(0).seal(ContentType::from(0), &inner, &mut out).unwrap();
    let opened = open(&mut client(0), out.filled()).unwrap();
    assert_eq!(opened, (ContentType::ApplicationData, b"text".to_vec()));
    // Nothing but zeros has no kind.
    out.clear();
    client(0).seal(ContentType::from(0), &[0; 8], &mut out).unwrap();
    assert!(matches!(
        open(&mut client(0), out.filled()),
        Err(Error::PeerMisbehaved(_))
    ));
}

#[test]
fn lengths_have_limits() {
    let mut out = Buffer::new();
    let full = vec![7; MOST_CONTENT];
    client(0)
        .seal(ContentType::ApplicationData, &full, &mut out)
        .unwrap();
    assert_eq!(open(&mut client(0), out.filled()).unwrap().1, full);
    // One byte more can be neither sealed as content nor smuggled in as padding.
    out.clear();
    let longer = vec![7; MOST_CONTENT + 1];
    assert!(
        client(0)
            .seal(ContentType::ApplicationData, &longer, &mut out)
            .is_err()
    );
    assert_eq!(out.filled(), b"");
    let too_long = [23, 3, 3, 0x41, 1];
    assert_eq!(
        Record::first(&too_long).unwrap_err(),
        Error::PeerSentOversizedRecord
    );
    assert!(Record::first(&[23, 3, 3, 0x41, 0]).unwrap().is_none());
    for length in 0..=TAG_BYTES {
        let mut short = vec![23, 3, 3, 0, u8::try_from(length).unwrap()];
        short.extend(vec![0; length]);
        assert!(open(&mut client(0), &short).is_err(), "{length}");
    }
}

#[test]
fn what_is_no_protected_record_is_refused_by_its_first_bytes() {
    for kind in [20, 21, 22, 24, 0, b'G'] {
        assert!(Record::first(&[kind, 3, 3, 0, 1]).is_err(), "{kind}");
    }
    for version in [[3, 1], [3, 4], [2, 3]] {
        assert!(Record::first(&[23, version[0], version[1], 0, 20]).is_err());
    }
    for length in 0..HEADER_BYTES {
        assert!(Record::first(&[23, 3, 3, 0, 20][..length]).unwrap().is_none());
    }
}

#[test]
fn numbers_are_never_used_twice() {
    let mut out = Buffer::new();
    let mut last = client(u64::MAX);
    assert_eq!(
        last.seal(ContentType::ApplicationData, b"one too many", &mut out),
        Err(Error::EncryptError)
    );
    assert_eq!(out.filled(), b"");
    let record = hex(CLIENT_DATA);
    assert_eq!(open(&mut client(u64::MAX), &record), Err(Error::DecryptError));
    assert_eq!(format!("{last:?}"), format!("Keys([redacted], {})", u64::MAX));
}

#[test]
fn every_cipher_that_is_offered_seals_and_opens() {
    for algorithm in [&AES_128_GCM, &AES_256_GCM, &CHACHA20_POLY1305] {
        let keys = || Keys::from_parts(algorithm, &vec![5; algorithm.key_len()], &[6; 12], 7).unwrap();
        let mut out = Buffer::new();
        keys()
            .seal(ContentType::ApplicationData, b"some text", &mut out)
            .unwrap();
        let opened = open(&mut keys(), out.filled()).unwrap();
        assert_eq!(opened, (ContentType::ApplicationData, b"some text".to_vec()));
        assert!(Keys::from_parts(algorithm, &[5; 3], &[6; 12], 0).is_err());
        assert!(Keys::from_parts(algorithm, &vec![5; algorithm.key_len()], &[6; 8], 0).is_err());
    }
}
