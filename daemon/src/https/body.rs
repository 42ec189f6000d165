//! The body of a request, read within its limits.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::Instant;

/// The body of a request: nothing of it is in memory before [`Body::read`] is called.
#[derive(Debug)]
pub struct Body(Source);

#[derive(Debug)]
enum Source {
    Network {
        incoming: Incoming,
        limit: usize,
        time: Duration,
        deadline: Instant,
    },
    Memory(Bytes),
}

impl Body {
    pub(super) fn network(incoming: Incoming, limit: usize, time: Duration) -> Self {
        Self(Source::Network {
            incoming,
            limit,
            time,
            deadline: Instant::now() + time,
        })
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it has more bytes than the request may have, when it does not arrive in time, counted from the end of
    /// the headers, and when it breaks off or is not framed as HTTP/1.1 demands. After an error the connection
    /// ends with the answer.
    pub async fn read(self) -> Result<Bytes, BodyError> {
        let (incoming, limit, time, deadline) = match self.0 {
            Source::Memory(bytes) => return Ok(bytes),
            Source::Network {
                incoming,
                limit,
                time,
                deadline,
            } => (incoming, limit, time, deadline),
        };
        let whole = Limited::new(incoming, limit).collect();
        match tokio::time::timeout_at(deadline, whole).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit }),
            Ok(Err(source)) => Err(BodyError::Broken { source }),
            Err(_) => Err(BodyError::TooSlow { limit: time }),
        }
    }
}

impl From<Bytes> for Body {
    /// A body that is there already: for calling a handler without a connection.
    fn from(bytes: Bytes) -> Self {
        Self(Source::Memory(bytes))
    }
}

/// Why the body of a request could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is too long.
    #[error("the body may have at most {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// It is too slow.
    #[error("the body did not arrive within {limit:?}")]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// It broke off, or its framing is wrong.
    #[error("the body broke off")]
    Broken {
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BodyError {
    /// The status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Broken { .. } => StatusCode::BAD_REQUEST,
        }
    }
}
