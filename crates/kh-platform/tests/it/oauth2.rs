//! Any RFC 6749 issuer over the wire: token URL, RFC 8414 metadata, OpenID discovery as second try.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kh_core::{
    SecretString,
    port::{Grant, TokenEndpoint},
};
use kh_platform::{ClientAuth, OAuth2Endpoint, OAuth2Settings, OAuth2Source};

use crate::fake::{Fake, Reply, address, client, document, json, without_a_document, without_an_answer, word};

const DOCUMENT: &str = r#"{"client_id":"c:id","client_secret":"MARKED-SECRET %+"}"#;
const TOKEN: &str = r#"{"access_token":"opaque-1","token_type":"Bearer","expires_in":600}"#;
const RFC8414: &str = "GET /.well-known/oauth-authorization-server/t1";
const OPENID: &str = "GET /t1/.well-known/openid-configuration";

fn settings(source: OAuth2Source) -> OAuth2Settings {
    OAuth2Settings { source, client_auth: None, scope: None, audience: None, assumed_lifetime: None }
}

/// An issuer at `/t1` that answers metadata at `path` with `more` members.
async fn issuer(path: &'static str, more: &'static str) -> Fake {
    issuer_or(path, more, json(404, "")).await
}

/// The same with `otherwise` at all other paths.
async fn issuer_or(path: &'static str, more: &'static str, otherwise: Reply) -> Fake {
    let own = Arc::new(Mutex::new(String::new()));
    let known = Arc::clone(&own);
    let fake = Fake::start(move |request| {
        let url = known.lock().unwrap().clone();
        match request.line().as_str() {
            line if line == path => {
                json(200, &format!(r#"{{"issuer":"{url}/t1","token_endpoint":"{url}/t1/token/"{more}}}"#))
            }
            "POST /t1/token/" => json(200, TOKEN),
            _ => otherwise.clone(),
        }
    })
    .await;
    *own.lock().unwrap() = fake.url();
    fake
}

#[tokio::test]
async fn a_token_url_with_scope_and_audience() {
    let fake = Fake::start(|_| json(200, TOKEN)).await;
    let source = OAuth2Source::TokenUrl(address(&format!("{}/token/", fake.url())));
    let settings = OAuth2Settings {
        scope: Some("a:read b".to_owned()),
        audience: Some("https://api.example/".to_owned()),
        ..settings(source)
    };
    let token = OAuth2Endpoint::new(client().0, settings).fetch(&document(DOCUMENT), None).await.unwrap();
    assert_eq!(token.expires_in, Duration::from_mins(10));
    let [request] = &fake.seen()[..] else { panic!("one request") };
    assert_eq!(request.line(), "POST /token/");
    assert_eq!(request.body, "grant_type=client_credentials&scope=a%3Aread+b&audience=https%3A%2F%2Fapi.example%2F");
    // RFC 6749 section 2.3.1: form-encoded, then base64
    let basic = format!("Basic {}", STANDARD.encode("c%3Aid:MARKED-SECRET+%25%2B"));
    assert_eq!(request.header("authorization"), Some(basic.as_str()));
}

#[tokio::test]
async fn metadata_is_found_and_cached() {
    for (path, lines) in [(RFC8414, vec![RFC8414]), (OPENID, vec![RFC8414, OPENID])] {
        let fake = issuer(path, "").await;
        let (http, clock) = client();
        let source = OAuth2Source::Issuer(address(&format!("{}/t1", fake.url())));
        let endpoint = OAuth2Endpoint::new(http, settings(source));
        endpoint.fetch(&document(DOCUMENT), None).await.unwrap();
        endpoint.fetch(&document(DOCUMENT), None).await.unwrap();
        let token = "POST /t1/token/";
        let expected: Vec<_> = lines.iter().copied().chain([token, token]).collect();
        assert_eq!(fake.lines(), expected);
        clock.advance(Duration::from_hours(1));
        endpoint.fetch(&document(DOCUMENT), None).await.unwrap();
        assert_eq!(fake.lines().len(), expected.len() + lines.len() + 1);
    }
}

#[tokio::test]
async fn openid_discovery_is_asked_where_there_is_no_document_of_rfc_8414_and_only_there() {
    let (http, _) = client();
    let endpoint = |fake: &Fake| {
        let source = OAuth2Source::Issuer(address(&format!("{}/t1", fake.url())));
        OAuth2Endpoint::new(http.clone(), settings(source))
    };
    for reply in without_a_document() {
        let fake = issuer_or(OPENID, "", reply.clone()).await;
        let fetched = endpoint(&fake).fetch(&document(DOCUMENT), None).await;
        assert!(fetched.is_ok(), "{reply:?}: {fetched:?}");
        assert_eq!(fake.lines(), [RFC8414, OPENID, "POST /t1/token/"], "{reply:?}");
    }
    for reply in without_an_answer() {
        let fake = issuer_or(OPENID, "", reply.clone()).await;
        let error = endpoint(&fake).fetch(&document(DOCUMENT), None).await.unwrap_err();
        assert_eq!(word(&error), "transient", "{reply:?}");
        assert_eq!(fake.lines(), [RFC8414], "{reply:?}");
    }
}

/// Whoever waits for a grant gives it up after 15 s, and must know by then that it was never sent.
#[tokio::test]
async fn metadata_that_hang_are_given_up_before_a_grant_is() {
    let fake = Fake::start(|request| match request.line().as_str() {
        RFC8414 => json(404, ""),
        OPENID => Reply::Hang,
        _ => json(200, TOKEN),
    })
    .await;
    let source = OAuth2Source::Issuer(address(&format!("{}/t1", fake.url())));
    let endpoint = OAuth2Endpoint::new(client().0, settings(source));
    let (document, refresh) = (document(DOCUMENT), SecretString::copied("MARKED-SECRET-1"));
    let granted = endpoint.grant(&document, Grant::Refresh(&refresh));
    let (granted, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(15), granted), async {
        fake.arrived(2).await;
        // From here on time runs only as fast as everybody waits.
        tokio::time::pause();
    });
    let error = granted.expect("it is given up in time").unwrap_err();
    assert_eq!((word(&error.cause), error.may_be_done), ("unreachable", false));
    assert!(error.cause.to_string().contains("the issuer's metadata"), "{error}");
    assert_eq!(fake.lines(), [RFC8414, OPENID]);
}

#[tokio::test]
async fn the_offered_client_authentication_is_used() {
    let fake = issuer(RFC8414, r#","token_endpoint_auth_methods_supported":["client_secret_post"]"#).await;
    let source = || OAuth2Source::Issuer(address(&format!("{}/t1", fake.url())));
    OAuth2Endpoint::new(client().0, settings(source())).fetch(&document(DOCUMENT), None).await.unwrap();
    let posted = &fake.seen()[1];
    assert!(posted.header("authorization").is_none());
    assert_eq!(posted.body, "grant_type=client_credentials&client_id=c%3Aid&client_secret=MARKED-SECRET+%25%2B");
    let forced = OAuth2Settings { client_auth: Some(ClientAuth::Basic), ..settings(source()) };
    OAuth2Endpoint::new(client().0, forced).fetch(&document(DOCUMENT), None).await.unwrap();
    assert!(fake.seen()[3].header("authorization").is_some());
}

#[tokio::test]
async fn a_foreign_issuer_gets_no_secret() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "GET" => json(200, r#"{"issuer":"https://other.example","token_endpoint":"https://other.example/token"}"#),
        _ => json(200, TOKEN),
    })
    .await;
    let source = OAuth2Source::Issuer(fake.base());
    let error = OAuth2Endpoint::new(client().0, settings(source)).fetch(&document(DOCUMENT), None).await.unwrap_err();
    assert_eq!(word(&error), "transient");
    assert!(error.to_string().contains("another issuer"), "{error}");
    assert_eq!(fake.lines(), ["GET /.well-known/oauth-authorization-server"]);
}

#[tokio::test]
async fn a_missing_life_is_assumed_or_refused() {
    let fake = Fake::start(|_| json(200, r#"{"access_token":"a","token_type":"bearer"}"#)).await;
    let source = || OAuth2Source::TokenUrl(fake.base());
    let error = OAuth2Endpoint::new(client().0, settings(source())).fetch(&document(DOCUMENT), None).await.unwrap_err();
    assert_eq!(word(&error), "transient");
    let assumed = OAuth2Settings { assumed_lifetime: Some(Duration::from_mins(5)), ..settings(source()) };
    let token = OAuth2Endpoint::new(client().0, assumed).fetch(&document(DOCUMENT), None).await.unwrap();
    assert_eq!(token.expires_in, Duration::from_mins(5));
}
