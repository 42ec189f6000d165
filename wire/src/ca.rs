//! The messages of the CA's HTTPS API, version 1. They carry text; [`read`](fn@read) converts it to checked types.

mod read;
mod revocations;

use serde::{Deserialize, Serialize};

pub use read::{MessageError, Place, read};
pub use revocations::RevocationsError;

/// `POST /v1/enroll`: a host trades a join token for a host key that the CA will know it by.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The secret of the join token, as [`JoinSecret::to_text`](crate::join_token::JoinSecret::to_text)
    /// writes it.
    pub token: String,
    /// A PKCS#10 request in PEM, signed with the host key. Only its public key is taken.
    pub csr: String,
}

impl std::fmt::Debug for EnrollRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrollRequest([redacted])")
    }
}

/// The answer to [`EnrollRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollReply {
    /// The name of the enrolled host key, for [`Evidence::HostKey`] and for revoking it.
    pub host: String,
    /// The identities that the host may ask for: exact SPIFFE IDs, or patterns that end in `/*`.
    pub identities: Vec<String>,
    /// The CA's clock when it answered, Unix seconds.
    pub server_time: i64,
}

/// `POST /v1/issue` and `POST /v1/renew`: a workload asks for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueRequest {
    /// A PKCS#10 request in PEM. Its public key and its proof of possession are taken, nothing else.
    pub csr: String,
    /// The SPIFFE ID that is wanted. May be left out where the evidence names exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The life that is wanted, in seconds. Refused outside the CA's limits; cut where the signing certificate
    /// ends earlier. The CA's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<i64>,
    /// Asks for the serving certificate of a part of the control plane instead: with the names that the CA's own
    /// settings give this identity, and never accepted as a peer's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serving: bool,
    /// What shows who is asking. Left out on `/v1/renew`, where the client's certificate does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// What shows who is asking for a certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    /// A Kubernetes service-account token, bound to a pod, for the audience `ferrule-ca`.
    KubernetesToken {
        /// The token, a JWT.
        token: String,
    },
    /// A statement signed with an enrolled host key; see [`host_statement`].
    HostKey {
        /// The host's name, from [`EnrollReply::host`].
        host: String,
        /// When the statement was made, in Unix seconds by the CA's clock as the host knows it.
        time: i64,
        /// At least 16 random bytes, base64url without padding; the CA takes each one once.
        nonce: String,
        /// The signature over [`host_statement`], standard base64.
        signature: String,
    },
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::KubernetesToken { .. } => f.write_str("KubernetesToken([redacted])"),
            Self::HostKey { host, time, .. } => write!(f, "HostKey({host} at {time}, [redacted])"),
        }
    }
}

/// The bytes that a host key signs to ask for a certificate: bound to the CA's trust domain, to one request
/// and to one identity, so that a statement is of no use for anything else. `id` is the text of
/// [`IssueRequest::id`], and empty where that is left out.
///
/// The fields are one to a line after a fixed first line; no field may hold a line break, and a caller that
/// passes one gets `None`.
pub fn host_statement(
    trust_domain: &str,
    host: &str,
    time: i64,
    nonce: &str,
    id: &str,
    csr_pem: &str,
) -> Option<Vec<u8>> {
    let fields = [trust_domain, host, nonce, id];
    if fields.iter().any(|field| field.contains(['\n', '\r'])) {
        return None;
    }
    let text = format!("ferrule host statement 1\n{trust_domain}\n{host}\n{time}\n{nonce}\n{id}\n{csr_pem}");
    Some(text.into_bytes())
}

/// The answer to [`IssueRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueReply {
    /// The SPIFFE ID in the certificate; the names in a serving certificate, with commas between them.
    pub id: String,
    /// Leaf first, then the signing certificates below the root, in PEM. The root is in the bundle.
    pub certificates: String,
    /// The leaf's serial number in lower-case hexadecimal.
    pub serial: String,
    /// First second of validity, Unix seconds.
    pub not_before: i64,
    /// Last second of validity, Unix seconds.
    pub not_after: i64,
    /// When the client should renew, Unix seconds, before its own jitter.
    pub renew_at: i64,
    /// The CA's clock when it answered, Unix seconds.
    pub server_time: i64,
    /// The sequence of the newest trust bundle; a client that holds an older one should fetch it.
    pub bundle_sequence: u64,
}

