//! Mutation tests: a document in which anything is unknown, emptied, doubled or of another type is refused,
//! so that no slip of an operator widens what is allowed.

use proptest::prelude::*;
use proptest::sample::Index;

use super::tests::SAMPLE;
use super::*;
use crate::compile::compile;
use crate::policy::Mesh;

/// A change to one node of a document's tree that no reader may overlook.
#[derive(Debug, Clone, Copy)]
enum Slip {
    /// A field that nobody knows.
    ExtraField,
    /// A known name with one letter more.
    MisspeltField,
    /// A field written twice.
    DoubledField,
    /// Nothing where something was.
    Emptied,
    /// A value of another type.
    OtherType,
    /// A word with one letter more.
    MisspeltWord,
}

/// One line of the sample in block style, as indentation, name and value.
#[derive(Debug, Clone)]
struct Line {
    indent: usize,
    dashes: usize,
    name: Option<String>,
    value: String,
}

/// The sample with every list and map in block style: one name or one value on each line.
const BLOCKS: &str = "\
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata:
  namespace: shop
  name: api
spec:
  workloads:
    labels:
      app: api
  action: deny
  enforcement: enforce
  rules:
  - from:
    - identities:
      - spiffe://shop.local/ns/shop/sa/web
    - namespaces:
      - monitoring
    - cidrs:
      - 10.1.0.0/16
    ports:
    - 8080
---
apiVersion: ferrule.dev/v1alpha1
kind: EgressPolicy
metadata:
  namespace: shop
  name: api-out
spec:
  workloads: all
  enforcement: enforce
  allow:
  - hosts:
    - \"*.example.com\"
    ports:
    - 443
  - services:
    - namespace: legacy
      name: ldap
---
apiVersion: ferrule.dev/v1alpha1
kind: MeshPolicy
metadata:
  namespace: shop
  name: metrics
spec:
  workloads: all
  mode: strict
  ports:
  - port: 9090
    mode: permissive
";

fn lines() -> Vec<Line> {
    BLOCKS.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Line {
    let rest = line.trim_start_matches([' ', '-']);
    let lead = &line[..line.len() - rest.len()];
    if line == "---" {
        return Line {
            indent: 0,
            dashes: 0,
            name: None,
            value: "---".to_owned(),
        };
    }
    let dashes = lead.matches('-').count();
    let indent = lead.len() - 2 * dashes;
    match rest
        .split_once(':')
        .filter(|(_, value)| value.is_empty() || value.starts_with(' '))
    {
        Some((name, value)) => Line {
            indent,
            dashes,
            name: Some(name.to_owned()),
            value: value.trim().to_owned(),
        },
        None => Line {
            indent,
            dashes,
            name: None,
            value: rest.to_owned(),
        },
    }
}

fn write_line(line: &Line) -> String {
    let lead = format!("{}{}", " ".repeat(line.indent), "- ".repeat(line.dashes));
    match &line.name {
        Some(name) => format!("{lead}{name}: {}", line.value).trim_end().to_owned(),
        None => format!("{lead}{}", line.value),
    }
}

/// The sample with the slip on one of its lines; `None` where the slip makes no sense there.
fn slipped(slip: Slip, at: usize) -> Option<String> {
    let mut lines = lines();
    let line = lines[at].clone();
    // Which labels a selector names is the operator's own; every word there has a meaning.
    let is_label = at > 0 && lines[at - 1].name.as_deref() == Some("labels");
    // Whatever lies below a line goes with it, when the line's own value is replaced.
    let depth = |line: &Line| line.indent + 2 * line.dashes;
    let below = lines[at + 1..]
        .iter()
        .take_while(|next| next.value != "---")
        .take_while(|next| depth(next) > depth(&line) || (next.dashes > 0 && next.indent >= depth(&line)))
        .count();
    let named = line.name.is_some();
    match slip {
        _ if line.value == "---" => return None,
        Slip::ExtraField if named && !is_label => {
            let name = Some("unheardOf".to_owned());
            lines.insert(
                at,
                Line {
                    name,
                    value: "1".to_owned(),
                    ..line.clone()
                },
            );
            lines[at + 1].indent = depth(&line);
            lines[at + 1].dashes = 0;
        }
        Slip::MisspeltField if named && !is_label => {
            lines[at].name = line.name.map(|name| format!("{name}x"));
        }
        Slip::DoubledField if named => {
            let mut copy: Vec<Line> = lines[at..=at + below].to_vec();
            copy[0].indent = depth(&line);
            copy[0].dashes = 0;
            lines.splice(at + below + 1..at + below + 1, copy);
        }
        Slip::Emptied => {
            let empty = ["", "[]", "{}", "\"\"", "~"][at % 5];
            lines[at].value = empty.to_owned();
            lines.drain(at + 1..=at + below);
        }
        Slip::OtherType => {
            let other = ["true", "1.5", "[[]]", "{a: {b: 1}}", "-1"][at % 5];
            lines[at].value = other.to_owned();
            lines.drain(at + 1..=at + below);
        }
        Slip::MisspeltWord if below == 0 && !is_label => {
            // A name may be any name; everything else is one of a few words, or has a form.
            let free = matches!(line.name.as_deref(), Some("namespace" | "name"));
            let item = line.name.is_none();
            if free || item && line.value != "8080" && line.value != "443" {
                lines[at].value = format!("{}?", line.value.trim_matches('"'));
            } else {
                lines[at].value = format!("{}x", line.value);
            }
        }
        _ => return None,
    }
    Some(lines.iter().map(write_line).collect::<Vec<_>>().join("\n"))
}

fn read(text: &str) -> Result<Vec<PolicyDocument>, Problems> {
    PolicyDocument::read_all("rules.yaml", text.as_bytes(), Limits::default())
}

#[test]
fn the_document_without_a_slip_is_read() {
    let same = lines().iter().map(write_line).collect::<Vec<_>>().join("\n");
    assert_eq!(same.trim(), BLOCKS.trim());
    assert_eq!(read(BLOCKS).unwrap().len(), 3);
}

#[test]
fn every_slip_anywhere_is_refused() {
    // D2
    let slips = [
        Slip::ExtraField,
        Slip::MisspeltField,
        Slip::DoubledField,
        Slip::Emptied,
        Slip::OtherType,
        Slip::MisspeltWord,
    ];
    let mut tried = 0;
    for slip in slips {
        for at in 0..lines().len() {
            if let Some(text) = slipped(slip, at) {
                tried += 1;
                assert!(read(&text).is_err(), "{slip:?} in line {}:\n{text}", at + 1);
            }
        }
    }
    assert!(tried > 200, "only {tried} slips were tried");
}

proptest! {
    #[test]
    fn no_damage_to_the_text_hurts(at: Index, with in "[ -~\\n]{0,3}", cut in 0usize..4) {
        // E10
        let start = at.index(SAMPLE.len());
        let mut text = SAMPLE.to_owned();
        text.replace_range(start..(start + cut).min(SAMPLE.len()), &with);
        if let Ok(documents) = read(&text) {
            let mesh = Mesh::named("shop.local".parse().unwrap());
            prop_assert!(compile(&documents, mesh).is_ok());
        }
    }

    #[test]
    fn a_text_cut_within_a_word_never_reads_as_something_with_more_documents(at: Index) {
        let text = &SAMPLE[..at.index(SAMPLE.len())];
        if let Ok(documents) = read(text) {
            prop_assert!(documents.len() <= 3);
        }
    }
}
