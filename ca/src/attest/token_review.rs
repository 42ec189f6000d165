//! Turns a Kubernetes service-account token into an identity, on the API server's word.

use std::collections::BTreeMap;

use ferrule_identity::{SpiffeId, SpiffeIdError, Timestamp, TrustDomain};
use serde::{Deserialize, Serialize};

use super::bound_token::{TokenFault, precheck};
use super::kube_api::{KubeApi, KubeApiError};
use super::{Attested, Caller, CallerKind, Entitlement};

/// Asks the API server about tokens (TokenReview, `authentication.k8s.io/v1`), so that a token is refused as soon
/// as its pod, its service account or its secret is gone.
#[derive(Debug)]
pub struct TokenReviewer {
    api: KubeApi,
    audience: String,
    trust_domain: TrustDomain,
}

impl TokenReviewer {
    /// A reviewer that takes tokens for `audience` and names workloads in `trust_domain`.
    pub fn new(api: KubeApi, audience: String, trust_domain: TrustDomain) -> Self {
        Self {
            api,
            audience,
            trust_domain,
        }
    }

    /// Who holds `token`: the service account whose pod it is bound to, entitled to that account's identity alone.
    ///
    /// # Errors
    /// When the token cannot be one for us, the API server does not vouch for it, it is not bound to a pod, or
    /// the API server gives no clear answer.
    pub async fn attest(&self, token: &str, now: Timestamp) -> Result<Attested, ReviewError> {
        precheck(token, &self.audience, now).map_err(|source| ReviewError::Token { source })?;
        let request = Request {
            api_version: API_VERSION,
            kind: KIND,
            spec: Spec {
                token,
                audiences: [&self.audience],
            },
        };
        let body = serde_json::to_vec(&request).expect("text is always JSON");
        let answer = self
            .api
            .post(PATH, body)
            .await
            .map_err(|source| ReviewError::Api { source })?;
        let holder = judge(&answer, &self.audience)?;
        let id = SpiffeId::workload(&self.trust_domain, &holder.namespace, &holder.account)
            .map_err(|source| ReviewError::Identity { source })?;
        let name = format!("{}/{} pod {}", holder.namespace, holder.account, holder.pod);
        Ok(Attested {
            caller: Caller::new(CallerKind::ServiceAccount, &name),
            entitlement: Entitlement::exactly(id),
            host: None,
        })
    }
}

/// Whom the API server says the token belongs to. Every name is a Kubernetes name.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    namespace: String,
    account: String,
    pod: String,
}

/// Reads the API server's answer. Whatever is not said outright counts as no.
fn judge(answer: &[u8], audience: &str) -> Result<Holder, ReviewError> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| garbage("it is no TokenReview"))?;
    if answer.api_version != API_VERSION || answer.kind != KIND {
        return Err(garbage("it is no TokenReview of version 1"));
    }
    let status = answer.status.ok_or_else(|| garbage("it has no status"))?;
    if !status.authenticated.unwrap_or(false) || status.error.is_some_and(|error| !error.is_empty()) {
        return Err(ReviewError::NotAuthenticated);
    }
    // An API server that does not know audiences answers without them; its yes says nothing about ours.
    if !status
        .audiences
        .unwrap_or_default()
        .iter()
        .any(|one| one == audience)
    {
        return Err(ReviewError::Token {
            source: TokenFault::Audience {
                wanted: audience.to_owned(),
            },
        });
    }
    let user = status.user.ok_or_else(|| garbage("it names no user"))?;
    let (namespace, account) = user
        .username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(namespace, account)| is_label(namespace) && is_subdomain(account))
        .ok_or(ReviewError::UserName)?;
    let extra = user.extra.unwrap_or_default();
    let only = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([one]) => Some(one.as_str()),
        _ => None,
    };
    let pod = only("authentication.kubernetes.io/pod-name").filter(|pod| is_subdomain(pod));
    let uid = only("authentication.kubernetes.io/pod-uid").filter(|uid| !uid.is_empty());
    let (Some(pod), Some(_)) = (pod, uid) else {
        return Err(ReviewError::NotBound);
    };
    Ok(Holder {
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        pod: pod.to_owned(),
    })
}

fn garbage(problem: &'static str) -> ReviewError {
    ReviewError::Api {
        source: KubeApiError::Answer { problem },
    }
}

/// Whether `name` is a DNS label as Kubernetes has them (RFC 1123): the form of a namespace's name.
fn is_label(name: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inside)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether `name` is a DNS subdomain (RFC 1123): the form of the names of service accounts and pods.
fn is_subdomain(name: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    token: &'a str,
    audiences: [&'a str; 1],
}

// The API server's own document: fields that we have no use for are let pass.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Status {
    authenticated: Option<bool>,
    error: Option<String>,
    audiences: Option<Vec<String>>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    // A user without a name is how an API server says that it does not vouch for a token.
    #[serde(default)]
    username: String,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

/// Why a token gives no identity.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The token cannot be one for us.
    #[error("the service-account token is refused")]
    Token {
        /// Its fault.
        source: TokenFault,
    },
    /// The API server does not vouch for it: forged, or its pod or account is gone.
    #[error("the Kubernetes API server does not vouch for the service-account token; its pod may be gone")]
    NotAuthenticated,
    /// Good, but no pod holds it.
    #[error("the service-account token is not bound to a pod; project one into the pod that asks")]
    NotBound,
    /// Good, but not a service account's.
    #[error("the token's user is not a service account")]
    UserName,
    /// A service account whose name fits into no SPIFFE ID.
    #[error("the service account's name gives no SPIFFE ID")]
    Identity {
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// No clear answer, so no.
    #[error("the Kubernetes API server gave no answer about the service-account token")]
    Api {
        /// What went wrong.
        source: KubeApiError,
    },
}

impl ReviewError {
    /// The stable word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Token { source } => source.word(),
            Self::NotAuthenticated => "token_not_authenticated",
            Self::NotBound => "token_not_bound",
            Self::UserName | Self::Identity { .. } => "token_user",
            Self::Api { source } => source.word(),
        }
    }
}

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenReview";

#[cfg(test)]
mod tests;
