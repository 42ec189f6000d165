//! Decides what a request for something versioned gets: it, nothing new, or a wait.

use std::time::Duration;

use http::HeaderMap;
use http::header::IF_NONE_MATCH;

use super::status::Fault;

/// What the client has, and how long it would wait for something else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The version that it says to have by number.
    after: Option<u64>,
    /// The versions that it says to have by ETag; `*` stands for any.
    etags: Vec<String>,
    /// How long to wait for another one.
    pub wait: Duration,
}

impl Asked {
    /// Reads the query and the header of a request; a wait longer than `longest` is cut to it.
    ///
    /// # Errors
    /// `query_invalid` for a field of the query that there is not, is given twice, or is no number in its range.
    pub fn read(query: Option<&str>, headers: &HeaderMap, longest: Duration) -> Result<Self, Fault> {
        let mut wait = None;
        let mut after = None;
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (slot, most) = match name {
                "wait" => (&mut wait, MAX_WAIT_SECONDS),
                "after" => (&mut after, i64::MAX.unsigned_abs()),
                _ => return Err(invalid("the query takes `wait` and `after`, nothing else")),
            };
            let number = Some(value).filter(|value| value.bytes().all(|b| b.is_ascii_digit()));
            let number = number
                .and_then(|value| value.parse::<u64>().ok())
                .filter(|number| *number <= most);
            let number = number.ok_or_else(|| invalid(&format!("`{name}` is a number from 0 to {most}")))?;
            if slot.replace(number).is_some() {
                return Err(invalid(&format!("`{name}` is given twice")));
            }
        }
        Ok(Self {
            after,
            etags: etags(headers),
            wait: Duration::from_secs(wait.unwrap_or(0)).min(longest),
        })
    }

    /// Whether the client has the version with this number and this ETag already. Another number than the one that
    /// it has, even a lower one, is news: it is for the client to refuse what goes back.
    pub fn has(&self, number: u64, etag: &str) -> bool {
        self.after == Some(number) || self.etags.iter().any(|one| one == "*" || one == etag)
    }
}

/// The entity tags of `If-None-Match` (RFC 9110 §13.1.2), which compares weakly. What is malformed matches nothing.
fn etags(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/").to_owned())
        .filter(|tag| !tag.is_empty())
        .collect()
}

fn invalid(message: &str) -> Fault {
    Fault::new("query_invalid", message)
}

/// As the API's document says; the CA's own limit is far lower.
const MAX_WAIT_SECONDS: u64 = 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str, header: Option<&str>) -> Result<Asked, Fault> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(IF_NONE_MATCH, header.parse().unwrap());
        }
        Asked::read(Some(query), &headers, Duration::from_secs(60))
    }

    #[test]
    fn a_wait_is_cut_to_the_limit() {
        assert_eq!(
            asked("wait=30&after=7", None).unwrap().wait,
            Duration::from_secs(30)
        );
        assert_eq!(asked("wait=3600", None).unwrap().wait, Duration::from_secs(60));
        assert_eq!(asked("", None).unwrap(), Asked::default());
    }

    #[test]
    fn other_queries_are_refused() {
        for query in [
            "wait=-1",
            "wait=",
            "wait",
            "wait=1&wait=1",
            "wait=3601",
            "after=9223372036854775808",
            "after=1.0",
            "after=+1",
            "after=%31",
            "since=1",
            "wait=1;after=2",
            "=1",
        ] {
            assert_eq!(asked(query, None).unwrap_err().word, "query_invalid", "{query}");
        }
    }

    #[test]
    fn what_the_client_has_is_known_by_number_or_tag() {
        assert!(asked("after=7", None).unwrap().has(7, "\"x\""));
        assert!(
            !asked("after=8", None).unwrap().has(7, "\"x\""),
            "a lower one is news"
        );
        assert!(!asked("", None).unwrap().has(0, "\"x\""));
        for header in ["\"x\"", "W/\"x\"", "\"a\", \"x\"", "*"] {
            assert!(asked("", Some(header)).unwrap().has(7, "\"x\""), "{header}");
        }
        for header in ["x", "\"xy\"", ",", "\"y\""] {
            assert!(!asked("", Some(header)).unwrap().has(7, "\"x\""), "{header}");
        }
    }
}
