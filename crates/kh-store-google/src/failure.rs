//! What a failed call of the SDK means for rotation.
//!
//! Source of the codes: cloud.google.com/apis/design/errors and google.rpc.Code.
//!
//! Invariant: a text holds our own words and the service's code, never its message: it could repeat what was sent.

use std::{error::Error as _, time::Duration};

use google_cloud_gax::error::{CredentialsError, Error};
use kh_core::port::TargetError;

/// Longest wait that a service may ask for; a longer one is cut.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);

/// Whether the call could have changed something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Read,
    Write,
}

/// A failed call.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no such secret, version or alias.
    Missing,
    /// There is one already.
    Exists,
    /// An etag does not match, or the version is disabled or destroyed.
    Precondition,
    /// The service does not take what was asked.
    Invalid(String),
    /// Anything else, in the port's terms.
    Other(TargetError),
}

impl Failure {
    /// What `error`, of a call that read or wrote, means.
    pub(crate) fn of(error: &Error, call: Call) -> Self {
        if error.is_authentication() {
            return Self::Other(not_logged_in(error));
        }
        if error.is_connect() {
            return Self::Other(TargetError::Unavailable("Secret Manager cannot be reached".to_owned()));
        }
        if error.is_serialization() || error.is_binding() {
            return Self::Invalid("the SDK cannot send this".to_owned());
        }
        let status = error.http_status_code();
        match (error.status().map(|status| status.code.name()), status) {
            (Some("NOT_FOUND"), _) => Self::Missing,
            (Some("ALREADY_EXISTS"), _) => Self::Exists,
            // ABORTED is what the design guide has for a lost race; the service itself says FAILED_PRECONDITION
            (Some("FAILED_PRECONDITION" | "ABORTED"), _) => Self::Precondition,
            (Some(code @ ("INVALID_ARGUMENT" | "OUT_OF_RANGE" | "UNIMPLEMENTED")), _) => Self::Invalid(told(code)),
            (Some(code @ "PERMISSION_DENIED"), _) => Self::Other(TargetError::Denied(told(code))),
            (Some(code @ "UNAUTHENTICATED"), _) => Self::Other(TargetError::Unauthenticated(told(code))),
            (Some("RESOURCE_EXHAUSTED"), _) | (None, Some(429)) => Self::Other(TargetError::Throttled(wait(error))),
            (Some(code), _) => Self::Other(unanswered(call, told(code))),
            (None, Some(401)) => Self::Other(TargetError::Unauthenticated("Secret Manager answered 401".to_owned())),
            (None, Some(403)) => Self::Other(TargetError::Denied("Secret Manager answered 403".to_owned())),
            (None, Some(number)) => Self::Other(unanswered(call, format!("Secret Manager answered {number}"))),
            (None, None) if error.is_deserialization() => {
                Self::Other(unanswered(call, "Secret Manager's answer has another form than documented".to_owned()))
            }
            (None, None) => Self::Other(unanswered(call, "Secret Manager's answer did not come".to_owned())),
        }
    }

    /// No answer came within the time of a whole call.
    pub(crate) fn late(call: Call) -> Self {
        Self::Other(unanswered(call, "Secret Manager gave no answer in time".to_owned()))
    }
}

fn unanswered(call: Call, why: String) -> TargetError {
    match call {
        Call::Read => TargetError::Unavailable(why),
        Call::Write => TargetError::Unknown(why),
    }
}

fn told(code: &str) -> String {
    format!("Secret Manager answered {code}")
}

fn wait(error: &Error) -> Option<Duration> {
    let seconds: u64 = error.http_headers()?.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// No token came, so nothing was sent to the service.
fn not_logged_in(error: &Error) -> TargetError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<CredentialsError>() {
            return if error.is_transient() {
                TargetError::Unavailable("no token: its source cannot be asked".to_owned())
            } else {
                TargetError::Unauthenticated("no token: the identity was refused or is not usable".to_owned())
            };
        }
        cause = inner.source();
    }
    TargetError::Unauthenticated("no token".to_owned())
}
