//! keyholder's own answers, in the shape that the caller's SDK parses: Genesys Cloud's `ErrorBody`, CXone's
//! `{error, errorDescription}` with the `icStatusDescription` header, RFC 9457 problems, and RFC 6749 errors.
//!
//! Invariant: no answer echoes anything that the caller sent but its correlation id, which is checked first.

use std::{borrow::Cow, num::NonZeroU32, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use kh_core::{Code, PlatformKind, Problem};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    exchange::body::ReplyBody,
    metrics::Outcome,
    oauth_error::OauthError,
    sender::{self, NextNonce},
};

/// An answer and how it is counted.
pub(crate) type Answer = (Response<ReplyBody>, Outcome);

/// The platform's correlation id, in Genesys Cloud's spelling.
pub(crate) const CORRELATION_ID: HeaderName = HeaderName::from_static("inin-correlation-id");
const IC_STATUS: HeaderName = HeaderName::from_static("icstatusdescription");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Longest correlation id that is passed into bodies and logs; the platform's are UUIDs of 36 characters.
const CORRELATION_MAX: usize = 128;

/// A correlation id that is safe to write into a log and a JSON text: visible ASCII, bounded.
pub(crate) fn correlation_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(CORRELATION_ID).and_then(correlation_text)
}

/// The same of the header's value.
pub(crate) fn correlation_text(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    (!text.is_empty() && text.len() <= CORRELATION_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .then_some(text)
}

/// A refusal or failure before it has a shape.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) status: StatusCode,
    pub(crate) detail: Cow<'static, str>,
    /// The platform's own error code.
    pub(crate) platform_code: Option<Box<str>>,
    pub(crate) correlation_id: Option<Box<str>>,
    /// Whole seconds.
    pub(crate) retry_after_s: Option<NonZeroU32>,
    /// What the status requires to be told: `Allow` of a 405, else `WWW-Authenticate`.
    pub(crate) told: Option<Box<str>>,
    /// What the caller's next `DPoP` proof has to repeat.
    pub(crate) nonce: NextNonce,
    /// The connection ends with this answer: what follows on it cannot be trusted.
    pub(crate) close: bool,
}

