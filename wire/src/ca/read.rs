//! Reads a message's JSON into its struct, refusing what the message has no place for.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Reads a whole body as one message: unknown fields, fields given twice and anything after the document are
/// refused.
///
/// # Errors
/// Names the field, with its line and column in the body. The text may quote the sender's own values, so it
/// is for the sender and for no log.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, MessageError> {
    serde_json::from_slice(body).map_err(|error| {
        let place = Place {
            line: error.line(),
            column: error.column(),
        };
        match error.classify() {
            Category::Eof if body.is_empty() => MessageError::Empty,
            Category::Eof => MessageError::Cut { place },
            Category::Syntax | Category::Io => MessageError::Syntax {
                place,
                problem: problem(&error),
            },
            Category::Data => MessageError::Data {
                place,
                problem: problem(&error),
            },
        }
    })
}

/// Where in a body something was found, counted from 1. The column is that of the last byte read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in bytes.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// The library's sentence without its place, bounded and on one line.
fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end]
        .chars()
        .take(MAX_PROBLEM_CHARS)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Why a body is not the message that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Nothing was sent.
    #[error("the body is empty; a JSON document is expected")]
    Empty,
    /// The document stops before its end.
    #[error("the body ends inside the JSON document, at {place}")]
    Cut {
        /// Where it stops.
        place: Place,
    },
    /// Not JSON.
    #[error("the body is not JSON: {problem} at {place}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        problem: String,
    },
    /// JSON, but not this message: a field is unknown, missing, given twice or of the wrong type.
    #[error("the body is not this message: {problem} at {place}")]
    Data {
        /// Where.
        place: Place,
        /// What is wrong, with the field's name.
        problem: String,
    },
}

const MAX_PROBLEM_CHARS: usize = 400;

#[cfg(test)]
mod tests {
    use super::super::{Evidence, IssueRequest, RevocationSubject, RevokeRequest};
    use super::*;

    fn refused<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> String {
        read::<T>(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_request_is_read() {
        let body = r#"{"csr":"x","evidence":{"kind":"kubernetes_token","token":"t"}}"#;
        let request: IssueRequest = read(body.as_bytes()).unwrap();
        assert_eq!(
            request.evidence,
            Some(Evidence::KubernetesToken {
                token: "t".to_owned()
            })
        );
        assert_eq!(request.id, None);
    }

    #[test]
    fn an_unknown_field_is_named_with_its_place() {
        let text = refused::<IssueRequest>("{\"csr\":\"x\",\n \"sans\":[]}");
        assert!(
            text.contains("`sans`") && text.contains("line 2 column 7"),
            "{text}"
        );
        let inside = refused::<IssueRequest>(
            r#"{"csr":"x","evidence":{"kind":"kubernetes_token","token":"t","pod":"p"}}"#,
        );
        assert!(inside.contains("`pod`"), "{inside}");
        let deny = r#"{"subject":{"identity":"a","host":"b"},"reason":"r"}"#;
        assert!(read::<RevokeRequest>(deny.as_bytes()).is_err());
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let text = refused::<IssueRequest>(r#"{"csr":"x","csr":"y"}"#);
        assert!(text.contains("duplicate field `csr`"), "{text}");
        let twice = r#"{"csr":"x","evidence":{"kind":"kubernetes_token","token":"a","token":"b"}}"#;
        assert!(read::<IssueRequest>(twice.as_bytes()).is_err());
        let kinds = r#"{"csr":"x","evidence":{"kind":"host_key","kind":"kubernetes_token","token":"a"}}"#;
        assert!(read::<IssueRequest>(kinds.as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_such_document_is_refused() {
        assert_eq!(read::<IssueRequest>(b"").unwrap_err(), MessageError::Empty);
        assert!(matches!(
            read::<IssueRequest>(b"{\"csr\":").unwrap_err(),
            MessageError::Cut { .. }
        ));
        assert!(matches!(
            read::<IssueRequest>(b"{csr}").unwrap_err(),
            MessageError::Syntax { .. }
        ));
        assert!(
            read::<IssueRequest>(b"{\"csr\":\"x\"}{}").is_err(),
            "something after the end"
        );
        assert!(refused::<IssueRequest>("{}").contains("missing field `csr`"));
        assert!(refused::<IssueRequest>(r#"{"csr":5}"#).contains("expected a string"));
        assert!(read::<IssueRequest>(b"{\"csr\":\"\xff\"}").is_err(), "not UTF-8");
    }

    #[test]
    fn deep_nesting_is_refused() {
        // E10
        let deep = format!("{{\"csr\":{}", "[".repeat(1_000_000));
        assert!(read::<IssueRequest>(deep.as_bytes()).is_err());
        let evidence = format!("{{\"csr\":\"x\",\"evidence\":{}", "{\"kind\":".repeat(100_000));
        assert!(read::<IssueRequest>(evidence.as_bytes()).is_err());
    }

    #[test]
    fn a_message_stays_short_and_on_one_line() {
        let long = format!("{{\"{}\\n\":1}}", "k".repeat(100_000));
        let text = refused::<IssueRequest>(&long);
        assert!(text.len() < 1000 && !text.contains('\n'), "{}", text.len());
    }

    #[test]
    fn a_subject_has_exactly_one_kind() {
        let one: RevokeRequest = read(br#"{"subject":{"serial":"0a"},"reason":"lost"}"#).unwrap();
        assert_eq!(one.subject, RevocationSubject::Serial("0a".to_owned()));
        assert!(!one.lift);
        assert!(read::<RevokeRequest>(br#"{"subject":{},"reason":"lost"}"#).is_err());
    }
}
