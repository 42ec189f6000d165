//! Says which HTTP status belongs to which refusal, in one table.

use std::time::Duration;

use http::StatusCode;
use http::header::{ALLOW, HeaderValue, RETRY_AFTER};

use ferrule_daemon::https::{Reply, reply};
use ferrule_wire::ca::ErrorReply;

/// A refusal on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable word, one of [`TABLE`].
    pub word: &'static str,
    /// The sentence for the caller.
    pub message: String,
    /// When to come again.
    pub retry_after: Option<Duration>,
    /// The methods that the path has, where the method is what was refused.
    pub allow: Option<&'static str>,
}

impl Fault {
    /// A refusal by `word`, explained by `message`.
    pub fn new(word: &'static str, message: impl Into<String>) -> Self {
        Self {
            word,
            message: message.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// A refusal by `word`, explained by an error with all its causes.
    pub fn caused(word: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(word, ferrule_daemon::logging::Chain(error).to_string())
    }

    /// The caller has asked too often.
    pub fn too_many(retry_after: Duration) -> Self {
        let mut fault = Self::new("rate_limited", "too many requests; slow down");
        fault.retry_after = Some(retry_after);
        fault
    }

    /// What the ledger and the log may keep of the message: nothing where it may quote the body of the request.
    pub fn detail(&self) -> &str {
        if self.word == "message_invalid" {
            ""
        } else {
            &self.message
        }
    }

    /// The status that belongs to the word.
    pub fn status(&self) -> StatusCode {
        status_of(self.word)
    }

    /// The answer; `now` is the CA's clock in Unix seconds.
    pub fn reply(&self, now: i64) -> Reply {
        let status = self.status();
        let body = ErrorReply {
            error: self.word.to_owned(),
            message: self.message.clone(),
            server_time: now,
        };
        let body = serde_json::to_vec(&body).expect("text and numbers are always JSON");
        let mut reply = reply(status, "application/json", body);
        if let Some(after) = self.retry_after {
            reply
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(allow) = self.allow {
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        reply
    }
}

/// The status of a word; 500 for one that is not in the table, which a test excludes.
pub fn status_of(word: &str) -> StatusCode {
    let found = TABLE.iter().find(|(_, words)| words.contains(&word));
    found.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(status, _)| *status)
}

/// Every word that a refusal may carry, by its status. `docs/operating.md` explains each.
pub const TABLE: &[(StatusCode, &[&str])] = &[
    (
        StatusCode::BAD_REQUEST,
        &[
            "message_invalid",
            "query_invalid",
            "body_broken",
            "id_invalid",
            "id_missing",
            "csr_invalid",
            "csr_signature",
            "key_not_accepted",
            "request_asks_too_much",
            "lifetime_out_of_range",
            "evidence_unexpected",
            "statement_malformed",
            "subject_invalid",
            "reason_invalid",
        ],
    ),
    (
        StatusCode::UNAUTHORIZED,
        &[
            "evidence_missing",
            "join_token_malformed",
            "join_token_unknown",
            "join_token_used",
            "join_token_expired",
            "join_token_revoked",
            "join_token_void",
            "kubernetes_not_configured",
            "token_malformed",
            "token_algorithm_none",
            "token_algorithm_symmetric",
            "token_algorithm_unknown",
            "token_key_name",
            "token_audience",
            "token_no_expiry",
            "token_expired",
            "token_not_authenticated",
            "token_not_bound",
            "token_user",
            "host_unknown",
            "host_revoked",
            "statement_stale",
            "statement_signature",
            "statement_replayed",
            "certificate_required",
            "certificate_refused",
        ],
    ),
    (
        StatusCode::FORBIDDEN,
        &[
            "not_entitled",
            "foreign_trust_domain",
            "identity_revoked",
            "not_an_administrator",
            "not_a_server",
        ],
    ),
    (StatusCode::NOT_FOUND, &["not_found", "subject_unknown"]),
    (StatusCode::METHOD_NOT_ALLOWED, &["method_not_allowed"]),
    (StatusCode::REQUEST_TIMEOUT, &["body_too_slow"]),
    (
        StatusCode::CONFLICT,
        &["host_exists", "host_key_exists", "already_revoked", "not_revoked"],
    ),
    (StatusCode::PAYLOAD_TOO_LARGE, &["body_too_long"]),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, &["media_type"]),
    (StatusCode::TOO_MANY_REQUESTS, &["rate_limited"]),
    (StatusCode::INTERNAL_SERVER_ERROR, &["internal"]),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        &[
            "ledger_unavailable",
            "no_signer",
            "ca_not_valid",
            "ca_ends_too_soon",
            "not_published",
            "too_slow",
            "statements_full",
            "api_server_setup",
            "api_server_unreachable",
            "api_server_tls",
            "api_server_timeout",
            "api_server_redirect",
            "api_server_forbidden",
            "api_server_status",
            "api_server_answer",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_word_has_one_status() {
        let words: Vec<_> = TABLE.iter().flat_map(|(_, words)| *words).collect();
        let distinct: HashSet<_> = words.iter().collect();
        assert_eq!(words.len(), distinct.len());
        for word in words {
            assert!(
                word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{word}"
            );
        }
    }

    #[test]
    fn a_refusal_has_its_status_word_and_time() {
        let mut fault = Fault::too_many(Duration::from_secs(7));
        fault.allow = Some("GET");
        let reply = fault.reply(1_800_000_000);
        assert_eq!(reply.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(reply.headers()[RETRY_AFTER], "7");
        assert_eq!(reply.headers()[ALLOW], "GET");
        assert_eq!(
            Fault::new("no_such_word", "").status(),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
}
