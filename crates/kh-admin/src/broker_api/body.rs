//! The broker's answers. Invariant: a buffer that holds a token is made large enough at once, and wiped when sent.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use jiff::Timestamp;
use kh_broker::{CredentialSpec, Lease};
use kh_core::{Code, Now, Problem};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::problem;

#[derive(Serialize)]
struct TokenBody<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_at: String,
    expires_in: u64,
    api_base: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_base: Option<&'a str>,
    platform: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
    sha256: String,
}

#[derive(Serialize)]
struct HeaderBody<'a> {
    #[serde(rename = "authorizationHeader")]
    authorization_header: &'a str,
}

/// The token with its life. `expires_at` is rounded down to whole seconds, as `expires_in` is.
pub(super) fn token(lease: &Lease, spec: &CredentialSpec, now: Now) -> Response<Body> {
    let seconds = i64::try_from(lease.expires_at().as_secs()).unwrap_or(i64::MAX);
    let Ok(expires_at) = Timestamp::from_second(seconds) else {
        return problem::answer(&Problem::new(Code::INTERNAL, "the token's expiry is beyond the calendar"));
    };
    let body = TokenBody {
        access_token: lease.token().expose(),
        token_type: "Bearer",
        expires_at: expires_at.to_string(),
        expires_in: lease.remaining(now).as_secs(),
        api_base: lease.api_base(),
        auth_base: lease.auth_base(),
        platform: spec.kind.as_str(),
        environment: spec.environment.as_ref().map(kh_core::EnvironmentName::as_str),
        sha256: lease.sha256().to_hex(),
    };
    let bases = lease.api_base().len() + lease.auth_base().map_or(0, str::len);
    secret_json(&body, lease.token().len() + bases)
}

/// The header value, in the shape of Microsoft's Entra auth sidecar.
pub(super) fn header(lease: &Lease) -> Response<Body> {
    let Ok(value) = lease.authorization().to_str() else {
        return problem::answer(&Problem::new(Code::INTERNAL, "the token is not visible ASCII"));
    };
    secret_json(&HeaderBody { authorization_header: value }, value.len())
}

/// `text` bytes of the body are values that escaping may stretch to six times their length.
fn secret_json(body: &impl Serialize, text: usize) -> Response<Body> {
    let mut buffer = Zeroizing::new(Vec::with_capacity(512 + 6 * text));
    if serde_json::to_writer(&mut *buffer, body).is_err() {
        return problem::answer(&Problem::new(Code::INTERNAL, "the answer could not be written"));
    }
    let mut answer = Response::new(Body::from(Bytes::from_owner(buffer)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A short text.
pub(super) fn plain(text: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::from(text));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A status without a body.
pub(super) fn nothing(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
