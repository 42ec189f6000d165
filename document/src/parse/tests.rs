//! Tests of parsing: what is refused, where the places lie, that no bytes hurt.

use proptest::prelude::*;

use super::*;
use crate::Fields;

fn parsed(text: &str) -> Result<Vec<Document>, Problems> {
    Document::parse("a.yaml", text.as_bytes(), Limits::default())
}

/// All complaints about a document whose fields are of no interest.
fn complaints(text: &str) -> String {
    match parsed(text) {
        Err(problems) => problems.to_string(),
        Ok(documents) => {
            let faults = documents
                .into_iter()
                .map(|document| document.faults_for_test().to_string());
            faults.collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn what_yaml_offers_for_surprises_is_refused_with_its_place() {
    for (text, complaint) in [
        (
            "a: &x 1",
            "a.yaml:1:4: a: an anchor (`&name`) is not allowed: write the value where it is wanted",
        ),
        (
            "a: !!str 1",
            "a.yaml:1:4: a: the tag `tag:yaml.org,2002:!str` is not allowed",
        ),
        (
            "<<: {a: 1}",
            "a.yaml:1:1: a merge key (`<<`) is not allowed: write the fields themselves",
        ),
        (
            "a: 1\nb:\n  c: 1\n  \"c\": 2",
            "a.yaml:4:3: b: the field `c` is written twice",
        ),
        (
            "? [a, b]\n: 1",
            "a.yaml:1:3: the name of a field must be a single word",
        ),
        ("~: 1", "a.yaml:1:1: a field has no name"),
    ] {
        assert_eq!(complaints(text), complaint, "{text:?}");
    }
}

#[test]
fn an_alias_is_refused_so_nothing_can_multiply() {
    let found = complaints("a: &x [1, 2]\nb: [*x, *x]");
    assert_eq!(
        found,
        "a.yaml:1:4: a: an anchor (`&name`) is not allowed: write the value where it is wanted\n\
         a.yaml:2:5: b[0]: an alias (`*name`) is not allowed: write the value itself\n\
         a.yaml:2:9: b[1]: an alias (`*name`) is not allowed: write the value itself"
    );
}

#[test]
fn broken_text_is_refused_with_its_place() {
    let unclosed = parsed("a: [1\n").unwrap_err().to_string();
    assert!(unclosed.starts_with("a.yaml:2:1: a[1]: not YAML: "), "{unclosed}");
    let not_utf8 = Document::parse("a.yaml", b"a: 1\nb: \xc3\xbc\xff", Limits::default()).unwrap_err();
    assert_eq!(not_utf8.to_string(), "a.yaml:2:5: the text is not UTF-8");
}

#[test]
fn size_depth_and_number_are_bounded() {
    // E10
    let limits = Limits {
        bytes: 40,
        depth: 3,
        nodes: 10,
    };
    let refused = |text: &str| {
        Document::parse("a.yaml", text.as_bytes(), limits)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(&" ".repeat(41)),
        "a.yaml: the text is 41 bytes long, more than 40"
    );
    assert_eq!(
        refused("[[[[1]]]]"),
        "a.yaml:1:4: [0][0][0]: lists and maps lie more than 3 levels deep"
    );
    assert_eq!(
        refused("- - - - 1"),
        "a.yaml:1:7: [0][0][0]: lists and maps lie more than 3 levels deep"
    );
    assert_eq!(
        refused("[1,2,3,4,5,6,7,8,9,0]"),
        "a.yaml:1:20: the text has more than 10 values"
    );
}

#[test]
fn a_megabyte_of_brackets_is_refused_without_overflowing_the_stack() {
    // E10
    for unit in ["[", "{", "- ", "? ", "{a: ", "[[],"] {
        let text = unit.repeat((1 << 20) / unit.len());
        assert!(parsed(&text).is_err(), "{unit:?}");
    }
}

#[test]
fn several_documents_lie_in_one_text_and_empty_ones_are_left_out() {
    let documents = parsed("---\n# nothing\n---\na: 1\n---\nb: 2\n...\n").unwrap();
    let lines: Vec<_> = documents.iter().map(|document| document.place().line()).collect();
    assert_eq!(lines, [Some(4), Some(6)]);
    let one = |text: &str| Document::parse_one("a.yaml", text.as_bytes(), Limits::default());
    assert!(one("a: 1").is_ok());
    assert_eq!(
        one("# nothing").unwrap_err().to_string(),
        "a.yaml:1:1: the document is empty"
    );
    assert_eq!(
        one("a: 1\n---\nb: 2").unwrap_err().to_string(),
        "a.yaml:3:1: there is more than one document"
    );
}

proptest! {
    #[test]
    fn no_text_hurts(text in "[-a\\[\\]{},:\"'&*!|>%@#?~< \\n\\t0-9]{0,60}") {
        read_everything(text.as_bytes());
    }

    #[test]
    fn no_bytes_hurt(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        read_everything(&bytes);
    }
}

/// Parses the bytes; what comes out of it must be readable or refused.
fn read_everything(bytes: &[u8]) {
    if let Ok(documents) = Document::parse(
        "any",
        bytes,
        Limits {
            bytes: 1000,
            depth: 5,
            nodes: 30,
        },
    ) {
        for document in documents {
            let read = document.read(|fields: &mut Fields<'_>| fields.required("a", |item| item.text()));
            let refused = document.read(|_| Some(())).is_err();
            // A document with an unread field can never be accepted by a reader that asks for none.
            assert!(refused || read.is_err());
        }
    }
}
