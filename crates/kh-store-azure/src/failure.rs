//! What a failed call of the SDK means for rotation.
//!
//! Source of the codes: learn.microsoft.com/azure/key-vault/general/rest-error-codes and
//! learn.microsoft.com/azure/key-vault/general/common-error-codes.
//!
//! Invariant: a text holds our own words, status and codes of the service, never its message: it could repeat what was
//! sent.

use std::{error::Error as _, time::Duration};

use azure_core::{
    error::{Error, ErrorKind},
    http::{RawResponse, StatusCode, headers::HeaderName},
};
use kh_core::port::TargetError;
use kh_net::http::printable;
use serde::Deserialize;

/// Longest code of the service told, in characters.
const CODE_MAX: usize = 60;

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
    /// There is no such secret or version.
    Missing,
    /// The version is there and disabled.
    Disabled,
    /// The name is taken by a deleted secret.
    Deleted,
    /// The name is being recovered; writes are refused meanwhile.
    Recovering,
    /// Anything else, in the port's terms.
    Other(TargetError),
}

/// `{"error":{"code":..,"innererror":{"code":..}}}`; JSON libraries of other SDKs show it as `innerError`.
#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    error: Detail,
}

#[derive(Deserialize, Default)]
struct Detail {
    #[serde(default)]
    code: Option<String>,
    #[serde(default, rename = "innererror", alias = "innerError")]
    inner: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    code: Option<String>,
}

impl Failure {
    /// What `error`, of a call that read or wrote, means.
    pub(crate) fn of(error: &Error, call: Call) -> Self {
        match error.kind() {
            ErrorKind::HttpResponse { status, raw_response, .. } => refused(*status, raw_response.as_deref(), call),
            ErrorKind::Connection => Self::Other(TargetError::Unavailable(error.to_string())),
            ErrorKind::Io => Self::Other(unanswered(call, error.to_string())),
            ErrorKind::Credential => Self::Other(not_logged_in(error)),
            ErrorKind::DataConversion => Self::Other(misread(call)),
            // these are sentences of the SDK's or of our transport's before anything is sent
            ErrorKind::Other => Self::Other(TargetError::Unusable(printable(&error.to_string(), 300))),
        }
    }

    /// No answer came within the time of a whole call.
    pub(crate) fn late(call: Call) -> Self {
        Self::Other(unanswered(call, "Key Vault gave no answer in time".to_owned()))
    }
}

fn unanswered(call: Call, why: String) -> TargetError {
    match call {
        Call::Read => TargetError::Unavailable(why),
        Call::Write => TargetError::Unknown(why),
    }
}

/// A change whose answer cannot be read may have been made.
fn misread(call: Call) -> TargetError {
    let why = "Key Vault's answer has another form than documented".to_owned();
    match call {
        Call::Read => TargetError::Unusable(why),
        Call::Write => TargetError::Unknown(why),
    }
}

fn refused(status: StatusCode, response: Option<&RawResponse>, call: Call) -> Failure {
    let body: Body = response.and_then(|raw| serde_json::from_slice(raw.body().as_ref()).ok()).unwrap_or_default();
    let code = body.error.code.unwrap_or_default();
    let inner = body.error.inner.and_then(|inner| inner.code).unwrap_or_default();
    let told = told(u16::from(status), &code, &inner);
    let number = u16::from(status);
    match (number, inner.as_str()) {
        (404, _) if code == "SecretNotFound" => Failure::Missing,
        (403, "SecretDisabled") => Failure::Disabled,
        (409, "ObjectIsDeletedButRecoverable" | "ObjectIsBeingDeleted") => Failure::Deleted,
        (409, "ObjectIsBeingRecovered") => Failure::Recovering,
        (401, _) => Failure::Other(TargetError::Unauthenticated(told)),
        (403, _) => Failure::Other(TargetError::Denied(told)),
        (429, _) => Failure::Other(TargetError::Throttled(response.and_then(retry_after))),
        // refused before it is carried out; the vault says so of no other failure of its own. A 503 without its words is
        // a balancer's, which does not know
        (409, _) => Failure::Other(TargetError::Unavailable(told)),
        (503, _) if !code.is_empty() => Failure::Other(TargetError::Unavailable(told)),
        (408 | 500.., _) => Failure::Other(unanswered(call, told)),
        _ => Failure::Other(TargetError::Unusable(told)),
    }
}

fn told(status: u16, code: &str, inner: &str) -> String {
    let words = [code, inner].into_iter().filter(|word| !word.is_empty()).map(|word| printable(word, CODE_MAX));
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        return format!("Key Vault answered {status}");
    }
    format!("Key Vault answered {status} {}", words.join(" "))
}

/// `Retry-After` in seconds, as Key Vault writes it.
fn retry_after(response: &RawResponse) -> Option<Duration> {
    let seconds: u64 =
        response.headers().get_optional_str(&HeaderName::from_static("retry-after"))?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// No token came: refused by Entra ID or the metadata service, or these could not be asked. Nothing was sent to the
/// vault.
fn not_logged_in(error: &Error) -> TargetError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<Error>() {
            match error.kind() {
                ErrorKind::HttpResponse { status, error_code, .. } => {
                    let status = u16::from(*status);
                    let number = error_code
                        .as_deref()
                        .filter(|code| code.bytes().all(|byte| byte.is_ascii_digit() || byte == b','));
                    let code =
                        number.map_or_else(String::new, |number| format!(" AADSTS{}", printable(number, CODE_MAX)));
                    let told = format!("no token, the answer was {status}{code}");
                    return match status {
                        429 => TargetError::Throttled(None),
                        400..=499 => TargetError::Unauthenticated(told),
                        _ => TargetError::Unavailable(told),
                    };
                }
                ErrorKind::Connection | ErrorKind::Io => {
                    return TargetError::Unavailable(format!("no token: {}", printable(&error.to_string(), 300)));
                }
                _ => {}
            }
        }
        cause = inner.source();
    }
    TargetError::Unauthenticated("no token: the identity's settings or its token file are not usable".to_owned())
}
