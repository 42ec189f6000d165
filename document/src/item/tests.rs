//! Tests of reading: each kind of value, each complaint.

use crate::{Document, Fields, Item, Limits, Place};

/// What the reader makes of `text`, or the complaint without its place.
fn read<T>(text: &str, read: impl FnOnce(Item<'_>) -> Option<T>) -> Result<T, String> {
    let document = Document::parse_one("a.yaml", format!("x: {text}").as_bytes(), Limits::default());
    let value = document.and_then(|document| document.read(|fields| fields.required("x", read)));
    value.map_err(|problems| {
        problems
            .iter()
            .map(|problem| problem.message().to_owned())
            .collect::<Vec<_>>()
            .join(" | ")
    })
}

fn refused<T: std::fmt::Debug>(value: Result<T, String>, complaint: &str) {
    assert_eq!(value.unwrap_err(), complaint);
}

#[test]
fn integers_are_plain_decimal_and_within_their_range() {
    assert_eq!(read("80", |item| item.port()), Ok(80));
    assert_eq!(read("-5", |item| item.integer(-10i32..=10)), Ok(-5));
    let range = "expected an integer from 1 to 65535";
    refused(
        read("\"80\"", |item| item.port()),
        &format!("{range}, found the text `80`; leave out the quotes"),
    );
    refused(read("0", |item| item.port()), &format!("{range}, found `0`"));
    refused(
        read("65536", |item| item.port()),
        &format!("{range}, found `65536`"),
    );
    refused(read("-1", |item| item.port()), &format!("{range}, found `-1`"));
    refused(
        read("0x50", |item| item.port()),
        &format!("{range}, found the integer `0x50`; write it in decimal, without a plus sign"),
    );
    refused(
        read("0080", |item| item.port()),
        "`0080` begins with a zero; leave it out",
    );
    refused(
        read("8.0", |item| item.port()),
        &format!("{range}, found the number `8.0`"),
    );
    refused(
        read("http", |item| item.port()),
        &format!("{range}, found the text `http`"),
    );
    refused(
        read("[80]", |item| item.port()),
        &format!("{range}, found a list"),
    );
    refused(read("", |item| item.port()), &format!("{range}, found nothing"));
}

#[test]
fn a_complaint_about_a_secret_does_not_tell_it() {
    assert_eq!(read("s3cret", |item| item.secret()), Ok("s3cret".to_owned()));
    let complaint = "expected text; a number or a word with a meaning of its own goes in quotes";
    refused(read("1234", |item| item.secret()), complaint);
    refused(read("[s3cret]", |item| item.secret()), complaint);
}

#[test]
fn only_true_and_false_are_booleans() {
    assert_eq!(read("true", |item| item.boolean()), Ok(true));
    refused(
        read("yes", |item| item.boolean()),
        "expected true or false, found the text `yes`; write true",
    );
    refused(
        read("off", |item| item.boolean()),
        "expected true or false, found the text `off`; write false",
    );
    refused(
        read("\"true\"", |item| item.boolean()),
        "expected true or false, found the text `true`; leave out the quotes",
    );
    refused(
        read("1", |item| item.boolean()),
        "expected true or false, found the integer `1`",
    );
}

#[test]
fn text_is_text_one_line_and_not_empty() {
    assert_eq!(read("no", |item| item.text()), Ok("no".to_owned()));
    refused(
        read("1.10", |item| item.text()),
        "expected text, found the number `1.10`; to mean it as text, put it in quotes",
    );
    refused(read("\"\"", |item| item.text()), "the text is empty");
    refused(
        read("\"a\\nb\"", |item| item.text()),
        "the text has the control character '\\n'",
    );
    refused(read("null", |item| item.text()), "expected text, found nothing");
    assert_eq!(
        read("|\n  a\n  b\n", |item| item.block()),
        Ok("a\nb\n".to_owned())
    );
}

#[test]
fn a_duration_or_size_without_a_unit_is_refused_with_a_hint() {
    assert_eq!(read("30s", |item| item.duration()).unwrap().as_secs(), 30);
    assert_eq!(read("64KiB", |item| item.size()), Ok(65_536));
    refused(
        read("30", |item| item.duration()),
        "`30` has no unit; a duration is written with one, such as `30s`",
    );
    refused(
        read("65536", |item| item.size()),
        "`65536` has no unit; a size is written with one, such as `64KiB`",
    );
    let hour = std::time::Duration::from_secs(3600);
    let minute = std::time::Duration::from_secs(60);
    refused(
        read("30s", |item| item.duration_in(minute..=hour)),
        "expected a duration from 1m to 1h, found 30s",
    );
    refused(
        read("2B", |item| item.size_in(3..=2048)),
        "expected a size from 3B to 2KiB, found 2B",
    );
}

#[test]
fn a_word_is_one_of_those_that_are_known() {
    let words = [("allow", 1), ("deny", 2)];
    assert_eq!(read("deny", |item| item.one_of(&words)), Ok(2));
    refused(
        read("alow", |item| item.one_of(&words)),
        "expected one of allow, deny, found the text `alow`; did you mean `allow`?",
    );
    refused(
        read("Allow", |item| item.one_of(&words)),
        "expected one of allow, deny, found the text `Allow`; did you mean `allow`?",
    );
}

#[test]
fn every_item_of_a_list_is_looked_at() {
    assert_eq!(
        read("[1, 2]", |item| item.list(|item| item.port())),
        Ok(vec![1, 2])
    );
    assert_eq!(read("[]", |item| item.list(|item| item.port())), Ok(vec![]));
    refused(
        read("[]", |item| item.non_empty_list(|item| item.port())),
        "the list is empty; name at least one item, or leave the field out",
    );
    refused(
        read("[0, 80, a]", |item| item.list(|item| item.port())),
        "expected an integer from 1 to 65535, found `0` | \
         expected an integer from 1 to 65535, found the text `a`",
    );
}

#[test]
fn a_map_of_texts_takes_nothing_but_texts() {
    let map = read("{app: api, tier: \"1\"}", |item| item.text_map()).unwrap();
    assert_eq!(map["tier"], "1");
    refused(
        read("{app: 1, 2: b}", |item| item.text_map()),
        "expected text, found the integer `1`; to mean it as text, put it in quotes | \
         expected text, found the integer `2`; to mean it as text, put it in quotes",
    );
    refused(
        read("{}", |item| item.non_empty_text_map()),
        "the map is empty; name at least one field",
    );
}

#[test]
fn exactly_one_field_is_chosen() {
    let choose = |item: Item<'_>| item.one_field(&["ids", "cidrs"], |name, item| Some((name, item.port()?)));
    assert_eq!(read("{cidrs: 5}", choose), Ok(("cidrs", 5)));
    refused(
        read("{cidrs: 5, ids: 6}", choose),
        "expected exactly one of the fields ids, cidrs",
    );
    refused(
        read("{}", choose),
        "expected exactly one of the fields ids, cidrs",
    );
    refused(
        read("{cdirs: 5}", choose),
        "unknown field `cdirs`; did you mean `cidrs`?",
    );
    refused(
        read("{cidrs: 5, x: 6}", choose),
        "expected exactly one of the fields ids, cidrs | unknown field `x`; known are ids, cidrs",
    );
}

#[derive(Debug, PartialEq)]
struct Sample {
    port: u16,
    name: Option<String>,
    deadline: u64,
    list: Vec<String>,
    key: Option<String>,
}

fn sample(fields: &mut Fields<'_>) -> Option<Sample> {
    let port = fields.required("port", |item| item.port());
    let name = fields.optional("name", |item| item.text());
    let list = fields.default("list", "[]", |item| item.list(|item| item.text()));
    let key = fields.optional("key", |item| item.secret());
    let drain = fields.default("drain", "{}", |item| {
        item.fields(|fields| fields.default("deadline", "30s", |item| item.duration()))
    });
    Some(Sample {
        port: port?,
        name: name?,
        deadline: drain?.as_secs(),
        list: list?,
        key: key?,
    })
}

fn document(text: &str) -> Document {
    Document::parse_one("a.yaml", text.as_bytes(), Limits::default()).unwrap()
}

#[test]
fn all_faults_of_a_document_come_at_once_and_in_order() {
    let faults = document("prot: 80\nname: [x]\ndrain:\n  deadlin: 5s\n")
        .read(sample)
        .unwrap_err();
    assert_eq!(
        faults.to_string(),
        "a.yaml:1:1: the field `port` is missing\n\
         a.yaml:1:1: prot: unknown field `prot`; did you mean `port`?\n\
         a.yaml:2:7: name: expected text, found a list\n\
         a.yaml:4:3: drain.deadlin: unknown field `deadlin`; did you mean `deadline`?"
    );
}

#[test]
fn a_value_from_the_environment_replaces_what_is_written() {
    let mut document = document("port: 80\n");
    let place = Place::whole("environment variable P");
    document.set(&["port"], "81", &place).unwrap();
    document.set(&["name"], "12", &place).unwrap();
    document.set(&["list"], "a, 5", &place).unwrap();
    document.set(&["drain", "deadline"], "5s", &place).unwrap();
    let read = document.read(sample).unwrap();
    let list = vec!["a".to_owned(), "5".to_owned()];
    assert_eq!(
        read,
        Sample {
            port: 81,
            name: Some("12".to_owned()),
            deadline: 5,
            list,
            key: None
        }
    );

    document.set(&["port"], "x", &place).unwrap();
    document.set(&["drian"], "x", &place).unwrap();
    assert_eq!(
        document.read(sample).unwrap_err().to_string(),
        "environment variable P: drian: unknown field `drian`; known are port, name, list, key, drain\n\
         environment variable P: port: expected an integer from 1 to 65535, found the text `x`"
    );
    let inside = document.set(&["port", "x"], "1", &place).unwrap_err();
    assert_eq!(
        inside.to_string(),
        "environment variable P: port.x: cannot be set, because `port` is not a map"
    );
}

#[test]
fn the_effective_values_show_their_origins_and_hide_secrets() {
    let mut document = document("port: 80\nkey: hunter2\n");
    document
        .set(&["name"], "api", &Place::whole("environment variable N"))
        .unwrap();
    let (_, effective) = document.read_effective(sample).unwrap();
    assert_eq!(
        effective.render(),
        "port: 80  # a.yaml:1:7\n\
         key: \"[redacted]\"  # a.yaml:2:6\n\
         name: api  # environment variable N\n\
         list: []  # default\n\
         drain:\n  deadline: 30s  # default\n"
    );
}
