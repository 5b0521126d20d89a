//! Discovery documents as tables: an address that may not receive a token never comes out.

use proptest::prelude::*;

use super::*;
use crate::cxone::parse_tenant_id;

fn issuer() -> Address {
    Address::parse("https://cxone.niceincontact.com", PlainHttp::LoopbackOnly).unwrap()
}

fn provider(named: &str, token_endpoint: &str) -> Result<Provider, DiscoveryError> {
    let body = serde_json::json!({"issuer": named, "token_endpoint": token_endpoint, "jwks_uri": "x"}).to_string();
    parse_provider(body.as_bytes(), &issuer(), &AllowedHosts::platform())
}

#[test]
fn providers() {
    use DiscoveryError::{HostNotAllowed, OtherIssuer};
    let own = "https://cxone.niceincontact.com";
    let token = "https://cxone.niceincontact.com/auth/token";
    assert_eq!(provider(own, token).unwrap().token_endpoint.text(), token);
    assert!(provider("https://cxone.niceincontact.com/", token).is_ok());
    assert!(provider(own, "https://na1.nice-incontact.com/auth/token").is_ok());
    assert_eq!(provider("https://cxone-gov.niceincontact.com", token), Err(OtherIssuer));
    assert_eq!(provider("https://cxone.niceincontact.com.evil.example", token), Err(OtherIssuer));
    assert_eq!(provider(own, "https://evil.example/auth/token"), Err(HostNotAllowed("token_endpoint")));
    assert_eq!(provider(own, "http://127.0.0.1/auth/token"), Err(HostNotAllowed("token_endpoint")));
    let plain = provider(own, "http://cxone.niceincontact.com/auth/token");
    assert!(matches!(plain, Err(DiscoveryError::Address { error: AddressError::PlainHttp, .. })));
    let missing =
        parse_provider(br#"{"issuer":"https://cxone.niceincontact.com"}"#, &issuer(), &AllowedHosts::platform());
    assert_eq!(missing, Err(DiscoveryError::Missing("token_endpoint")));
    assert!(matches!(
        parse_provider(b"<html>", &issuer(), &AllowedHosts::platform()),
        Err(DiscoveryError::Shape(AnswerError::NotJson { .. }))
    ));
}

fn tenant() -> TenantId {
    // {"tenantId":"t-1"}
    parse_tenant_id("e30.eyJ0ZW5hbnRJZCI6InQtMSJ9.c2ln").unwrap()
}

fn endpoints(body: &serde_json::Value) -> Result<Endpoints, DiscoveryError> {
    parse_endpoints(body.to_string().as_bytes(), &tenant(), &AllowedHosts::platform())
}

#[test]
fn tenants_endpoints() {
    use DiscoveryError::{HostNotAllowed, Missing, OtherTenant};
    let (api, auth) = ("https://api-na1.niceincontact.com", "https://na1.nice-incontact.com");
    let good = serde_json::json!({
        "private": false, "area": "na1", "cluster": "B32", "domain": "niceincontact.com",
        "auth_endpoint": auth, "api_endpoint": format!("{api}/"), "tenantId": "T-1"
    });
    let found = endpoints(&good).unwrap();
    assert_eq!((found.api.text(), found.auth.text()), (api, auth));
    let with = |field: &str, value: serde_json::Value| {
        let mut body = good.clone();
        body[field] = value;
        endpoints(&body)
    };
    assert_eq!(with("tenantId", "t-2".into()), Err(OtherTenant));
    assert_eq!(with("api_endpoint", serde_json::Value::Null), Err(Missing("api_endpoint")));
    assert_eq!(with("api_endpoint", "https://evil.example".into()), Err(HostNotAllowed("api_endpoint")));
    assert_eq!(
        with("auth_endpoint", "https://niceincontact.com.evil.example".into()),
        Err(HostNotAllowed("auth_endpoint"))
    );
    assert_eq!(with("api_endpoint", "http://127.0.0.1:1".into()), Err(HostNotAllowed("api_endpoint")));
    for (text, error) in [
        ("http://api-na1.niceincontact.com", AddressError::PlainHttp),
        ("https://u:p@api-na1.niceincontact.com", AddressError::UserInfo),
        ("https://api-na1.niceincontact.com/?x=1", AddressError::QueryOrFragment),
        ("//api-na1.niceincontact.com", AddressError::NotAUrl),
    ] {
        assert_eq!(
            with("api_endpoint", text.into()),
            Err(DiscoveryError::Address { field: "api_endpoint", error }),
            "{text}"
        );
    }
}

#[test]
fn regional_refresh_answers() {
    let parse = |body: &str| parse_refresh_answer(body.as_bytes());
    let good =
        parse(r#"{"token":"a","refreshToken":"r","tokenExpirationTimeSec":3600,"refreshTokenExpirationTimeSec":7200}"#)
            .unwrap();
    assert_eq!((good.access_token.expose(), good.expires_in.as_secs()), ("a", 3600));
    assert_eq!(good.refresh_token.unwrap().expose(), "r");
    for (body, expected) in [
        (r#"{"access_token":"a","token_type":"bearer","expires_in":9}"#, AnswerError::NoToken),
        (r#"{"token":"a"}"#, AnswerError::NoLifetime),
        (r#"{"token":"a","tokenExpirationTimeSec":0}"#, AnswerError::NoLife),
        (r#"{"token":"a","tokenExpirationTimeSec":1794999999}"#, AnswerError::NoLifetime),
        (r#"{"token":"a b","tokenExpirationTimeSec":9}"#, AnswerError::BadToken("token")),
        ("", AnswerError::Empty),
    ] {
        assert_eq!(parse(body).unwrap_err(), expected, "{body}");
    }
}

proptest! {
    #[test]
    fn no_host_outside_the_list_comes_out(host in "[a-z.@:/#?\\\\%0-9-]{0,40}") {
        let body = serde_json::json!({"api_endpoint": format!("https://{host}"), "auth_endpoint": "https://na1.nice-incontact.com"});
        if let Ok(found) = endpoints(&body) {
            let host = found.api.url().host_str().unwrap_or("");
            let inside = ["niceincontact.com", "nice-incontact.com", "nicecxone.com", "nicecxone-gov.com"]
                .iter()
                .any(|suffix| host == *suffix || host.ends_with(&format!(".{suffix}")));
            prop_assert!(inside, "{}", host);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(parse_provider(&body, &issuer(), &AllowedHosts::platform()));
        drop(parse_endpoints(&body, &tenant(), &AllowedHosts::platform()));
        drop(parse_refresh_answer(&body));
    }
}
