//! Rate limits of API calls. Invariant: the window is fixed and starts with its first request; a refused request
//! counts too; remaining is what the caller computes as allowed minus count (there is no such header).

use crate::config::LimitsConfig;
use crate::error_body::ErrorBody;
use crate::reply::Reply;
use http::header::{HeaderName, RETRY_AFTER};
use serde_json::json;

pub(super) const COUNT: HeaderName = HeaderName::from_static("inin-ratelimit-count");
const ALLOWED: HeaderName = HeaderName::from_static("inin-ratelimit-allowed");
const RESET: HeaderName = HeaderName::from_static("inin-ratelimit-reset");

/// Length of the per-client window and of the login window.
pub(super) const MINUTE_SECONDS: u64 = 60;

/// A fixed window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    started_ms: Option<i64>,
    count: u32,
}

impl Window {
    /// Counts a request and gives the count with it.
    pub(super) fn hit(&mut self, now_ms: i64, seconds: u64) -> u32 {
        if self.over(now_ms, seconds) {
            *self = Self { started_ms: Some(now_ms), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }

    /// The count without a new request.
    pub(super) fn count(&self, now_ms: i64, seconds: u64) -> u32 {
        if self.over(now_ms, seconds) { 0 } else { self.count }
    }

    /// Whole seconds until the window ends, at least 1.
    pub(super) fn reset_seconds(&self, now_ms: i64, seconds: u64) -> u64 {
        let end = self.started_ms.unwrap_or(now_ms).saturating_add(ms(seconds));
        u64::try_from(end.saturating_sub(now_ms).max(1)).unwrap_or(1).div_ceil(1_000)
    }

    /// A clock that was set back starts a new window too, or nobody could call for the time it went back.
    fn over(&self, now_ms: i64, seconds: u64) -> bool {
        self.started_ms.is_none_or(|start| now_ms < start || now_ms >= start.saturating_add(ms(seconds)))
    }
}

fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// The namespace whose limits bind API calls (official limits page); the others are left to the published document.
const PLATFORM_API: &str = "platform.api";

/// The limits that are in force here, under the platform's keys.
pub(super) fn namespace(name: &str, limits: &LimitsConfig) -> Option<Reply> {
    let limit = |key: &str, value: u64| json!({"key": key, "namespace": PLATFORM_API, "value": value});
    let bytes = u64::try_from(limits.request_bytes_max).unwrap_or(u64::MAX);
    let entities = [
        limit("client.credentials.token.rate.per.minute", u64::from(limits.requests_per_token)),
        limit("token.rate.per.minute", u64::from(limits.requests_per_token)),
        limit("org.app.user.rate.per.minute", u64::from(limits.requests_per_client_minute)),
        limit("request.bytes.max", bytes),
    ];
    (name == PLATFORM_API).then(|| Reply::json(200, &json!({ "entities": entities })))
}

/// Where a caller stands against the limit that binds it most.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) count: u32,
    pub(super) allowed: u32,
    pub(super) reset_seconds: u64,
    pub(super) window_seconds: u64,
    pub(super) key: &'static str,
}

impl Standing {
    pub(super) fn of(window: &Window, now_ms: i64, allowed: u32, window_seconds: u64, key: &'static str) -> Self {
        Self {
            count: window.count(now_ms, window_seconds),
            allowed,
            reset_seconds: window.reset_seconds(now_ms, window_seconds),
            window_seconds,
            key,
        }
    }

    /// For answers to callers without a valid token: nothing is counted yet.
    pub(super) fn unlimited(limits: &LimitsConfig) -> Self {
        Self {
            count: 0,
            allowed: limits.requests_per_token,
            reset_seconds: limits.window_seconds,
            window_seconds: limits.window_seconds,
            key: "token.rate.per.minute",
        }
    }

    pub(super) fn exceeded(&self) -> bool {
        self.count > self.allowed
    }

    fn remaining(&self) -> i64 {
        i64::from(self.allowed) - i64::from(self.count)
    }

    /// The one with fewer requests left.
    pub(super) fn tighter(self, other: Self) -> Self {
        if other.remaining() < self.remaining() { other } else { self }
    }

    /// The platform's 429: both published codes, `limit{}` and `Retry-After` in seconds.
    pub(super) fn refusal(&self, code: crate::config::RateLimitCode, correlation: &str) -> Reply {
        use crate::config::RateLimitCode;
        let (allowed, seconds) = (self.allowed, self.window_seconds);
        let base = format!("Rate limit exceeded the maximum [{allowed}] requests within [{seconds}] seconds");
        let (code, message) = match code {
            RateLimitCode::TooManyRequests => ("too.many.requests", base),
            RateLimitCode::TooManyRequestsRetryAfter => (
                "too.many.requests.retry.after",
                format!("{base}. Retry the request in [{}] seconds", self.reset_seconds),
            ),
        };
        let body =
            ErrorBody::new(429, code, message, correlation).limit(self.key, "platform.api", i64::from(self.allowed));
        let reply = Reply::json(429, &body.to_value()).header(RETRY_AFTER, &self.reset_seconds.to_string());
        with_headers(reply, self)
    }
}

pub(super) fn add_headers(reply: &mut Reply, standing: &Standing) {
    for (name, value) in
        [(COUNT, u64::from(standing.count)), (ALLOWED, u64::from(standing.allowed)), (RESET, standing.reset_seconds)]
    {
        reply.headers.push((name, http::HeaderValue::from(value)));
    }
}

pub(super) fn with_headers(mut reply: Reply, standing: &Standing) -> Reply {
    if !reply.has(&COUNT) {
        add_headers(&mut reply, standing);
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_starts_with_its_first_request() {
        let mut window = Window::default();
        assert_eq!((window.hit(1_000, 60), window.hit(2_000, 60)), (1, 2));
        assert_eq!(window.reset_seconds(2_000, 60), 59);
        assert_eq!(window.reset_seconds(2_001, 60), 59, "a part of a second counts as a whole one");
        assert_eq!(window.hit(60_999, 60), 3);
        assert_eq!(window.hit(61_000, 60), 1, "the window is over after 60 seconds");
        assert_eq!(window.hit(500, 60), 1, "a clock set back does not block");
    }

    #[test]
    fn the_tighter_limit_shows() {
        let standing = |count, allowed| Standing { count, allowed, reset_seconds: 1, window_seconds: 60, key: "k" };
        assert_eq!(standing(5, 300).tighter(standing(5, 10)).allowed, 10);
        assert_eq!(standing(299, 300).tighter(standing(5, 10)).allowed, 300);
        assert!(standing(11, 10).exceeded());
        assert!(!standing(10, 10).exceeded());
    }
}