/// `POST /v1/revoke`: an administrator takes trust away, or gives it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Whose trust.
    pub subject: RevocationSubject,
    /// Why, for the ledger: 1 to 256 characters.
    pub reason: String,
    /// Gives the trust back instead.
    #[serde(default)]
    pub lift: bool,
}

/// What a revocation names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RevocationSubject {
    /// Every certificate of a SPIFFE ID, those issued later too, until lifted.
    Identity(String),
    /// One certificate, by its serial number in hexadecimal.
    Serial(String),
    /// An enrolled host key, and every certificate that was issued on its evidence.
    Host(String),
}

/// The answer to [`RevokeRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeReply {
    /// The number of the deny list that the change is part of.
    pub generation: u64,
    /// The CA's clock when it answered, Unix seconds.
    pub server_time: i64,
}

/// `GET /v1/status`, for administrators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The trust domain.
    pub trust_domain: String,
    /// The CA's clock, Unix seconds.
    pub server_time: i64,
    /// The bundle's sequence.
    pub bundle_sequence: u64,
    /// The number of the deny list.
    pub revocation_generation: u64,
    /// Roots and signing certificates with their state.
    pub authorities: Vec<AuthorityStatus>,
    /// Certificates that have not run out.
    pub live_certificates: u64,
    /// What an operator should look at, most urgent first; empty when all is well.
    pub warnings: Vec<String>,
    /// What is as it was set up, and is good to know.
    pub notes: Vec<String>,
}

/// One root or signing certificate in [`StatusReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityStatus {
    /// `root` or `signing`.
    pub role: String,
    /// `prepared`, `active` or `retired`.
    pub state: String,
    /// The SHA-256 fingerprint of the certificate, lower-case hexadecimal.
    pub fingerprint: String,
    /// First second of validity, Unix seconds.
    pub not_before: i64,
    /// Last second of validity, Unix seconds.
    pub not_after: i64,
}

/// `GET /v1/revocations`: whom nobody may trust any more, whatever certificate they show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationsReply {
    /// The number of this deny list; it grows with every change.
    pub generation: u64,
    /// SPIFFE IDs whose certificates are all refused.
    pub identities: Vec<String>,
    /// Certificates that are refused.
    pub certificates: Vec<RevokedCertificate>,
    /// Authorities whose signatures are all refused, by the SHA-256 of their public keys, lower-case hexadecimal.
    pub authorities: Vec<String>,
    /// The CA's clock when it answered, Unix seconds.
    pub server_time: i64,
}

/// One certificate in [`RevocationsReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedCertificate {
    /// The SHA-256 of the public key that signed it, lower-case hexadecimal.
    pub issuer: String,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
}

/// `GET /v1/crl`: where the certificate revocation lists are, one for each certificate that signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlListReply {
    /// The lists.
    pub crls: Vec<CrlEntry>,
    /// The CA's clock when it answered, Unix seconds.
    pub server_time: i64,
}

/// One certificate revocation list in [`CrlListReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlEntry {
    /// The key identifier of the issuer, lower-case hexadecimal.
    pub issuer: String,
    /// The path to fetch it from, such as `/v1/crl/0a1b….crl`.
    pub path: String,
}

/// `GET /v1/time`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeReply {
    /// The CA's clock when it answered, Unix seconds.
    pub server_time: i64,
}

/// `GET /ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyReply {
    /// Whether the CA can issue.
    pub ready: bool,
    /// What it waits for; empty when it is ready.
    pub waiting_for: Vec<String>,
    /// The CA's clock when it answered, Unix seconds.
    pub server_time: i64,
}

/// The body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// A stable word for programs, such as `not_entitled`; `docs/operating.md` lists them.
    pub error: String,
    /// A sentence for people.
    pub message: String,
    /// The CA's clock when it answered, Unix seconds.
    pub server_time: i64,
}
