//! Who vouches for callers' tokens: key sets and introspection against a scripted server, Genesys Cloud against the
//! sandbox.

mod genesys;
mod introspection;

use std::{sync::Arc, time::Duration};

use kh_core::port::{KeySource, RemoteError};
use kh_net::{Egress, Reach, Settings, SystemRoots};
use kh_platform::{
    HttpClient, PlainHttp, Timeouts,
    inbound::{KeysAt, RemoteKeys},
};

use crate::fake::{
    Fake, Identity, MARK, Reply, Seen, address, client, json, with, without_a_document, without_an_answer,
};

const KEYS: &str = r#"{"keys":[]}"#;

fn at_url(fake: &Fake, path: &str) -> RemoteKeys {
    let at = KeysAt::url(&format!("{}{path}", fake.url()), PlainHttp::LoopbackOnly).unwrap();
    RemoteKeys::new(client().0, at)
}

/// The reason, with a check that nothing secret is told.
fn told(error: &RemoteError) -> String {
    let told = format!("{error} {error:?}");
    assert!(!told.contains(MARK) && !told.contains("Basic ") && !told.contains("Bearer "), "{told}");
    error.reason.clone()
}

#[tokio::test]
async fn a_key_set_is_fetched_as_it_is_with_its_freshness() {
    let fake = Fake::start(|_| with(200, "Cache-Control: public, max-age=300\r\nAge: 100\r\n", KEYS)).await;
    let document = at_url(&fake, "/keys?p=1").fetch().await.unwrap();
    assert_eq!((document.bytes.as_slice(), document.fresh_for), (KEYS.as_bytes(), Some(Duration::from_secs(200))));
    let [request] = &fake.seen()[..] else { panic!("one request") };
    assert_eq!(request.line(), "GET /keys?p=1");
    assert_eq!(request.header("accept"), Some("application/jwk-set+json, application/json"));
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn what_is_no_key_set_is_an_error_after_one_request() {
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300 * 1024));
    let html = Reply::Raw(b"HTTP/1.1 200 X\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi".to_vec());
    let answers = [
        (with(302, "Location: http://169.254.169.254/latest/\r\n", ""), "answered 302"),
        (with(308, "Location: https://elsewhere.example/\r\n", ""), "answered 308"),
        (html, "answered 200 without a key set"),
        (json(404, "{}"), "answered 404"),
        (json(200, &large), "larger than"),
        (Reply::Endless, "larger than"),
        (Reply::Raw(b"nonsense".to_vec()), "broke off"),
    ];
    for (reply, expected) in answers {
        let fake = Fake::start(move |_| reply.clone()).await;
        let error = at_url(&fake, "/keys").fetch().await.unwrap_err();
        assert!(told(&error).contains(expected) && !error.passing, "{error:?}");
        assert_eq!(fake.seen().len(), 1, "no redirect is followed, nothing is tried again");
    }
    let fake = Fake::start(|_| with(503, "Retry-After: 7\r\n", "")).await;
    let error = at_url(&fake, "/keys").fetch().await.unwrap_err();
    assert!(error.retry_after == Some(Duration::from_secs(7)) && error.passing, "{error:?}");
}

#[tokio::test]
async fn who_is_out_of_reach_may_be_well_later() {
    for nobody in ["http://127.0.0.1:9/keys", "http://nobody.invalid/keys"] {
        let at = KeysAt::url(nobody, PlainHttp::Allowed).unwrap();
        let error = RemoteKeys::new(client().0, at).fetch().await.unwrap_err();
        assert!(error.passing, "{nobody}: {error:?}");
    }
}

/// A server that answers discovery at the paths in `serves` with the metadata that `of` makes of its own address.
async fn issuer(serves: &'static [&'static str], of: fn(&str) -> String) -> Fake {
    issuer_or(serves, of, json(404, "{}")).await
}

/// The same with `otherwise` at all other paths.
async fn issuer_or(serves: &'static [&'static str], of: fn(&str) -> String, otherwise: Reply) -> Fake {
    Fake::start(move |seen: &Seen| {
        let host = seen.header("host").unwrap();
        match seen.target.as_str() {
            "/keys" => json(200, KEYS),
            path if serves.contains(&path) => json(200, &of(&format!("http://{host}"))),
            _ => otherwise.clone(),
        }
    })
    .await
}

fn by_issuer(fake: &Fake, path: &str) -> RemoteKeys {
    RemoteKeys::new(client().0, KeysAt::Issuer(address(&format!("{}{path}", fake.url()))))
}

