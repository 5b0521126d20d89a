//! Genesys Cloud over the wire: what is sent, what each answer becomes.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use kh_core::{
    SecretString,
    port::{FetchError, TokenEndpoint},
};
use kh_platform::GenesysEndpoint;

use crate::fake::{Fake, address, client, document, json, with, word};

const DOCUMENT: &str = r#"{"client_id":"cid","client_secret":"MARKED-SECRET_-43"}"#;
const TOKEN: &str = r#"{"access_token":"opaque-1","token_type":"bearer","expires_in":86400}"#;

#[tokio::test]
async fn it_logs_in_as_the_official_sdks_do() {
    let fake = Fake::start(|_| json(200, TOKEN)).await;
    let endpoint = GenesysEndpoint::new(client().0, address(&format!("{}/login/eu/", fake.url())));
    let token = endpoint.fetch(&document(DOCUMENT), None).await.unwrap();
    assert_eq!(token.access_token.expose(), "opaque-1");
    assert_eq!(token.expires_in, Duration::from_hours(24));
    assert!(token.refresh_token.is_none() && token.api_base.is_none());
    let [request] = &fake.seen()[..] else { panic!("one request") };
    assert_eq!(request.line(), "POST /login/eu/oauth/token");
    assert_eq!(request.body, "grant_type=client_credentials");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("accept"), Some("application/json"));
    let basic = format!("Basic {}", STANDARD.encode("cid:MARKED-SECRET_-43"));
    assert_eq!(request.header("authorization"), Some(basic.as_str()));
    for absent in ["cookie", "accept-encoding", "referer"] {
        assert_eq!(request.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn refresh_tokens_are_used_and_rotated() {
    let fake = Fake::start(|_| {
        json(200, r#"{"access_token":"a","token_type":"bearer","expires_in":9,"refresh_token":"MARKED-SECRET-2"}"#)
    })
    .await;
    let endpoint = GenesysEndpoint::new(client().0, fake.base());
    let document = document(r#"{"client_id":"cid","client_secret":"s","refresh_token":"MARKED-SECRET-1"}"#);
    let first = endpoint.fetch(&document, None).await.unwrap();
    let rotated = first.refresh_token.unwrap();
    endpoint.fetch(&document, Some(&rotated)).await.unwrap();
    let bodies: Vec<_> = fake.seen().into_iter().map(|request| request.body).collect();
    assert_eq!(
        bodies,
        [
            "grant_type=refresh_token&refresh_token=MARKED-SECRET-1",
            "grant_type=refresh_token&refresh_token=MARKED-SECRET-2"
        ]
    );
}

#[tokio::test]
async fn each_answer_is_understood_and_asked_for_once() {
    for (status, more, body, expected) in [
        (
            400,
            "",
            r#"{"error":"invalid_request","description":"rate limit exceeded; wait","error_description":"x"}"#,
            "limited",
        ),
        (429, "Retry-After: 30\r\n", "", "limited"),
        (400, "", r#"{"error":"invalid_client","description":"no","error_description":"no"}"#, "rejected"),
        (401, "", r#"{"error":"invalid_client"}"#, "rejected"),
        (401, "", r#"{"code":"ip.not.authorized","status":401}"#, "transient"),
        (500, "", "boom", "transient"),
        (503, "Retry-After: 2\r\n", "", "transient"),
        (408, "", "", "transient"),
        (302, "Location: https://example.com/\r\n", "", "transient"),
        (200, "", "", "transient"),
        (200, "", &TOKEN[..30], "transient"),
        (200, "", r#"{"access_token":"","token_type":"bearer","expires_in":9}"#, "transient"),
        (200, "", r#"{"error":"invalid_client","error_description":"MARKED-SECRET"}"#, "rejected"),
    ] {
        let (more, body) = (format!("{more}ININ-Correlation-Id: corr-7\r\n"), body.to_owned());
        let fake = Fake::start(move |_| with(status, &more, &body)).await;
        let error = GenesysEndpoint::new(client().0, fake.base()).fetch(&document(DOCUMENT), None).await.unwrap_err();
        assert_eq!(word(&error), expected, "{status}: {error}");
        assert_eq!(fake.lines(), ["POST /oauth/token"], "{status}");
        let (wait, correlation) = match error {
            FetchError::Rejected { correlation_id, .. } => (None, correlation_id),
            FetchError::RateLimited { retry_after, correlation_id }
            | FetchError::Transient { retry_after, correlation_id, .. } => (retry_after, correlation_id),
            FetchError::Unusable(_) => (None, None),
        };
        assert_eq!(correlation.as_deref(), Some("corr-7"), "{status}");
        let told = match status {
            429 => Some(30),
            503 => Some(2),
            _ => None,
        };
        assert_eq!(wait, told.map(Duration::from_secs), "{status}");
    }
}

#[tokio::test]
async fn an_incomplete_document_sends_nothing() {
    let fake = Fake::start(|_| json(200, TOKEN)).await;
    let endpoint = GenesysEndpoint::new(client().0, fake.base());
    let refresh = SecretString::copied("MARKED-SECRET");
    for (text, field) in [
        ("{}", "client_id"),
        (r#"{"client_id":"a"}"#, "client_secret"),
        (r#"{"client_secret":"MARKED-SECRET"}"#, "client_id"),
        (r#"{"client_id":"a:b","client_secret":"MARKED-SECRET"}"#, "colon"),
    ] {
        for refresh in [None, Some(&refresh)] {
            let error = endpoint.fetch(&document(text), refresh).await.unwrap_err();
            assert_eq!(word(&error), "unusable");
            assert!(error.to_string().contains(field), "{error}");
        }
    }
    assert!(fake.seen().is_empty());
}
