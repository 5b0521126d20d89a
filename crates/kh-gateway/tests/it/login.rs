//! Logins and discovery.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kh_core::PlatformKind;

use crate::support::{Got, Setup, World};

async fn world() -> World {
    // nothing of this may reach a platform: the address is one that refuses
    Setup::new("127.0.0.1:1".parse().unwrap()).start().await
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

async fn post(world: &World, target: &str, authorization: Option<&str>, media: &str, body: String) -> Got {
    let mut request = Request::post(target).header("host", "keyholder.example:8443").header("content-type", media);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    world.send(request.body(Full::new(Bytes::from(body))).unwrap()).await
}

const FORM: &str = "application/x-www-form-urlencoded";
const GRANT: &str = "grant_type=client_credentials";

#[tokio::test]
async fn client_credentials_with_basic_or_body_under_any_prefix() {
    let world = world().await;
    let header = basic(&world.client_id, &world.client_secret);
    let in_body = format!("{GRANT}&client_id={}&client_secret={}", world.client_id, world.client_secret);
    for (target, authorization, body) in [
        ("/oauth/token", Some(header.as_str()), GRANT.to_owned()),
        ("/login/eu/oauth/token", Some(&header), GRANT.to_owned()),
        ("/oauth/token", None, in_body),
        ("/oauth/token", Some(&header), format!("{GRANT}&client_id={}&scope=x", world.client_id)),
    ] {
        let got = post(&world, target, authorization, &format!("{FORM}; charset=utf-8"), body).await;
        let json = got.json();
        assert_eq!(
            (got.status, json["token_type"].as_str(), json["expires_in"].as_u64()),
            (200, Some("bearer"), Some(86_400))
        );
        assert!(json["access_token"].as_str().unwrap().starts_with("kht_"));
        assert_eq!((got.header("cache-control"), got.header("pragma")), ("no-store", "no-cache"));
    }
}

#[tokio::test]
async fn refused_logins_say_why_and_repeat_nothing() {
    let world = world().await;
    let (id, secret) = (world.client_id.clone(), world.client_secret.clone());
    let good = basic(&id, &secret);
    let wrong = basic(&id, "khs_wrong-MARK");
    let unknown = basic("unknown-MARK", &secret);
    let both = format!("{GRANT}&client_id={id}&client_secret={secret}");
    let rows: Vec<(Option<&str>, &str, String, u16, &str)> = vec![
        (Some(&wrong), FORM, GRANT.into(), 401, "invalid_client"),
        (Some(&unknown), FORM, GRANT.into(), 401, "invalid_client"),
        (Some("Basic !!!MARK"), FORM, GRANT.into(), 401, "invalid_client"),
        (Some("Basic TUFSSw=="), FORM, GRANT.into(), 401, "invalid_client"),
        (Some("Bearer MARK"), FORM, GRANT.into(), 401, "invalid_client"),
        (None, FORM, GRANT.into(), 401, "invalid_client"),
        (Some(&good), FORM, both.clone(), 400, "invalid_request"),
        (Some(&good), FORM, format!("{GRANT}&client_id=MARK"), 400, "invalid_request"),
        (Some(&good), FORM, String::new(), 400, "invalid_request"),
        (Some(&good), FORM, format!("{GRANT}&{GRANT}"), 400, "invalid_request"),
        (Some(&good), FORM, "grant_type=%zzMARK".into(), 400, "invalid_request"),
        (Some(&good), FORM, "grant_type=password&username=MARK&password=MARK".into(), 400, "unsupported_grant_type"),
        (Some(&good), "application/json", "{\"MARK\":1}".into(), 400, "invalid_request"),
        (Some(&good), FORM, format!("{GRANT}&x={}", "MARK".repeat(10_000)), 413, "invalid_request"),
    ];
    for (authorization, media, body, status, error) in rows {
        let shown = body.chars().take(60).collect::<String>();
        let got = post(&world, "/oauth/token", authorization, media, body).await;
        let json = got.json();
        assert_eq!((got.status, json["error"].as_str()), (status, Some(error)), "{authorization:?} {shown}: {json}");
        assert!(json["error_description"].is_string() && json["description"] == json["error_description"]);
        assert!(!String::from_utf8_lossy(&got.body).contains("MARK") && !json.to_string().contains("khs_"), "{json}");
        assert_eq!(status == 401, got.header("www-authenticate").starts_with("Basic"));
    }
    let request = Request::get("/oauth/token").header("host", "x").body(Full::default()).unwrap();
    let got = world.send(request).await;
    assert_eq!((got.status, got.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_disabled_client_cannot_log_in() {
    let world = world().await;
    world.issuer.set_enabled(&world.client_id, false, "cli:test").await.unwrap();
    let header = basic(&world.client_id, &world.client_secret);
    let got = post(&world, "/oauth/token", Some(&header), FORM, GRANT.to_owned()).await;
    assert_eq!((got.status, got.json()["error"].as_str()), (401, Some("invalid_client")));
}

#[tokio::test]
async fn cxone_logins() {
    let mut setup = Setup::new("127.0.0.1:1".parse().unwrap());
    setup.kind = PlatformKind::Cxone;
    let world = setup.start().await;
    let (id, secret) = (&world.client_id, &world.client_secret);
    let password = |id: &str, secret: &str| format!("grant_type=password&username={id}&password={secret}");
    let good = basic(id, secret);
    let of_platform = basic("vendor-app", "vendor-secret");
    for (authorization, body) in [
        (None, password(id, secret)),
        (Some(of_platform.as_str()), password(id, secret)),
        (Some(good.as_str()), password("any", "any")),
    ] {
        let got = post(&world, "/auth/token", authorization, FORM, body).await;
        assert_eq!((got.status, got.json()["token_type"].as_str()), (200, Some("Bearer")), "{authorization:?}");
    }
    let got = post(&world, "/auth/token", Some(&good), FORM, GRANT.to_owned()).await;
    assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("unsupported_grant_type")));
    let got = post(&world, "/auth/token", Some(&of_platform), FORM, password(id, "wrong")).await;
    assert_eq!((got.status, got.json()["error"].as_str()), (401, Some("invalid_client")));
    assert!(got.json()["errorDescription"].is_string());

    let json = format!(r#"{{"accessKeyId":"{id}","accessKeySecret":"{secret}"}}"#);
    let target = "/authentication/v1/token/access-key";
    let got = post(&world, target, None, "application/json", json).await;
    assert!(got.status == 200 && got.json()["access_token"].as_str().unwrap().starts_with("kht_"));
    for body in ["", "{}", "[]", r#"{"accessKeyId":7,"accessKeySecret":"x"}"#] {
        let got = post(&world, target, None, "application/json", body.to_owned()).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("invalid_request")), "{body}");
    }
}

#[tokio::test]
async fn discovery_names_keyholder_everywhere() {
    let mut setup = Setup::new("127.0.0.1:1".parse().unwrap());
    setup.kind = PlatformKind::Cxone;
    let world = setup.start().await;
    let get = async |target: &str, host: &str| {
        let request = Request::get(target).header("host", host).body(Full::default()).unwrap();
        world.send(request).await
    };
    let got = get("/eu/.well-known/openid-configuration", "keyholder.example:8443").await;
    assert_eq!(got.json()["issuer"], "http://keyholder.example:8443/eu");
    assert_eq!(got.json()["token_endpoint"], "http://keyholder.example:8443/eu/auth/token");
    let tenant = "11111111-2222-3333-4444-555555555555";
    let target = format!("/.well-known/cxone-configuration?tenantId={tenant}");
    let configuration = get(&target, "keyholder.example:8443").await;
    assert_eq!(configuration.json()["tenantId"], tenant);
    for document in [got.json(), configuration.json()] {
        for (name, value) in document.as_object().unwrap() {
            if let Some(url) = value.as_str().filter(|text| text.contains("://")) {
                assert!(url.starts_with("http://keyholder.example:8443"), "{name}: {url}");
            }
        }
    }
    assert_eq!(configuration.json()["api_endpoint"], "http://keyholder.example:8443");
    assert_eq!(get("/auth/jwks", "h").await.json()["keys"], serde_json::json!([]));
    for host in ["a b", "user@host", "h/x", ""] {
        assert_eq!(get("/.well-known/openid-configuration", host).await.status, 400, "{host:?}");
    }
}

#[tokio::test]
async fn discovery_names_the_public_url_where_tls_ends_before_keyholder() {
    let mut setup = Setup::new("127.0.0.1:1".parse().unwrap());
    (setup.kind, setup.public_url) = (PlatformKind::Cxone, Some("https://keyholder.example:8443"));
    let world = setup.start().await;
    for target in ["/eu/.well-known/openid-configuration", "/.well-known/cxone-configuration"] {
        let request = Request::get(target).header("host", "10.0.0.7:8080").body(Full::default()).unwrap();
        let document = world.send(request).await.json();
        let urls = document.as_object().unwrap().values().filter_map(|value| value.as_str());
        let urls: Vec<_> = urls.filter(|text| text.contains("://")).collect();
        assert!(
            urls.len() >= 3 && urls.iter().all(|url| url.starts_with("https://keyholder.example:8443")),
            "{urls:?}"
        );
        assert!(!document.to_string().contains("10.0.0.7"), "{document}");
    }
}
