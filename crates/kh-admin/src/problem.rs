//! Problem documents (RFC 9457) as HTTP answers.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use kh_core::{Code, Problem};

/// `problem` as an answer: its own status, `application/problem+json`, never cached.
pub fn answer(problem: &Problem) -> Response<Body> {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // for whoever counts refusals
    answer.extensions_mut().insert(problem.code);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if problem.code == Code::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
    }
    answer
}

/// The same with `Retry-After` in whole seconds, rounded up and at least 1.
pub fn answer_after(problem: &Problem, wait: Duration) -> Response<Body> {
    let mut answer = answer(problem);
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    answer
}
