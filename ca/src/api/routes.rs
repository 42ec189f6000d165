//! Finds the route that a request is for.

use http::Method;

use super::status::Fault;

/// What the API can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Trade a join token for a host key.
    Enroll,
    /// A certificate, by evidence in the request.
    Issue,
    /// A certificate, by the one that the connection was opened with.
    Renew,
    /// Take trust away, or give it back.
    Revoke,
    /// How the CA is.
    Status,
    /// The trust bundle as JWKS.
    Bundle,
    /// The trust bundle in PEM.
    BundlePem,
    /// The revocation lists there are.
    Crls,
    /// The revocation list of the issuer with this key identifier.
    Crl(String),
    /// The deny list.
    Revocations,
    /// The clock.
    Time,
    /// Readiness.
    Ready,
    /// The API's own description.
    OpenApi,
}

impl Route {
    /// The route of a method and a path.
    ///
    /// # Errors
    /// `not_found` for a path that there is not, `method_not_allowed` for a method that the path does not have.
    pub fn find(method: &Method, path: &str) -> Result<Self, Fault> {
        let route = Self::of_path(path).ok_or_else(|| {
            Fault::new(
                "not_found",
                "there is no such path; /v1/openapi.json lists those that there are",
            )
        })?;
        let allowed = route.methods();
        if allowed.split(", ").any(|one| one == method.as_str()) {
            return Ok(route);
        }
        let mut fault = Fault::new("method_not_allowed", format!("this path takes {allowed}"));
        fault.allow = Some(allowed);
        Err(fault)
    }

    fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/enroll" => Self::Enroll,
            "/v1/issue" => Self::Issue,
            "/v1/renew" => Self::Renew,
            "/v1/revoke" => Self::Revoke,
            "/v1/status" => Self::Status,
            "/v1/bundle" => Self::Bundle,
            "/v1/bundle.pem" => Self::BundlePem,
            "/v1/crl" => Self::Crls,
            "/v1/revocations" => Self::Revocations,
            "/v1/time" => Self::Time,
            "/ready" => Self::Ready,
            "/v1/openapi.json" => Self::OpenApi,
            other => Self::Crl(other.strip_prefix("/v1/crl/").and_then(issuer)?),
        })
    }

    /// The methods, as the `Allow` header lists them. HEAD is GET without the body.
    const fn methods(&self) -> &'static str {
        match self {
            Self::Enroll | Self::Issue | Self::Renew | Self::Revoke => "POST",
            _ => "GET, HEAD",
        }
    }

    /// Whether a query may ask to wait for a change.
    pub const fn waits(&self) -> bool {
        matches!(self, Self::Bundle | Self::BundlePem | Self::Revocations)
    }

    /// The word for it in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Issue => "issue",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::Status => "status",
            Self::Bundle => "bundle",
            Self::BundlePem => "bundle_pem",
            Self::Crls => "crls",
            Self::Crl(_) => "crl",
            Self::Revocations => "revocations",
            Self::Time => "time",
            Self::Ready => "ready",
            Self::OpenApi => "openapi",
        }
    }
}

/// The key identifier in the file name of a revocation list.
fn issuer(file: &str) -> Option<String> {
    let issuer = file.strip_suffix(".crl")?;
    let hex = issuer.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ((40..=64).contains(&issuer.len()) && hex).then(|| issuer.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(method: Method, path: &str) -> &'static str {
        Route::find(&method, path).unwrap_err().word
    }

    #[test]
    fn paths_are_exact() {
        assert_eq!(Route::find(&Method::POST, "/v1/issue"), Ok(Route::Issue));
        assert_eq!(Route::find(&Method::HEAD, "/v1/bundle"), Ok(Route::Bundle));
        let issuer = "0a".repeat(32);
        assert_eq!(
            Route::find(&Method::GET, &format!("/v1/crl/{issuer}.crl")),
            Ok(Route::Crl(issuer.clone()))
        );
        for path in [
            "/",
            "",
            "*",
            "/v1",
            "/v1/issue/",
            "//v1/issue",
            "/v1/../v1/issue",
            "/V1/issue",
            "/v1/issu%65",
            "/v1/crl/",
            "/v1/crl/.crl",
            "/v1/crl/../../kek.crl",
            &format!("/v1/crl/{issuer}"),
            &format!("/v1/crl/{}.crl", issuer.to_uppercase()),
        ] {
            assert_eq!(word(Method::POST, path), "not_found", "{path}");
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        for (method, path, allow) in [
            (Method::GET, "/v1/issue", "POST"),
            (Method::DELETE, "/v1/bundle", "GET, HEAD"),
        ] {
            let fault = Route::find(&method, path).unwrap_err();
            assert_eq!((fault.word, fault.allow), ("method_not_allowed", Some(allow)));
        }
        assert_eq!(word(Method::OPTIONS, "/v1/issue"), "method_not_allowed");
        assert_eq!(
            word(Method::from_bytes(b"get").unwrap(), "/v1/time"),
            "method_not_allowed"
        );
    }
}