#[tokio::test]
async fn an_issuers_metadata_names_its_keys() {
    let good = |own: &str| format!(r#"{{"issuer":"{own}/t1","jwks_uri":"{own}/keys"}}"#);
    let (oauth, openid) = ("/.well-known/oauth-authorization-server/t1", "/t1/.well-known/openid-configuration");
    let fake = issuer(&["/.well-known/oauth-authorization-server/t1"], good).await;
    assert_eq!(by_issuer(&fake, "/t1").fetch().await.unwrap().bytes, KEYS.as_bytes());
    assert_eq!(fake.lines(), [format!("GET {oauth}"), "GET /keys".to_owned()]);
    let fake = issuer(&["/t1/.well-known/openid-configuration"], good).await;
    assert!(by_issuer(&fake, "/t1").fetch().await.is_ok());
    assert_eq!(fake.lines(), [format!("GET {oauth}"), format!("GET {openid}"), "GET /keys".to_owned()]);
}

#[tokio::test]
async fn openid_discovery_is_asked_where_there_is_no_document_of_rfc_8414_and_only_there() {
    let good = |own: &str| format!(r#"{{"issuer":"{own}/t1","jwks_uri":"{own}/keys"}}"#);
    let oauth = "GET /.well-known/oauth-authorization-server/t1";
    let openid: &[&str] = &["/t1/.well-known/openid-configuration"];
    for reply in without_a_document() {
        let fake = issuer_or(openid, good, reply.clone()).await;
        let fetched = by_issuer(&fake, "/t1").fetch().await;
        assert!(fetched.is_ok(), "{reply:?}: {fetched:?}");
        assert_eq!(fake.lines(), [oauth, "GET /t1/.well-known/openid-configuration", "GET /keys"], "{reply:?}");
    }
    for reply in without_an_answer() {
        let fake = issuer_or(openid, good, reply.clone()).await;
        let error = by_issuer(&fake, "/t1").fetch().await.unwrap_err();
        told(&error);
        assert_eq!(fake.lines(), [oauth], "{reply:?}: {error:?}");
    }
}

#[tokio::test]
async fn where_neither_address_has_metadata_that_is_told_which_says_more() {
    for (first, second, expected) in
        [(403, 404, "answered 403"), (404, 403, "answered 403"), (404, 404, "answered 404")]
    {
        let fake = Fake::start(move |seen| {
            let is_first = seen.line().contains("/.well-known/oauth-authorization-server");
            json(if is_first { first } else { second }, "{}")
        })
        .await;
        let error = by_issuer(&fake, "/t1").fetch().await.unwrap_err();
        assert!(told(&error).contains(expected), "{first} {second}: {error:?}");
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_or_with_keys_elsewhere_is_refused() {
    type Of = fn(&str) -> String;
    let wrong: [(Of, &str); 5] = [
        (|own| format!(r#"{{"issuer":"{own}/t2","jwks_uri":"{own}/keys"}}"#), "another issuer"),
        (|own| format!(r#"{{"jwks_uri":"{own}/keys"}}"#), "another issuer"),
        (|own| format!(r#"{{"issuer":"{own}/t1"}}"#), "has no jwks_uri"),
        (|own| format!(r#"{{"issuer":"{own}/t1","jwks_uri":"http://localhost:1/keys"}}"#), "plain http"),
        (|own| format!(r#"{{"issuer":"{own}/t1","jwks_uri":"file:///etc/passwd"}}"#), "refused"),
    ];
    for (of, expected) in wrong {
        let fake = issuer(&["/.well-known/oauth-authorization-server/t1"], of).await;
        let error = by_issuer(&fake, "/t1").fetch().await.unwrap_err();
        assert!(told(&error).contains(expected), "{error:?}");
        assert_eq!(fake.seen().len(), 1, "{expected}");
    }
}

/// Neither an address nor a name leads into the operator's own network.
#[tokio::test]
async fn private_addresses_are_refused_where_they_are_not_allowed() {
    let fake = Fake::start(|_| json(200, KEYS)).await;
    let settings = Settings { extra_ca: vec![Identity::new(|_| {}).ca_pem], ..Settings::default() };
    let egress = Egress::new(settings, &SystemRoots::load()).unwrap().with_reach(Reach::Public);
    let http = HttpClient::new(Arc::new(egress), Timeouts::default(), Arc::new(client().1));
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let at = KeysAt::url(&format!("http://{host}:{}/keys", fake.address.port()), PlainHttp::Allowed).unwrap();
        let error = RemoteKeys::new(http.clone(), at).fetch().await.unwrap_err();
        assert!(told(&error).contains("none of the public internet") && !error.passing, "{host}: {error:?}");
    }
    assert_eq!(fake.seen().len(), 0);
    assert!(at_url(&fake, "/keys").fetch().await.is_ok(), "and are reached where they are");
}