impl Refusal {
    /// With the code's usual status.
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            status: StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            detail: detail.into(),
            platform_code: None,
            correlation_id: None,
            retry_after_s: None,
            told: None,
            nonce: None,
            close: false,
        }
    }

    /// A request with two readings.
    pub(crate) fn ambiguous(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { close: true, ..Self::new(Code::REQUEST_AMBIGUOUS, detail) }
    }

    /// The same with a `Retry-After`, rounded up: who came back early would only be refused again.
    pub(crate) fn after(mut self, wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        self.retry_after_s = Some(NonZeroU32::MIN.saturating_add(seconds.saturating_sub(1)));
        self
    }

    /// How this is counted: what the caller did wrong, or what could not be had.
    fn outcome(&self) -> Outcome {
        if self.status.is_server_error() { Outcome::Failed(self.code) } else { Outcome::Refused(self.code) }
    }

    fn dress(&self, headers: &mut HeaderMap, id: &str) {
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(CORRELATION_ID, id);
        }
        if let Some(told) = &self.told {
            let is_method = self.status == StatusCode::METHOD_NOT_ALLOWED;
            let name = if is_method { header::ALLOW } else { header::WWW_AUTHENTICATE };
            if let Ok(told) = HeaderValue::from_str(told) {
                headers.insert(name, told);
            }
        }
        tell_nonce(headers, &self.nonce);
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.get()));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// The answer in the shape of a platform. `id` names this occurrence in the log.
    pub(crate) fn into_answer(self, shape: PlatformKind, id: &str) -> Answer {
        let outcome = self.outcome();
        let details: Vec<Value> = self.platform_code.iter().map(|code| json!({ "errorCode": code })).collect();
        let (body, media) = match shape {
            PlatformKind::Genesys => (
                json!({
                    "message": self.detail, "code": self.code, "status": self.status.as_u16(), "contextId": id,
                    "details": details, "errors": [],
                }),
                "application/json",
            ),
            PlatformKind::Cxone => (
                json!({
                    "error": self.code, "errorDescription": self.detail, "error_description": self.detail,
                    "details": details, "correlationId": id,
                }),
                "application/json",
            ),
            PlatformKind::Oauth2 => (self.problem(&details, id), "application/problem+json"),
        };
        let mut response = Response::new(ReplyBody::whole(Bytes::from(body.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        if shape == PlatformKind::Cxone
            && let Ok(text) = HeaderValue::from_str(&self.detail)
        {
            headers.insert(IC_STATUS, text);
        }
        self.dress(headers, id);
        (response, outcome)
    }

    /// The answer as an RFC 9457 problem. `id` names this occurrence in the log.
    pub(crate) fn into_problem(self, id: &str) -> Answer {
        let outcome = self.outcome();
        let problem = Problem {
            status: self.status.as_u16(),
            correlation_id: Some(id.to_owned()),
            ..Problem::new(self.code, self.detail.clone())
        };
        // texts and numbers only: it cannot fail
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(ReplyBody::whole(Bytes::from(body)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        self.dress(response.headers_mut(), id);
        (response, outcome)
    }

    fn problem(&self, details: &[Value], id: &str) -> Value {
        let mut problem = Problem::new(self.code, self.detail.clone());
        problem.status = self.status.as_u16();
        problem.correlation_id = Some(id.to_owned());
        let mut value = serde_json::to_value(problem).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("details".to_owned(), Value::from(details));
        }
        value
    }

    /// The answer of a token endpoint: RFC 6749 section 5.2 with the two spellings that the platforms add.
    pub(crate) fn into_oauth_answer(self, error: OauthError, id: &str) -> Answer {
        let outcome = self.outcome();
        let body = json!({
            "error": error.as_str(), "error_description": self.detail, "description": self.detail,
            "errorDescription": self.detail,
        });
        let mut response = Response::new(ReplyBody::whole(Bytes::from(body.to_string())));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.dress(response.headers_mut(), id);
        (response, outcome)
    }
}

/// Gives the caller the nonce for its next `DPoP` proof (RFC 9449 section 8.2).
pub(crate) fn tell_nonce(headers: &mut HeaderMap, nonce: &NextNonce) {
    if let Some(nonce) = nonce.as_ref().and_then(|nonce| HeaderValue::from_str(&nonce.0).ok()) {
        headers.insert(sender::NONCE, nonce);
    }
}

/// A JSON answer of one of keyholder's own endpoints; never cached.
pub(crate) fn json(value: &Value) -> Answer {
    whole(Bytes::from(value.to_string()))
}

/// A JSON answer that anybody may have, and keep for `max_age`.
pub(crate) fn public_json(text: Bytes, max_age: Duration) -> Answer {
    let (mut response, outcome) = whole(text);
    let headers = response.headers_mut();
    headers.remove(header::PRAGMA);
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={}", max_age.as_secs())) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    (response, outcome)
}

/// A JSON answer that holds a token: its buffer is wiped when it has been written.
pub(crate) fn secret_json(text: Zeroizing<Vec<u8>>) -> Answer {
    whole(Bytes::from_owner(text))
}

/// 200 without a body.
pub(crate) fn empty() -> Answer {
    let mut response = Response::new(ReplyBody::whole(Bytes::new()));
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    (response, Outcome::Own)
}

fn whole(bytes: Bytes) -> Answer {
    let mut response = Response::new(ReplyBody::whole(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    // RFC 6749 section 5.1
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    (response, Outcome::Own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_ids_are_checked() {
        let id = |value: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CORRELATION_ID, HeaderValue::from_bytes(value).unwrap());
            correlation_id(&headers).map(str::to_owned)
        };
        assert_eq!(id(b"a1-b2").as_deref(), Some("a1-b2"));
        for bad in [&b""[..], b"a b", b"a\tb", b"\xff", &[b'x'; CORRELATION_MAX + 1]] {
            assert_eq!(id(bad), None);
        }
    }
}
