//! One request to a receiver, and what its answer means: done, again later, or never.
//!
//! Invariant: an error tells the status and how the connection failed; never the address beyond its host, nor what was
//! sent.

use std::time::Duration;

use kh_core::port::HookError;
use kh_net::http::{Answer, HttpClient, HttpError, Request};

/// Why something was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may be tried again.
    #[error("{reason}")]
    Transient {
        /// What happened; holds no secret.
        reason: String,
        /// When the receiver wants it again.
        retry_after: Option<Duration>,
    },
    /// Trying again as it is does not help.
    #[error("{0}")]
    Refused(String),
}

impl SendError {
    /// One without a wish for when.
    pub fn transient(reason: impl Into<String>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }

    /// One that is final.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}

impl From<SendError> for HookError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Transient { reason, .. } => Self::Transient(reason),
            SendError::Refused(reason) => Self::Refused(reason),
        }
    }
}

/// Sends once and gives back any answer.
pub(crate) async fn exchange(client: &HttpClient, request: Request) -> Result<Answer, SendError> {
    client.send(request).await.map_err(|error| match error {
        HttpError::Address | HttpError::NotAllowed | HttpError::Header => SendError::Refused(error.to_string()),
        HttpError::Connect { .. } | HttpError::Timeout { .. } | HttpError::Broken | HttpError::TooLarge { .. } => {
            SendError::transient(error.to_string())
        }
    })
}

/// What a status means where the receiver's API says nothing more: 2xx done; 408, 425, 429 and 5xx again later (RFC
/// 9110 section 15, RFC 6585 section 4, RFC 8470 section 5.2); everything else never, redirects included: a signed
/// message goes where it was sent and nowhere else.
pub(crate) fn judge(receiver: &str, answer: &Answer) -> Result<(), SendError> {
    let status = answer.head.status;
    let reason = format!("{receiver} answered {status}");
    match status {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500..=599 => Err(SendError::Transient { reason, retry_after: answer.head.retry_after() }),
        _ => Err(SendError::Refused(reason)),
    }
}
