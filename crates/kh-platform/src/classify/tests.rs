//! Refusals as a table, and properties: a wrong secret is only ever said by 400, 401 or 403, and nothing is told.

use std::time::Duration;

use kh_core::port::FetchError;
use proptest::prelude::*;

use super::*;
use crate::http::Media;

fn head(status: u16) -> AnswerHead {
    AnswerHead {
        status,
        retry_after: (status == 429 || status == 503).then_some(Duration::from_secs(7)),
        correlation_id: Some("corr-1".to_owned()),
        status_text: None,
        media: Media::MaybeJson,
        date: None,
        rate_limit: None,
    }
}

fn word(dialect: &Dialect, status: u16, body: &str) -> String {
    match classify_failure(dialect, &head(status), body.as_bytes()) {
        FetchError::Rejected { platform_code, correlation_id } => {
            assert_eq!(correlation_id.as_deref(), Some("corr-1"));
            format!("rejected {platform_code}")
        }
        FetchError::RateLimited { retry_after, correlation_id } => {
            assert_eq!(correlation_id.as_deref(), Some("corr-1"));
            format!("limited {}", retry_after.map_or(0, |wait| wait.as_secs()))
        }
        FetchError::Transient { retry_after, unreachable, correlation_id, .. } => {
            assert!(unreachable.is_none());
            assert_eq!(correlation_id.as_deref(), Some("corr-1"));
            format!("transient {}", retry_after.map_or(0, |wait| wait.as_secs()))
        }
        FetchError::Unusable(_) => "unusable".to_owned(),
    }
}

#[test]
fn genesys_refusals() {
    for (status, body, expected) in [
        (
            400,
            r#"{"error":"invalid_request","description":"rate limit exceeded; try later","error_description":""}"#,
            "limited 0",
        ),
        (400, r#"{"error":"invalid_request","description":"","error_description":"Rate Limit Exceeded"}"#, "limited 0"),
        (400, r#"{"error":"invalid_client","error_description":"rate limit exceeded"}"#, "limited 0"),
        (429, "", "limited 7"),
        (429, r#"{"code":"too.many.requests","message":"Rate limit exceeded the maximum"}"#, "limited 7"),
        (
            400,
            r#"{"error":"invalid_client","description":"client not found","error_description":"client not found"}"#,
            "rejected invalid_client",
        ),
        (401, r#"{"error":"invalid_client"}"#, "rejected invalid_client"),
        (400, r#"{"error":"invalid_grant"}"#, "rejected invalid_grant"),
        (401, r#"{"error":"unauthorized_client"}"#, "rejected unauthorized_client"),
        (403, r#"{"error":"unauthorized_client"}"#, "rejected unauthorized_client"),
        (
            401,
            r#"{"code":"bad.credentials","status":401,"message":"Invalid login credentials."}"#,
            "rejected bad.credentials",
        ),
        (401, r#"{"code":"ip.not.authorized","status":401,"message":"x"}"#, "transient 0"),
        (
            401,
            r#"{"error":"invalid_client","error_description":"The IP address 203.0.113.9 is not authorized"}"#,
            "transient 0",
        ),
        (400, r#"{"error":"access_denied","description":"ip not allowed"}"#, "transient 0"),
        (
            403,
            r#"{"error":"unauthorized_client","description":"address not in the allowed CIDR ranges"}"#,
            "transient 0",
        ),
        (400, r#"{"error":"invalid_client","description":"shipment address unknown"}"#, "rejected invalid_client"),
        (401, r#"{"error":"Zm9vYmFyc2VjcmV0U0VDUkVU"}"#, "rejected unnamed"),
        (401, "{}", "rejected http_401"),
        (401, "", "transient 0"),
        (401, "<html>login</html>", "transient 0"),
        (400, r#"{"error":"invalid_request","description":"missing grant_type"}"#, "transient 0"),
        (403, "forbidden", "transient 0"),
        (404, r#"{"error":"invalid_client"}"#, "transient 0"),
        (408, "", "transient 0"),
        (500, r#"{"error":"invalid_client"}"#, "transient 0"),
        (503, "rate limit exceeded", "transient 7"),
        (302, "", "transient 0"),
        (204, "", "transient 0"),
    ] {
        assert_eq!(word(&GENESYS, status, body), expected, "{status} {body}");
    }
}

#[test]
fn cxone_refusals() {
    for (status, body, expected) in [
        (401, r#"{"error":"invalid_grant","errorDescription":"Invalid access key"}"#, "rejected invalid_grant"),
        (400, r#"{"error":"invalid_request","errorDescription":"Too many requests"}"#, "limited 0"),
        (401, r#"{"error":"invalid_grant","errorDescription":"Login from this IP is not allowed"}"#, "transient 0"),
        (401, r#"{"errorCode":"x"}"#, "rejected http_401"),
    ] {
        assert_eq!(word(&CXONE, status, body), expected, "{status} {body}");
    }
    let spoken = AnswerHead { status_text: Some("Invalid access key".to_owned()), ..head(401) };
    assert!(matches!(
        classify_failure(&CXONE, &spoken, b""),
        FetchError::Rejected { platform_code, .. } if platform_code == "http_401"
    ));
    let limited = AnswerHead { status_text: Some("Rate limit exceeded".to_owned()), ..head(403) };
    assert!(matches!(classify_failure(&CXONE, &limited, b""), FetchError::RateLimited { .. }));
}

#[test]
fn a_refused_address_is_told_from_a_dead_token() {
    for (status, body, expected) in [
        (401, r#"{"code":"ip.not.authorized","status":401}"#, true),
        (403, r#"{"code":"ip.not.authorized"}"#, true),
        (401, r#"{"code":"unnamed","message":"The request IP address is not authorized."}"#, true),
        (401, r#"{"code":"bad.credentials","message":"Invalid login credentials."}"#, false),
        (401, r#"{"code":"authentication.required"}"#, false),
        (401, "", false),
        (200, r#"{"code":"ip.not.authorized"}"#, false),
        (429, r#"{"code":"ip.not.authorized"}"#, false),
    ] {
        assert_eq!(is_refused_address(&GENESYS, &head(status), body.as_bytes()), expected, "{status} {body}");
    }
}

proptest! {
    #[test]
    fn only_three_statuses_can_reject(status in 100_u16..600, code in "[a-z_]{0,20}", text in ".{0,60}") {
        let body = serde_json::json!({"error": code, "error_description": text}).to_string();
        for body in [body.as_str(), r#"{"error":"invalid_client"}"#, text.as_str()] {
            let error = classify_failure(&OAUTH2, &head(status), body.as_bytes());
            if !matches!(status, 400 | 401 | 403) {
                let rejected = matches!(error, FetchError::Rejected { .. });
                prop_assert!(!rejected, "{status} {body}");
            }
            if status == 429 {
                let limited = matches!(error, FetchError::RateLimited { .. });
                prop_assert!(limited);
            }
        }
    }

    #[test]
    fn a_reflected_secret_is_never_told(status in 300_u16..600, secret in "[A-Za-z0-9]{10}[A-Z][0-9][A-Za-z0-9_-]{31}") {
        for body in [
            serde_json::json!({"error": secret, "error_description": secret, "message": secret}).to_string(),
            secret.clone(),
        ] {
            let error = classify_failure(&GENESYS, &head(status), body.as_bytes());
            let told = format!("{error} {error:?}").contains(&secret);
            prop_assert!(!told);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(classify_failure(&GENESYS, &head(status), &body));
    }
}
