//! Refusals as a table, and properties: a changing request that got a 5xx or no answer is never called undone.

use std::time::Duration;

use kh_core::Code;
use proptest::prelude::*;

use super::*;
use crate::http::Media;

fn head(status: u16) -> AnswerHead {
    AnswerHead {
        status,
        retry_after: (status == 429).then_some(Duration::from_secs(7)),
        correlation_id: Some("corr-1".to_owned()),
        status_text: None,
        media: Media::MaybeJson,
        date: None,
        rate_limit: None,
    }
}

fn word(error: &ManageError) -> String {
    match error {
        ManageError::NotDone { .. } => "not done".to_owned(),
        ManageError::Unknown { .. } => "unknown".to_owned(),
        ManageError::Throttled { retry_after } => format!("throttled {}", retry_after.map_or(0, |wait| wait.as_secs())),
        ManageError::Denied { platform_code, .. } => format!("denied {platform_code}"),
        ManageError::NotFound(id) => format!("not found {id}"),
        ManageError::LimitReached { platform_code } => format!("full {platform_code}"),
        ManageError::Unsupported => "unsupported".to_owned(),
    }
}

fn check(status: u16, body: &str, change: &str, read: &str) {
    let id = ManagedId("x".to_owned());
    for (effect, expected) in [(Effect::Change, change), (Effect::Read, read)] {
        let error = refused(effect, Some(&id), &head(status), body.as_bytes());
        assert_eq!(word(&error), expected, "{effect:?} {status} {body}");
    }
}

#[test]
fn refusals() {
    let coded = |code: &str| format!(r#"{{"code":"{code}","message":"m","status":400}}"#);
    for (status, body, change, read) in [
        (429, coded("too.many.requests"), "throttled 7", "throttled 7"),
        (429, String::new(), "throttled 7", "throttled 7"),
        (
            400,
            r#"{"error":"invalid_request","description":"rate limit exceeded; later"}"#.into(),
            "throttled 0",
            "throttled 0",
        ),
        (403, r#"{"error":"x","errorDescription":"Too many requests"}"#.into(), "throttled 0", "throttled 0"),
        (401, coded("bad.credentials"), "not done", "not done"),
        (401, coded("authentication.required"), "not done", "not done"),
        (401, coded("ip.not.authorized"), "denied ip.not.authorized", "denied ip.not.authorized"),
        (401, String::new(), "not done", "not done"),
        (403, coded("missing.any.permissions"), "denied missing.any.permissions", "denied missing.any.permissions"),
        (403, String::new(), "denied no code", "denied no code"),
        (404, coded("client.not.found"), "not found x", "not found x"),
        (404, r#"{"error":"not_found","errorDescription":"unknown"}"#.into(), "not found x", "not found x"),
        (404, "<html>proxy</html>".into(), "not done", "not done"),
        (404, String::new(), "not done", "not done"),
        (400, coded("bad.client.role"), "denied bad.client.role", "denied bad.client.role"),
        (400, coded("bad.client.state"), "denied bad.client.state", "denied bad.client.state"),
        (400, coded("cannot.delete.client"), "denied cannot.delete.client", "denied cannot.delete.client"),
        (400, coded("last.secret"), "denied last.secret", "denied last.secret"),
        (400, coded("auth.too.many.clients"), "full auth.too.many.clients", "full auth.too.many.clients"),
        (400, coded("too.many.secrets"), "full too.many.secrets", "full too.many.secrets"),
        (400, r#"{"error":"too_many_access_keys"}"#.into(), "full too_many_access_keys", "full too_many_access_keys"),
        (400, coded("bad.request"), "not done", "not done"),
        (409, coded("request.conflict"), "not done", "not done"),
        (413, coded("request.entity.too.large"), "not done", "not done"),
        (302, String::new(), "not done", "not done"),
        (408, coded("client.timeout"), "unknown", "not done"),
        (500, coded("internal.server.error"), "unknown", "not done"),
        (502, "<html>bad gateway</html>".into(), "unknown", "not done"),
        (503, coded("service.unavailable"), "unknown", "not done"),
        (504, coded("authentication.request.timeout"), "unknown", "not done"),
    ] {
        check(status, &body, change, read);
    }
}

#[test]
fn a_platform_that_speaks_in_a_header_is_heard() {
    let spoken = AnswerHead { status_text: Some("Access key not found".to_owned()), ..head(404) };
    let id = ManagedId("k".to_owned());
    assert_eq!(word(&refused(Effect::Change, Some(&id), &spoken, b"")), "not found k");
}

#[test]
fn no_answer() {
    let refused = HttpError::Connect { code: Code::UPSTREAM_UNREACHABLE, reason: "no".to_owned() };
    for (error, change) in [
        (refused, "not done"),
        (HttpError::Address, "not done"),
        (HttpError::Timeout { sent: false }, "not done"),
        (HttpError::Timeout { sent: true }, "unknown"),
        (HttpError::Broken, "unknown"),
        (HttpError::TooLarge { max: 1 }, "unknown"),
    ] {
        assert_eq!(word(&unanswered(Effect::Change, &error)), change, "{error}");
        assert_eq!(word(&unanswered(Effect::Read, &error)), "not done", "{error}");
    }
}

#[test]
fn each_kind_has_its_code() {
    for (status, code) in [
        (401, Code::ROTATION_PLATFORM),
        (403, Code::ROTATION_DENIED),
        (429, Code::ROTATION_PLATFORM),
        (500, Code::ROTATION_UNKNOWN_OUTCOME),
    ] {
        assert_eq!(refused(Effect::Change, None, &head(status), b"{}").code(), code, "{status}");
    }
}

proptest! {
    #[test]
    fn words_of_the_platform_are_not_repeated(status in 100_u16..600, secret in "[A-Za-z0-9_-]{43}") {
        let body = format!(r#"{{"code":"{secret}","message":"{secret}","error_description":"{secret}"}}"#);
        let error = refused(Effect::Change, None, &head(status), body.as_bytes());
        let told = format!("{error} {error:?}");
        prop_assert!(!told.contains(&secret), "{told}");
    }

    #[test]
    fn a_change_is_undone_only_below_500(status in 500_u16..=999, body in ".{0,60}") {
        let error = refused(Effect::Change, None, &head(status), body.as_bytes());
        prop_assert_eq!(word(&error), "unknown");
    }
}
