//! What platforms say in their answers' heads, and the few kinds of requests that are made to them.
//!
//! Invariant: texts taken from a head are printable and bounded; a request goes out once ([`kh_net::http`]).

use std::time::Duration;

use ::http::{HeaderValue, Method, header};
use kh_core::{SecretString, UnixMillis, port::FetchError};
pub(crate) use kh_net::http::printable;
pub use kh_net::http::{ANSWER_MAX, HttpClient, HttpError, Media, Timeouts};
use kh_net::http::{OutBody, Request};
use url::Url;
use zeroize::Zeroizing;

use crate::Address;

/// Where platforms put their correlation id, best first (Genesys Cloud: `ININ-Correlation-Id`).
const CORRELATION_HEADERS: [&str; 3] = ["inin-correlation-id", "x-correlation-id", "x-request-id"];

/// Status and headers of an answer, as far as they matter here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnswerHead {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, in either form of RFC 9110 section 10.2.3.
    pub retry_after: Option<Duration>,
    /// The platform's correlation id, printable and bounded.
    pub correlation_id: Option<String>,
    /// CXone's `icStatusDescription`, printable and bounded.
    pub status_text: Option<String>,
    /// What the body claims to be.
    pub media: Media,
    /// `Date`, the platform's clock.
    pub date: Option<UnixMillis>,
    /// `inin-ratelimit-*` of Genesys Cloud.
    pub rate_limit: Option<RateLimit>,
}

/// Where a token stands against its rate limit; there is no header for what remains (official developer blog,
/// 2021-05-06).
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct RateLimit {
    /// Requests allowed in the window.
    pub allowed: u32,
    /// Requests counted in it, this one included.
    pub count: u32,
    /// Seconds until it ends.
    pub reset_seconds: u32,
}

/// A complete answer; its body is wiped when dropped.
pub struct Answer {
    /// Status and headers.
    pub head: AnswerHead,
    /// The body, at most [`ANSWER_MAX`] bytes.
    pub body: Zeroizing<Vec<u8>>,
}

impl From<kh_net::http::Answer> for Answer {
    fn from(answer: kh_net::http::Answer) -> Self {
        Self { head: parse_head(&answer.head), body: answer.body }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("head", &self.head).field("body_len", &self.body.len()).finish()
    }
}

/// Gets a document that is not secret.
pub(crate) async fn get(http: &HttpClient, url: Url) -> Result<Answer, HttpError> {
    Ok(http.send(Request::new(Method::GET, url)).await?.into())
}

/// Gets a document with `token`.
pub(crate) async fn get_as(http: &HttpClient, url: Url, token: &SecretString) -> Result<Answer, HttpError> {
    Ok(http.send(Request::new(Method::GET, url).bearer(token)?).await?.into())
}

/// Posts `body`, with `authorization` where there is one.
pub(crate) async fn post(
    http: &HttpClient,
    url: Url,
    authorization: Option<HeaderValue>,
    body: OutBody,
) -> Result<Answer, HttpError> {
    let mut request = Request::new(Method::POST, url).body(body);
    if let Some(mut value) = authorization {
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    Ok(http.send(request).await?.into())
}

/// What the clock of the server behind `address` says, whatever else it answers. Sends no secret.
pub async fn date_of(http: &HttpClient, address: &Address) -> Result<Option<UnixMillis>, HttpError> {
    Ok(get(http, address.join("/")).await?.head.date)
}

/// The same error as the port's; `what` names the request, such as "the token request".
pub(crate) fn fetch_error(error: &HttpError, what: &str) -> FetchError {
    FetchError::Transient {
        reason: format!("{what}: {error}"),
        retry_after: None,
        unreachable: error.unreachable(),
        correlation_id: None,
    }
}

/// Reads what matters from an answer's head. Pure.
pub fn parse_head(head: &kh_net::http::AnswerHead) -> AnswerHead {
    AnswerHead {
        status: head.status,
        retry_after: head.retry_after(),
        correlation_id: CORRELATION_HEADERS.iter().find_map(|name| head.text(name)).filter(|id| is_correlation_id(id)),
        status_text: head.text("icstatusdescription").filter(|text| !text.is_empty()),
        media: head.media(),
        date: head.date(),
        rate_limit: rate_limit(head),
    }
}

fn rate_limit(head: &kh_net::http::AnswerHead) -> Option<RateLimit> {
    let number = |name: &str| head.headers.get(name)?.to_str().ok()?.parse().ok();
    Some(RateLimit {
        allowed: number("inin-ratelimit-allowed")?,
        count: number("inin-ratelimit-count")?,
        reset_seconds: number("inin-ratelimit-reset")?,
    })
}

fn is_correlation_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:=/+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use ::http::HeaderName;

    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> AnswerHead {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        parse_head(&kh_net::http::AnswerHead { status: 200, headers, received: UnixMillis(0) })
    }

    #[test]
    fn heads() {
        assert_eq!(head(&[("retry-after", "7")]).retry_after, Some(Duration::from_secs(7)));
        assert_eq!(head(&[("inin-correlation-id", "a-1")]).correlation_id.as_deref(), Some("a-1"));
        assert_eq!(head(&[("inin-correlation-id", "a\tb c")]).correlation_id, None);
        assert_eq!(head(&[("x-request-id", "r"), ("inin-correlation-id", "c")]).correlation_id.as_deref(), Some("c"));
        assert_eq!(head(&[("icstatusdescription", "Bad key")]).status_text.as_deref(), Some("Bad key"));
        let limits = [("inin-ratelimit-allowed", "180"), ("inin-ratelimit-count", "1"), ("inin-ratelimit-reset", "61")];
        assert_eq!(head(&limits).rate_limit, Some(RateLimit { allowed: 180, count: 1, reset_seconds: 61 }));
        assert_eq!(head(&limits[..2]).rate_limit, None);
    }
}
