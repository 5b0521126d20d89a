//! Grants of users: what is sent, and whether a platform may have carried out what brought no token.

use std::sync::Arc;

use kh_core::{
    SecretString,
    port::{FetchError, Grant, GrantError, IssuedToken, TokenEndpoint},
};
use kh_platform::{CxoneEndpoint, CxoneLogin, GenesysEndpoint, OAuth2Endpoint, OAuth2Settings, OAuth2Source};

use crate::fake::{Fake, Reply, client, document, json, with, word};

const DOCUMENT: &str = r#"{"client_id":"cid","client_secret":"MARKED-SECRET_-43"}"#;
const TOKEN: &str = r#"{"access_token":"a","token_type":"bearer","expires_in":9,"refresh_token":"MARKED-SECRET-r"}"#;

fn endpoints(fake: &Fake) -> [Arc<dyn TokenEndpoint>; 2] {
    let settings = OAuth2Settings {
        source: OAuth2Source::TokenUrl(fake.base()),
        client_auth: None,
        scope: Some("never of a grant".to_owned()),
        audience: None,
        assumed_lifetime: None,
    };
    let genesys = GenesysEndpoint::new(client().0, fake.base());
    [Arc::new(genesys), Arc::new(OAuth2Endpoint::new(client().0, settings))]
}

async fn renew(endpoint: &dyn TokenEndpoint) -> Result<IssuedToken, GrantError> {
    let token = SecretString::copied("MARKED-SECRET-1");
    endpoint.grant(&document(DOCUMENT), Grant::Refresh(&token)).await
}

#[tokio::test]
async fn codes_and_refresh_tokens_are_sent_as_they_are() {
    let fake = Fake::start(|_| json(200, TOKEN)).await;
    for endpoint in endpoints(&fake) {
        let (code, verifier) = (SecretString::copied("c/1"), SecretString::copied("v~2"));
        let (full, bare) = (
            Grant::Code { code: &code, redirect_uri: Some("https://app.example/back"), verifier: Some(&verifier) },
            Grant::Code { code: &code, redirect_uri: None, verifier: None },
        );
        for grant in [full, bare] {
            let issued = endpoint.grant(&document(DOCUMENT), grant).await.unwrap();
            assert_eq!(issued.refresh_token.unwrap().expose(), "MARKED-SECRET-r");
        }
        renew(&*endpoint).await.unwrap();
    }
    let bodies: Vec<_> = fake.seen().into_iter().map(|request| request.body).collect();
    let expected = [
        "grant_type=authorization_code&code=c%2F1&redirect_uri=https%3A%2F%2Fapp.example%2Fback&code_verifier=v%7E2",
        "grant_type=authorization_code&code=c%2F1",
        "grant_type=refresh_token&refresh_token=MARKED-SECRET-1",
    ];
    assert_eq!(bodies, [expected, expected].concat());
    assert!(fake.seen().iter().all(|request| request.header("authorization").unwrap().starts_with("Basic ")));
}

#[tokio::test]
async fn what_brought_no_token_says_whether_it_may_be_done() {
    for (reply, expected, may_be_done) in [
        (json(400, r#"{"error":"invalid_grant"}"#), "rejected", false),
        (json(401, r#"{"error":"invalid_client"}"#), "rejected", false),
        (json(429, "{}"), "limited", false),
        (json(400, r#"{"error":"invalid_request","error_description":"rate limit exceeded"}"#), "limited", false),
        (json(404, "{}"), "transient", false),
        (with(302, "Location: https://x.example/\r\n", ""), "transient", false),
        (json(503, "{}"), "transient", false),
        (json(500, "{}"), "transient", true),
        (json(502, "{}"), "transient", true),
        (json(504, "{}"), "transient", true),
        (json(200, "{}"), "transient", true),
        (json(200, "not JSON"), "transient", true),
        (Reply::Raw(Vec::new()), "transient", true),
        (Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{".to_vec()), "transient", true),
    ] {
        let shown = format!("{reply:?}");
        let reply = std::sync::Mutex::new(reply);
        let fake = Fake::start(move |_| reply.lock().unwrap().clone()).await;
        for endpoint in endpoints(&fake) {
            let error = renew(&*endpoint).await.unwrap_err();
            assert_eq!((word(&error.cause), error.may_be_done), (expected, may_be_done), "{shown}");
        }
        assert_eq!(fake.seen().len(), 2, "asked once each: {shown}");
    }
}

#[tokio::test]
async fn what_was_never_sent_is_not_done() {
    let fake = Fake::start(|_| json(200, TOKEN)).await;
    for endpoint in endpoints(&fake) {
        let lacking = document(r#"{"client_id":"cid"}"#);
        let token = SecretString::copied("r");
        let error = endpoint.grant(&lacking, Grant::Refresh(&token)).await.unwrap_err();
        assert!(matches!(error.cause, FetchError::Unusable(_)) && !error.may_be_done);
    }
    assert!(fake.seen().is_empty());
    let nowhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}", nowhere.local_addr().unwrap());
    drop(nowhere);
    let error = renew(&GenesysEndpoint::new(client().0, crate::fake::address(&gone))).await.unwrap_err();
    assert!(matches!(error.cause, FetchError::Transient { .. }) && !error.may_be_done, "{error:?}");
    let cxone = CxoneEndpoint::new(client().0, CxoneLogin::Regional { auth_base: fake.base() });
    let error = renew(&cxone).await.unwrap_err();
    assert!(matches!(error.cause, FetchError::Unusable(_)) && !error.may_be_done, "no sessions there yet");
}

#[tokio::test]
async fn an_access_token_is_given_back_by_itself() {
    for (reply, expected) in [
        (json(200, ""), Some(true)),
        (json(204, ""), Some(true)),
        (json(401, r#"{"code":"bad.credentials"}"#), Some(true)),
        (json(500, "{}"), None),
        (json(429, "{}"), None),
    ] {
        let reply = std::sync::Mutex::new(reply);
        let fake = Fake::start(move |_| reply.lock().unwrap().clone()).await;
        let [genesys, oauth2] = endpoints(&fake);
        let token = SecretString::copied("MARKED-SECRET-1");
        let api = format!("{}/prefix/", fake.url());
        assert_eq!(genesys.give_back(&api, &token).await.ok(), expected);
        assert!(!oauth2.give_back(&api, &token).await.unwrap(), "it has no call for it");
        let [request] = &fake.seen()[..] else { panic!("one request") };
        assert_eq!(request.line(), "DELETE /prefix/api/v2/tokens/me");
        assert_eq!(request.header("authorization"), Some("Bearer MARKED-SECRET-1"));
    }
}
