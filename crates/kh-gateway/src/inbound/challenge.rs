//! What a caller is told when it is not let in: RFC 6750 section 3 and RFC 9457.
//!
//! Invariant: a token that is unknown, expired, revoked or forged gets the same answer letter by letter. Why it was not
//! taken is for the log and the metrics.

use std::time::Duration;

use http::StatusCode;
use kh_core::Code;

use crate::answer::Refusal;

/// A refusal with its reason code, which goes into the log and the metrics and not to the caller.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) reason: &'static str,
    pub(super) refusal: Refusal,
}

/// `WWW-Authenticate`: the realm, and after a token was shown what is wrong with it.
fn bearer(realm: &str, error: Option<(&str, &str)>, scope: Option<&str>) -> Box<str> {
    let error = error.map(|(error, description)| [("error", error), ("error_description", description)]);
    let more = error.into_iter().flatten().chain(scope.map(|scope| ("scope", scope)));
    let text =
        more.fold(format!(r#"Bearer realm="{realm}""#), |text, (name, value)| format!(r#"{text}, {name}="{value}""#));
    text.into()
}

fn unauthenticated(code: Code, detail: &'static str, told: Box<str>) -> Refusal {
    Refusal { told: Some(told), ..Refusal::new(code, detail) }
}

impl Denial {
    /// The request has no bearer token. No error code: nothing was wrong with what was shown (RFC 6750 section 3.1).
    pub(super) fn missing(realm: &str, reason: &'static str, detail: &'static str) -> Self {
        Self { reason, refusal: unauthenticated(Code::INBOUND_TOKEN_MISSING, detail, bearer(realm, None, None)) }
    }

    /// What follows `Bearer` is no token.
    pub(super) fn malformed(realm: &str) -> Self {
        let description = "the Authorization header does not have the form of a bearer token";
        let told = bearer(realm, Some(("invalid_request", description)), None);
        let refusal = unauthenticated(Code::INBOUND_AUTHORIZATION_MALFORMED, description, told);
        Self { reason: "authorization_malformed", refusal }
    }

    /// The token is not valid here, for whatever reason.
    pub(super) fn invalid(realm: &str, reason: &'static str) -> Self {
        let description = "the access token is not valid";
        let told = bearer(realm, Some(("invalid_token", description)), None);
        Self { reason, refusal: unauthenticated(Code::INBOUND_TOKEN_INVALID, description, told) }
    }

    /// The token is valid and does not suffice. `scope` is what would.
    pub(super) fn insufficient(realm: &str, reason: &'static str, scope: Option<&str>) -> Self {
        let description = "the access token does not allow this request";
        let told = bearer(realm, Some(("insufficient_scope", description)), scope);
        Self { reason, refusal: unauthenticated(Code::INBOUND_NOT_ALLOWED, description, told) }
    }

    /// Nobody can say now whether the token is valid.
    pub(super) fn unknown(reason: &'static str, retry_after: Duration) -> Self {
        let detail = "the access token cannot be verified at the moment";
        Self { reason, refusal: Refusal::new(Code::INBOUND_ISSUER_UNAVAILABLE, detail).after(retry_after) }
    }

    /// Too many failures came before. The same answer whatever was shown, which was not looked at.
    pub(super) fn throttled(wait: Duration) -> Self {
        let detail = "too many requests came before whose credentials were not valid";
        Self { reason: "throttled", refusal: Refusal::new(Code::INBOUND_THROTTLED, detail).after(wait) }
    }

    /// No route takes such a request.
    pub(super) fn no_route() -> Self {
        Self { reason: "no_route", refusal: Refusal::new(Code::NOT_FOUND, "there is no such resource") }
    }

    /// The path has routes for these methods alone.
    pub(super) fn no_method<'a>(allowed: impl Iterator<Item = &'a str>) -> Self {
        let allowed: Vec<&str> = allowed.collect();
        let refusal = Refusal::new(Code::METHOD_NOT_ALLOWED, "this resource does not answer this method");
        let refusal = Refusal { told: Some(allowed.join(", ").into()), ..refusal };
        Self { reason: "method_not_allowed", refusal }
    }

    /// The API gave no answer. What went wrong is for the log: the caller is outside.
    pub(super) fn no_answer(kind: &'static str) -> Self {
        let refusal = Refusal::new(Code::INBOUND_UPSTREAM_FAILED, "the API behind the gateway did not answer");
        let status = if kind == "timeout" { StatusCode::GATEWAY_TIMEOUT } else { refusal.status };
        Self { reason: "upstream_failed", refusal: Refusal { status, ..refusal } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_those_of_the_rfc() {
        for (denial, status, told) in [
            (Denial::missing("api", "token_missing", ""), 401, r#"Bearer realm="api""#),
            (
                Denial::malformed("api"),
                400,
                r#"Bearer realm="api", error="invalid_request", error_description="the Authorization header does not have the form of a bearer token""#,
            ),
            (
                Denial::invalid("api", "expired"),
                401,
                r#"Bearer realm="api", error="invalid_token", error_description="the access token is not valid""#,
            ),
            (
                Denial::insufficient("api", "insufficient_scope", Some("a b")),
                403,
                r#"Bearer realm="api", error="insufficient_scope", error_description="the access token does not allow this request", scope="a b""#,
            ),
            (Denial::no_method(["GET", "PUT"].into_iter()), 405, "GET, PUT"),
        ] {
            assert_eq!((denial.refusal.status.as_u16(), denial.refusal.told.as_deref()), (status, Some(told)));
        }
        let unknown = Denial::unknown("issuer_unavailable", Duration::from_millis(1_001));
        assert_eq!((unknown.refusal.status.as_u16(), unknown.refusal.retry_after_s), (503, Some(2)));
        let throttled = Denial::throttled(Duration::from_millis(4_001));
        let told = (throttled.refusal.status.as_u16(), throttled.refusal.retry_after_s, throttled.refusal.told);
        assert_eq!(told, (429, Some(5), None));
        assert_eq!(Denial::no_answer("timeout").refusal.status.as_u16(), 504);
        assert_eq!(Denial::no_answer("connect").refusal.status.as_u16(), 502);
    }
}
