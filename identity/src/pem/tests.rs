//! Tries texts that are PEM, and texts that nearly are.

use proptest::prelude::*;

use super::*;

const TWO: &str = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n\
                   -----BEGIN X509 CRL-----\nAwQF\n-----END X509 CRL-----\n";

fn refused(text: &str) -> PemError {
    read(text, PemLimits::CHAIN).unwrap_err()
}

fn block(content: &str) -> String {
    format!("-----BEGIN THING-----\n{content}\n-----END THING-----\n")
}

#[test]
fn several_blocks_are_read_in_order() {
    let blocks = read(TWO, PemLimits::CHAIN).unwrap();
    let seen: Vec<_> = blocks.iter().map(|b| (b.label(), b.line(), b.der())).collect();
    assert_eq!(
        seen,
        [(CERTIFICATE, 1, &[0, 1, 2][..]), (X509_CRL, 4, &[3, 4, 5][..])]
    );
}

#[test]
fn indentation_blank_lines_and_crlf_change_nothing() {
    let spread = format!("\r\n  {}\r\n\t\r\n", TWO.replace('\n', " \r\n\t "));
    let read_spread = read(&spread, PemLimits::CHAIN).unwrap();
    let contents: Vec<_> = read_spread.iter().map(PemBlock::der).collect();
    assert_eq!(contents, [&[0, 1, 2][..], &[3, 4, 5][..]]);
}

#[test]
fn text_outside_the_blocks_is_refused_with_its_line() {
    assert_eq!(
        refused(&format!("subject=web\n{TWO}")),
        PemError::Outside { line: 1 }
    );
    assert_eq!(refused(&format!("{TWO}junk")), PemError::Outside { line: 7 });
    assert_eq!(refused(&format!("\u{feff}{TWO}")), PemError::Outside { line: 1 });
    assert_eq!(
        refused("-----BEGIN lower-----\nAAEC\n-----END lower-----\n"),
        PemError::Outside { line: 1 }
    );
    assert_eq!(refused("----BEGIN X----\n"), PemError::Outside { line: 1 });
}

#[test]
fn a_text_without_a_block_is_refused() {
    assert_eq!(refused(""), PemError::Empty);
    assert_eq!(refused(" \r\n\n"), PemError::Empty);
}

#[test]
fn a_block_ends_with_its_own_label() {
    let label = "THING".to_owned();
    assert_eq!(
        refused("-----BEGIN THING-----\nAAEC\n-----END OTHER-----\n"),
        PemError::EndLabel {
            line: 3,
            label: label.clone()
        }
    );
    assert_eq!(
        refused("\n-----BEGIN THING-----\nAAEC\n"),
        PemError::Unclosed { line: 2, label }
    );
    // A block inside a block: its boundary is no Base64.
    assert!(matches!(
        refused("-----BEGIN THING-----\n-----BEGIN THING-----\nAAEC\n-----END THING-----\n"),
        PemError::Character { line: 2, found: '-' }
    ));
}

#[test]
fn headers_are_refused() {
    let text = block("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAEC");
    assert_eq!(refused(&text), PemError::Header { line: 2 });
}

#[test]
fn only_canonical_base64_is_read() {
    assert_eq!(
        refused(&block("AA EC")),
        PemError::Character { line: 2, found: ' ' }
    );
    assert_eq!(
        refused(&block("AAEC\nAA-_")),
        PemError::Character { line: 3, found: '-' }
    );
    assert!(matches!(
        refused(&block("")),
        PemError::EmptyBlock { line: 1, .. }
    ));
    for wrong in ["A", "AA", "AAE", "AA=", "AA===", "AA==\nAAEC", "AB=="] {
        let error = refused(&block(wrong));
        assert!(
            matches!(error, PemError::Base64 { line: 1, .. }),
            "{wrong}: {error}"
        );
    }
}

#[test]
fn size_is_limited_before_anything_is_read() {
    // A3: a megabyte of headers costs nothing.
    let headers = "X-Header: yes\n".repeat(80_000);
    let error = read(&block(&headers), PemLimits::ONE).unwrap_err();
    assert!(
        matches!(error, PemError::TooLong { limit: 65_536, .. }),
        "{error}"
    );
}

#[test]
fn the_number_of_blocks_is_limited() {
    assert_eq!(
        read(TWO, PemLimits::ONE).unwrap_err(),
        PemError::TooMany { line: 4, limit: 1 }
    );
}

#[test]
fn another_label_is_refused_by_name() {
    assert_eq!(
        read_one(&block("AAEC"), CERTIFICATE).unwrap_err(),
        PemError::Label {
            line: 1,
            found: "THING".into(),
            expected: CERTIFICATE
        }
    );
}

#[test]
fn debug_hides_what_a_block_holds() {
    let blocks = read(TWO, PemLimits::CHAIN).unwrap();
    assert_eq!(
        format!("{:?}", blocks[0]),
        "PemBlock(CERTIFICATE at line 1 [redacted])"
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read(der in prop::collection::vec(any::<u8>(), 1..400)) {
        let text = write(PRIVATE_KEY, &der);
        let widest = text.lines().map(str::len).max().unwrap_or(0);
        prop_assert!(widest <= 64);
        let block = read_one(&text, PRIVATE_KEY).unwrap();
        prop_assert_eq!(block.der(), &der[..]);
    }

    #[test]
    fn one_changed_character_never_reads_as_other_bytes_silently(
        der in prop::collection::vec(any::<u8>(), 1..100), at: prop::sample::Index, with: char,
    ) {
        let text = write(CERTIFICATE, &der);
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        chars[at] = with;
        let changed: String = chars.into_iter().collect();
        if let Ok(block) = read_one(&changed, CERTIFICATE) {
            // What is accepted says so in exactly one way, white space aside.
            let again = write(CERTIFICATE, block.der());
            let strip = |text: &str| text.split([' ', '\t', '\r', '\n']).collect::<String>();
            prop_assert_eq!(strip(&again), strip(&changed));
        }
    }
}
