//! Reads an AdmissionReview, writes its answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the API server asks (AdmissionReview, `admission.k8s.io/v1`).
#[derive(Debug, Clone)]
pub struct Review {
    /// Names the question, and its answer.
    pub uid: String,
    /// The object as it is to be stored.
    pub object: Value,
    /// The namespace of the object; the object itself may lack it when it is created.
    pub namespace: String,
    /// What is done: `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    pub operation: String,
    /// Who does it.
    pub user: String,
    /// Whether it is a trial whose outcome is not stored.
    pub dry_run: bool,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, with changes.
    Allow {
        /// A JSON Patch; none when nothing changes.
        patch: Vec<Value>,
        /// What the person who asked is told.
        warnings: Vec<String>,
    },
    /// Refused.
    Refuse {
        /// Why, for the person who asked.
        message: String,
    },
}

impl Verdict {
    /// Allowed as it is.
    pub const fn unchanged() -> Self {
        Self::Allow {
            patch: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// Reads what the API server sent.
///
/// # Errors
/// When it is no AdmissionReview of version 1 with an object. There is no answer to that but an HTTP error, which the
/// webhook's `failurePolicy: Fail` makes a refusal.
pub fn read(body: &[u8]) -> Result<Review, ReviewError> {
    let review: Document = serde_json::from_slice(body).map_err(|source| ReviewError::Json { source })?;
    if review.api_version != API_VERSION || review.kind != KIND {
        return Err(ReviewError::Kind {
            found: format!("{} {}", review.api_version, review.kind)
                .chars()
                .take(100)
                .collect(),
        });
    }
    let request = review.request.ok_or(ReviewError::Empty { what: "request" })?;
    if request.object.is_null() {
        return Err(ReviewError::Empty { what: "object" });
    }
    Ok(Review {
        uid: request.uid,
        object: request.object,
        namespace: request.namespace.unwrap_or_default(),
        operation: request.operation,
        user: request.user_info.username.unwrap_or_default(),
        dry_run: request.dry_run.unwrap_or(false),
    })
}

/// Writes the answer to the question `uid`.
pub fn write(uid: &str, verdict: &Verdict) -> Vec<u8> {
    let mut response = match verdict {
        Verdict::Allow { patch, warnings } => {
            let mut response = json!({ "uid": uid, "allowed": true });
            if !patch.is_empty() {
                let patch = Value::Array(patch.clone()).to_string();
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(STANDARD.encode(patch));
            }
            if !warnings.is_empty() {
                response["warnings"] = json!(warnings);
            }
            response
        }
        // 422, as for any document with a fault in it; 403 would send people looking for a permission.
        Verdict::Refuse { message } => json!({
            "uid": uid,
            "allowed": false,
            "status": { "code": 422, "reason": "Invalid", "message": message },
        }),
    };
    let answer = json!({ "apiVersion": API_VERSION, "kind": KIND, "response": response.take() });
    answer.to_string().into_bytes()
}

// The API server's own document: fields that we have no use for are let pass.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    operation: String,
    namespace: Option<String>,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    user_info: UserInfo,
    dry_run: Option<bool>,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    username: Option<String>,
}

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Why a body is no question.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON, or not of this form.
    #[error("the body is no AdmissionReview")]
    Json {
        /// Why.
        source: serde_json::Error,
    },
    /// Another document.
    #[error("the body is a {found}, not an AdmissionReview of {API_VERSION}")]
    Kind {
        /// What it says that it is, cut short.
        found: String,
    },
    /// A part is missing.
    #[error("the AdmissionReview has no {what}")]
    Empty {
        /// Which.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(object: &Value) -> Vec<u8> {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u1", "operation": "CREATE", "namespace": "shop", "object": object, "dryRun": true,
                "userInfo": { "username": "ann", "groups": ["a"] }, "kind": { "kind": "Pod" },
            },
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_question_is_read() {
        let review = read(&question(&json!({ "kind": "Pod" }))).unwrap();
        assert_eq!((review.uid.as_str(), review.namespace.as_str()), ("u1", "shop"));
        assert_eq!((review.user.as_str(), review.dry_run), ("ann", true));
    }

    #[test]
    fn what_is_no_question_has_no_answer() {
        let wrong_version = json!({ "apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview" });
        let no_request = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview" });
        for body in [
            b"".to_vec(),
            b"[]".to_vec(),
            wrong_version.to_string().into_bytes(),
            no_request.to_string().into_bytes(),
            question(&Value::Null),
        ] {
            assert!(read(&body).is_err(), "{}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn an_answer_names_its_question() {
        let patch = vec![json!({ "op": "add", "path": "/a", "value": 1 })];
        let verdict = Verdict::Allow {
            patch: patch.clone(),
            warnings: vec!["mind".to_owned()],
        };
        let answer: Value = serde_json::from_slice(&write("u1", &verdict)).unwrap();
        let response = &answer["response"];
        assert_eq!(response["uid"], "u1");
        let sent = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<Value>>(&sent).unwrap(), patch);
        let refused = Verdict::Refuse {
            message: "no".to_owned(),
        };
        let answer: Value = serde_json::from_slice(&write("u2", &refused)).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(answer["response"]["status"]["message"], "no");
        let unchanged: Value = serde_json::from_slice(&write("u3", &Verdict::unchanged())).unwrap();
        assert_eq!(unchanged["response"], json!({ "uid": "u3", "allowed": true }));
    }
}
