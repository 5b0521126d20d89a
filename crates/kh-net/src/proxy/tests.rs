//! What proxy rules are refused, and which way each address takes.

use super::*;

#[test]
fn addresses_of_proxies() {
    use RuleError::{NotAProxy, Scheme, TooLong, UserInfo};
    let long = format!("http://{}", "x".repeat(TEXT_MAX));
    for (text, expected) in [
        ("http://proxy.example:3128", Ok("proxy.example:3128")),
        ("HTTP://proxy.example:3128/", Ok("proxy.example:3128")),
        ("proxy.example:3128", Ok("proxy.example:3128")),
        ("http://proxy.example", Ok("proxy.example:80")),
        ("http://192.0.2.7:8080", Ok("192.0.2.7:8080")),
        ("http://[2001:db8::1]:3128", Ok("[2001:db8::1]:3128")),
        ("https://proxy.example:3128", Err(Scheme)),
        ("socks5://proxy.example:1080", Err(Scheme)),
        ("http://user:hunter2@proxy.example:3128", Err(UserInfo)),
        ("http://proxy.example:3128/path", Err(NotAProxy)),
        ("http://proxy.example:3128/?a=b", Err(NotAProxy)),
        ("http://proxy.example:70000", Err(NotAProxy)),
        ("http://proxy.example:", Err(NotAProxy)),
        ("http://", Err(NotAProxy)),
        ("", Err(NotAProxy)),
        ("http://a b", Err(NotAProxy)),
        (&long, Err(TooLong)),
    ] {
        let got = ProxyRules::new(text, "", None).map(|rules| {
            let (hop, auth) = rules.on_the_way("api.example.com", 443).unwrap();
            assert!(auth.is_none());
            hop.to_string()
        });
        assert_eq!(got, expected.map(str::to_owned), "{text}");
    }
}

#[test]
fn exceptions() {
    let no = "internal.example, .corp.example,192.0.2.0/24 ,2001:db8::/32,198.51.100.7";
    let rules = ProxyRules::new("http://proxy:3128", no, None).unwrap();
    for (host, through) in [
        ("api.mypurecloud.de", true),
        ("internal.example", false),
        ("api.internal.example", false),
        ("notinternal.example", true),
        ("login.corp.example", false),
        ("192.0.2.9", false),
        ("192.0.3.9", true),
        ("198.51.100.7", false),
        ("2001:db8::5", false),
        ("2001:db9::5", true),
    ] {
        assert_eq!(rules.on_the_way(host, 443).is_some(), through, "{host}");
    }
    let all = ProxyRules::new("http://proxy:3128", "*", None).unwrap();
    assert!(all.on_the_way("api.mypurecloud.de", 443).is_none());
    assert!(ProxyRules::none().on_the_way("api.mypurecloud.de", 443).is_none());
}

#[test]
fn user_names_and_passwords() {
    let with = |auth: &str| {
        let rules = ProxyRules::new("http://proxy:3128", "", Some(&SecretString::copied(auth)))?;
        let (_, header) = rules.on_the_way("h", 443).unwrap();
        assert!(header.unwrap().is_sensitive());
        assert!(!format!("{rules:?}").contains(auth));
        Ok::<_, RuleError>(header.unwrap().to_str().unwrap().to_owned())
    };
    assert_eq!(with("Aladdin:open sesame").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(with("user:").unwrap(), "Basic dXNlcjo=");
    for bad in ["user", ":password", "", "user:pass\nword", &format!("u:{}", "x".repeat(AUTH_MAX))] {
        assert_eq!(with(bad), Err(RuleError::Auth), "{bad}");
    }
}

#[test]
fn the_variable_may_hold_a_password() {
    let of = |text: &str| {
        let rules = ProxyRules::of_variable(&SecretString::copied(text), "")?;
        let (hop, header) = rules.on_the_way("h", 443).unwrap();
        Ok::<_, RuleError>(format!("{hop} {}", header.map_or("-", |value| value.to_str().unwrap())))
    };
    assert_eq!(of("http://proxy:3128").unwrap(), "proxy:3128 -");
    assert_eq!(of("http://Aladdin:open%20sesame@proxy:3128").unwrap(), "proxy:3128 Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(of("user@proxy:3128").unwrap(), "proxy:3128 Basic dXNlcjo=");
    assert_eq!(of("socks5://a:b@proxy:1"), Err(RuleError::Scheme));
}

#[test]
fn the_digest_follows_everything() {
    let digest = |proxy, no, auth: Option<&str>| {
        ProxyRules::new(proxy, no, auth.map(SecretString::copied).as_ref()).unwrap().digest()
    };
    let base = digest("http://p:1", "a", Some("u:p"));
    assert_eq!(base, digest("http://p:1", "a", Some("u:p")));
    for other in [
        digest("http://p:2", "a", Some("u:p")),
        digest("http://p:1", "b", Some("u:p")),
        digest("http://p:1", "a", Some("u:q")),
        digest("http://p:1", "a", None),
        ProxyRules::none().digest(),
    ] {
        assert_ne!(base, other);
    }
}
