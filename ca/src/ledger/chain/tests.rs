//! Claims about the chain of hashes.

use proptest::prelude::*;

use super::*;

fn row<'a>(sequence: u64, kind: &'a str, body: &'a str) -> RowContent<'a> {
    RowContent {
        replica: "r1",
        epoch: 1,
        sequence,
        time: Timestamp::from_unix(1_800_000_000),
        kind,
        body,
    }
}

#[test]
fn the_hash_on_disk_does_not_drift() {
    // Computed apart from this code, from the description at `RowContent::hash`.
    assert_eq!(
        row(1, "issued", "{}").hash(&RowHash::NONE).to_string(),
        "96fcec0c8e5c0b71abf3e8116125835480237270ab71ef8e8b72bce5e6d0c5f5"
    );
}

#[test]
fn a_chain_is_followed_row_by_row() {
    let mut head = Head::EMPTY;
    for sequence in 1..=3 {
        let content = row(sequence, "issued", "{}");
        let hash = content.hash(&head.hash);
        head.follow(&content, &hash, false).unwrap();
    }
    assert_eq!(head.sequence, 3);
}

#[test]
fn whatever_is_changed_is_found() {
    let first = row(1, "issued", "{}");
    let mut head = Head::EMPTY;
    head.follow(&first, &first.hash(&RowHash::NONE), false).unwrap();
    let second = row(2, "issued", "{}");
    let hash = second.hash(&head.hash);

    let changed = [
        RowContent {
            replica: "r2",
            ..second
        },
        RowContent {
            time: Timestamp::from_unix(0),
            ..second
        },
        RowContent {
            kind: "revoked",
            ..second
        },
        RowContent {
            body: "{ }",
            ..second
        },
    ];
    for content in changed {
        assert_eq!(
            head.clone().follow(&content, &hash, false),
            Err(ChainFault::Hash { sequence: 2 }),
            "{content:?}"
        );
    }
    let third = RowContent {
        sequence: 3,
        ..second
    };
    assert_eq!(
        head.clone().follow(&third, &hash, false),
        Err(ChainFault::Gap {
            expected: 2,
            found: 3
        })
    );
    let later = RowContent { epoch: 2, ..second };
    let fault = head.clone().follow(&later, &later.hash(&head.hash), false);
    assert!(matches!(fault, Err(ChainFault::Epoch { .. })), "{fault:?}");
    let fault = head.clone().follow(&second, &hash, true);
    assert!(matches!(fault, Err(ChainFault::Epoch { .. })), "{fault:?}");
    assert!(head.clone().follow(&later, &later.hash(&head.hash), true).is_ok());
}

proptest! {
    // Text that moves from one field to its neighbour must not keep the hash.
    #[test]
    fn two_rows_never_share_their_octets(kind in "[a-z\\x00]{0,12}", body in "[a-z{}\\x00]{0,12}", cut in 0_usize..24) {
        let both = format!("{kind}{body}");
        let cut = cut.min(both.len());
        let (other_kind, other_body) = both.split_at(cut);
        let same = (other_kind, other_body) == (kind.as_str(), body.as_str());
        let hash = row(1, &kind, &body).hash(&RowHash::NONE);
        let other = row(1, other_kind, other_body).hash(&RowHash::NONE);
        prop_assert_eq!(hash == other, same);
    }
}
