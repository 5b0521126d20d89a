//! The refusals as tables.

use axum::http::HeaderName;

use super::*;

fn map(list: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn get(target: &str, list: &[(&str, &str)]) -> Result<(), Refusal> {
    check(&Method::GET, &target.parse().unwrap(), &map(list), HostRule::Loopback, MethodRule::Answered)
}

#[test]
fn hosts() {
    for good in ["localhost", "LocalHost:1", "127.0.0.1", "127.0.0.1:65535", "127.9.9.9:80", "[::1]", "[::1]:8080"] {
        assert_eq!(get("/", &[("host", good)]), Ok(()), "{good}");
    }
    for foreign in [
        "example.com",
        "localhost.example.com:80",
        "127.0.0.1.example.com",
        "localhost.",
        "0.0.0.0",
        "10.0.0.1:80",
        "[::ffff:127.0.0.1]",
        "[::2]:80",
        "0177.0.0.1",
        "2130706433",
        "127.1",
    ] {
        assert_eq!(get("/", &[("host", foreign)]), Err(Refusal::ForeignHost), "{foreign}");
        assert_eq!(
            check(&Method::GET, &"/".parse().unwrap(), &map(&[("host", foreign)]), HostRule::Any, MethodRule::Answered),
            Ok(()),
            "{foreign}"
        );
    }
    for bad in [
        "",
        ":80",
        "localhost:",
        "localhost:99999",
        "localhost:+80",
        "localhost:80:80",
        "[::1",
        "[::1]x",
        "a b",
        "u@localhost",
        "localhost/x",
    ] {
        let result = get("/", &[("host", bad)]);
        // "localhost:" names an empty port, which RFC 3986 allows; it is refused all the same
        assert_eq!(result, Err(Refusal::Host), "{bad}");
    }
    assert_eq!(get("/", &[]), Err(Refusal::Host));
    assert_eq!(get("/", &[("host", "localhost"), ("host", "localhost")]), Err(Refusal::Host));
}

#[test]
fn everything_a_proxy_or_a_browser_adds() {
    for name in
        ["x-forwarded-for", "x-forwarded-host", "x-forwarded", "forwarded", "via", "x-real-ip", "proxy-connection"]
    {
        assert_eq!(get("/", &[("host", "localhost"), (name, "x")]), Err(Refusal::Forwarded(name.to_owned())));
    }
    for name in ["origin", "referer", "cookie", "sec-fetch-site", "sec-ch-ua", "access-control-request-method"] {
        assert_eq!(get("/", &[("host", "localhost"), (name, "")]), Err(Refusal::Browser(name.to_owned())));
    }
    for name in OVERRIDES {
        assert_eq!(get("/", &[("host", "localhost"), (name, "x")]), Err(Refusal::Override(name.to_owned())));
    }
    assert_eq!(get("/", &[("host", "localhost"), ("upgrade", "h2c")]), Ok(()), "an offer that is not taken up");
    for wanted in ["websocket", "h2c, websocket", "TLS/1.0", ""] {
        assert_eq!(get("/", &[("host", "localhost"), ("upgrade", wanted)]), Err(Refusal::Upgrade), "{wanted}");
    }
}

#[test]
fn methods_and_targets() {
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "GETX"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let with = |methods| {
            check(&method, &"/".parse().unwrap(), &map(&[("host", "localhost")]), HostRule::Loopback, methods)
        };
        assert_eq!(with(MethodRule::Answered), Err(Refusal::Method), "{method}");
        let tunnel_or_echo = ["CONNECT", "TRACE"].contains(&method.as_str());
        let expected = if tunnel_or_echo { Err(Refusal::Unforwarded) } else { Ok(()) };
        assert_eq!(with(MethodRule::Forwarded), expected, "{method}");
    }
    for target in ["http://127.0.0.1/v1/token/a", "http://evil.example/", "127.0.0.1:80", "*"] {
        assert_eq!(get(target, &[("host", "127.0.0.1")]), Err(Refusal::Target), "{target}");
    }
}
