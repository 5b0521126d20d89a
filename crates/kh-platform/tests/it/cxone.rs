//! CXone's two flows over the wire, and discovery that lies.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use kh_core::{
    ManualClock, SecretString,
    port::{FetchError, TokenEndpoint},
};
use kh_platform::{AllowedHosts, ClientAuth, CxoneEndpoint, CxoneLogin};

use crate::fake::{Fake, Reply, Seen, client, document, json, word};

const DOCUMENT: &str = r#"{"client_id":"app@x","client_secret":"MARKED-SECRET-c","access_key_id":"KEY====","access_key_secret":"MARKED-SECRET-k===="}"#;
const OPENID: &str = "GET /.well-known/openid-configuration";
const TENANT: &str = "GET /.well-known/cxone-configuration?tenantId=11eb0f3d-1";
const TOKEN: &str = "POST /auth/token";

fn jwt() -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", part(r#"{"alg":"RS256"}"#), part(r#"{"sub":"user:1","tenantId":"11eb0f3d-1"}"#))
}

fn token_body() -> String {
    let token = jwt();
    format!(
        r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600,"refresh_token":"MARKED-SECRET-r","id_token":"{token}","issued_token_type":"x"}}"#
    )
}

/// A tenant on one origin; `change` may replace any answer.
async fn platform(change: impl Fn(&Seen, &str) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    let own = Arc::new(Mutex::new(String::new()));
    let known = Arc::clone(&own);
    let fake = Fake::start(move |request| {
        let url = known.lock().unwrap().clone();
        if let Some(reply) = change(request, &url) {
            return reply;
        }
        match request.line().as_str() {
            OPENID => json(200, &format!(r#"{{"issuer":"{url}","token_endpoint":"{url}/auth/token"}}"#)),
            TENANT => json(
                200,
                &format!(r#"{{"api_endpoint":"{url}/api","auth_endpoint":"{url}/na1","tenantId":"11eb0f3d-1"}}"#),
            ),
            TOKEN => json(200, &token_body()),
            _ => json(404, ""),
        }
    })
    .await;
    *own.lock().unwrap() = fake.url();
    fake
}

fn global(fake: &Fake, client_auth: ClientAuth) -> (CxoneEndpoint, ManualClock) {
    let hosts = AllowedHosts::platform().and_origin(fake.base());
    let (http, clock) = client();
    (CxoneEndpoint::new(http, CxoneLogin::Global { issuer: fake.base(), hosts, client_auth }), clock)
}

#[tokio::test]
async fn the_global_flow() {
    let fake = platform(|_, _| None).await;
    let (endpoint, clock) = global(&fake, ClientAuth::Basic);
    let token = endpoint.fetch(&document(DOCUMENT), None).await.unwrap();
    assert_eq!(token.access_token.expose(), jwt());
    assert_eq!(token.api_base, Some(format!("{}/api", fake.url())));
    assert_eq!(token.auth_base, Some(format!("{}/na1", fake.url())));
    assert_eq!(fake.lines(), [OPENID, TOKEN, TENANT]);
    let request = &fake.seen()[1];
    assert_eq!(request.body, "grant_type=password&username=KEY%3D%3D%3D%3D&password=MARKED-SECRET-k%3D%3D%3D%3D");
    let basic = format!("Basic {}", STANDARD.encode("app@x:MARKED-SECRET-c"));
    assert_eq!(request.header("authorization"), Some(basic.as_str()));
    assert!(fake.seen().iter().all(|request| request.header("accept") == Some("application/json")));
    assert!(fake.seen()[2].header("authorization").is_none(), "discovery is asked without the token");

    let refresh = token.refresh_token.unwrap();
    endpoint.fetch(&document(DOCUMENT), Some(&refresh)).await.unwrap();
    assert_eq!(fake.lines()[3..], [TOKEN], "discovery is cached");
    assert_eq!(fake.seen()[3].body, "grant_type=refresh_token&refresh_token=MARKED-SECRET-r");
    clock.advance(Duration::from_hours(1));
    endpoint.fetch(&document(DOCUMENT), None).await.unwrap();
    assert_eq!(fake.lines()[4..], [OPENID, TOKEN, TENANT], "and renewed after an hour");
}

#[tokio::test]
async fn client_secret_post() {
    let fake = platform(|_, _| None).await;
    global(&fake, ClientAuth::Post).0.fetch(&document(DOCUMENT), None).await.unwrap();
    let request = &fake.seen()[1];
    assert!(request.header("authorization").is_none());
    assert!(request.body.ends_with("&client_id=app%40x&client_secret=MARKED-SECRET-c"), "{}", request.body);
}

#[tokio::test]
async fn discovery_may_fail_for_a_day() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let fake =
        platform(move |request, _| (is_down.load(Ordering::SeqCst) && request.method == "GET").then(|| json(503, "")))
            .await;
    let (endpoint, clock) = global(&fake, ClientAuth::Basic);
    endpoint.fetch(&document(DOCUMENT), None).await.unwrap();
    down.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_hours(23));
    let before = fake.seen().len();
    for _ in 0..2 {
        endpoint.fetch(&document(DOCUMENT), None).await.unwrap();
    }
    assert_eq!(fake.lines()[before..], [OPENID, TOKEN, TENANT, TOKEN], "it is left alone for a minute");
    clock.advance(Duration::from_hours(1));
    let before = fake.seen().len();
    let error = endpoint.fetch(&document(DOCUMENT), None).await.unwrap_err();
    assert_eq!(word(&error), "transient");
    assert_eq!(fake.lines()[before..], [OPENID], "no secret is sent to an issuer that cannot be confirmed");
}

#[tokio::test]
async fn lying_discovery_gets_neither_secret_nor_token() {
    let trap = Fake::start(|_| json(200, "{}")).await;
    let evil = trap.url();
    let cases: Vec<(&str, String, usize)> = vec![
        (OPENID, format!(r#"{{"issuer":"OWN","token_endpoint":"{evil}/auth/token"}}"#), 0),
        (OPENID, r#"{"issuer":"OWN","token_endpoint":"https://niceincontact.com.evil.example/t"}"#.to_owned(), 0),
        (OPENID, r#"{"issuer":"https://cxone.niceincontact.com","token_endpoint":"OWN/auth/token"}"#.to_owned(), 0),
        (OPENID, "<html>".to_owned(), 0),
        (TENANT, format!(r#"{{"api_endpoint":"{evil}","auth_endpoint":"OWN"}}"#), 1),
        (TENANT, format!(r#"{{"api_endpoint":"OWN","auth_endpoint":"{evil}"}}"#), 1),
        (TENANT, r#"{"api_endpoint":"OWN","auth_endpoint":"OWN","tenantId":"other"}"#.to_owned(), 1),
        (TENANT, r#"{"api_endpoint":"OWN"}"#.to_owned(), 1),
    ];
    for (line, body, logins) in cases {
        let lie = body.clone();
        let fake =
            platform(move |request, own| (request.line() == line).then(|| json(200, &lie.replace("OWN", own)))).await;
        let (endpoint, _) = global(&fake, ClientAuth::Basic);
        let error = endpoint.fetch(&document(DOCUMENT), None).await.unwrap_err();
        assert_eq!(word(&error), "transient", "{body}");
        let sent = fake.lines().iter().filter(|sent| *sent == TOKEN).count();
        assert_eq!(sent, logins, "{body}: {error}");
    }
    assert!(trap.seen().is_empty());
}

#[tokio::test]
async fn refusals_of_the_global_flow() {
    for (status, body, expected) in [
        (401, r#"{"error":"invalid_grant","errorDescription":"MARKED-SECRET is wrong"}"#, "rejected"),
        (400, r#"{"error":"invalid_client","errorDescription":"x"}"#, "rejected"),
        (429, "", "limited"),
        (500, "", "transient"),
        (200, r#"{"access_token":"opaque","token_type":"Bearer","expires_in":9}"#, "transient"),
    ] {
        let fake = platform(move |request, _| (request.line() == TOKEN).then(|| json(status, body))).await;
        let error = global(&fake, ClientAuth::Basic).0.fetch(&document(DOCUMENT), None).await.unwrap_err();
        assert_eq!(word(&error), expected, "{status} {error}");
        assert_eq!(fake.lines(), [OPENID, TOKEN]);
    }
}

#[tokio::test]
async fn the_regional_flow() {
    let fake = Fake::start(|request| match request.line().as_str() {
        "POST /authentication/v1/token/access-key" => json(200, &token_body()),
        "POST /public/user/refresh" => {
            json(200, r#"{"token":"b","refreshToken":"MARKED-SECRET-3","tokenExpirationTimeSec":1800,"refreshTokenExpirationTimeSec":7200}"#)
        }
        _ => json(404, ""),
    })
    .await;
    let endpoint = CxoneEndpoint::new(client().0, CxoneLogin::Regional { auth_base: fake.base() });
    let keys = document(r#"{"access_key_id":"KEY====","access_key_secret":"MARKED-SECRET\"===="}"#);
    let first = endpoint.fetch(&keys, None).await.unwrap();
    assert_eq!((first.api_base, first.expires_in), (None, Duration::from_hours(1)));
    let second = endpoint.fetch(&keys, Some(&first.refresh_token.unwrap())).await.unwrap();
    assert_eq!((second.access_token.expose(), second.expires_in), ("b", Duration::from_mins(30)));
    assert_eq!(second.refresh_token.unwrap().expose(), "MARKED-SECRET-3");
    let seen = fake.seen();
    assert_eq!(seen[0].body, r#"{"accessKeyId":"KEY====","accessKeySecret":"MARKED-SECRET\"===="}"#);
    assert_eq!(seen[1].body, r#"{"token":"MARKED-SECRET-r"}"#);
    assert!(seen.iter().all(|request| request.header("content-type") == Some("application/json")));
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn what_the_regional_host_refuses_of_a_refresh_is_the_refresh_token() {
    for body in ["{}", r#"{"error":"invalid_client"}"#, r#"{"error":"unauthorized_client"}"#] {
        let fake = Fake::start(move |_| json(401, body)).await;
        let endpoint = CxoneEndpoint::new(client().0, CxoneLogin::Regional { auth_base: fake.base() });
        let refresh = SecretString::copied("MARKED-SECRET-r");
        let error = endpoint.fetch(&document(DOCUMENT), Some(&refresh)).await.unwrap_err();
        assert_eq!(word(&error), "rejected");
        let FetchError::Rejected { platform_code, .. } = &error else { panic!("{error}") };
        assert_eq!(platform_code, "invalid_grant", "{body}");
        assert_eq!(fake.lines(), ["POST /public/user/refresh"]);
    }
}

#[tokio::test]
async fn an_empty_401_with_the_platforms_header_rejects() {
    let raw = "HTTP/1.1 401 X\r\nicStatusDescription: Invalid access key\r\nContent-Length: 0\r\n\r\n";
    let fake = Fake::start(move |_| Reply::Raw(raw.into())).await;
    let endpoint = CxoneEndpoint::new(client().0, CxoneLogin::Regional { auth_base: fake.base() });
    let error = endpoint.fetch(&document(DOCUMENT), None).await.unwrap_err();
    assert_eq!(word(&error), "rejected");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn incomplete_documents_send_nothing() {
    let fake = platform(|_, _| None).await;
    let (global, _) = global(&fake, ClientAuth::Basic);
    let regional = CxoneEndpoint::new(client().0, CxoneLogin::Regional { auth_base: fake.base() });
    let only_key = document(r#"{"access_key_id":"a","access_key_secret":"MARKED-SECRET"}"#);
    let only_client = document(r#"{"client_id":"a","client_secret":"MARKED-SECRET"}"#);
    for (endpoint, document) in [(&global, &only_key), (&global, &only_client), (&regional, &only_client)] {
        assert_eq!(word(&endpoint.fetch(document, None).await.unwrap_err()), "unusable");
    }
    assert!(fake.seen().is_empty());
    // with a refresh token the access key is not needed
    let refresh = SecretString::copied("MARKED-SECRET-r");
    global.fetch(&only_client, Some(&refresh)).await.unwrap();
}
