//! What is told of a caller, and what a caller cannot tell in its place.

use std::sync::Arc;

use super::*;

fn site() -> IdentityHeaders {
    let header = |name, tells| IdentityHeader { name: HeaderName::from_static(name), tells };
    IdentityHeaders::new(vec![
        header("x-user", IdentityField::Subject),
        header("x-client", IdentityField::Client),
        header("x-scopes", IdentityField::Scopes),
        header("x-roles", IdentityField::Claim("roles".into())),
    ])
    .unwrap()
}

fn sent(names: &[&str]) -> HeaderMap {
    names
        .iter()
        .map(|name| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("forged")))
        .collect()
}

#[test]
fn no_spelling_of_a_kept_name_passes() {
    for name in [
        "X-User",
        "x_user",
        "X_USER",
        "x.user",
        "X-uSER",
        "x~user",
        "x!user",
        "x^user",
        "x|user",
        "x_scopes",
        "X_Client",
        "x_forwarded_for",
        "x_forwarded_user",
        "X-Forwarded_Groups",
        "x.forwarded.client.cert",
        "client_cert",
        "Client_Cert_Chain",
        "X_Real_IP",
        "true_client_ip",
        "content_length",
        "transfer_encoding",
        "Host_Name_",
        "authoriza_tion",
        "proxy_authorization",
        "x_http_method_override",
        "x_original_url",
    ] {
        let mut headers = sent(&[name, "accept", "x_other", "x.trace"]);
        site().strip(&mut headers);
        let passed = headers.contains_key(name);
        // two of the names are no spelling of anything
        assert_eq!(passed, ["Host_Name_", "authoriza_tion"].contains(&name), "{name}");
        assert!(["accept", "x_other", "x.trace"].iter().all(|name| headers.contains_key(*name)), "{headers:?}");
    }
}

#[test]
fn headers_with_a_meaning_of_their_own_tell_no_identity() {
    for name in ["authorization", "host", "content-length", "x-forwarded-for", "x_real_ip", "via"] {
        let header = IdentityHeader { name: HeaderName::from_static(name), tells: IdentityField::Subject };
        assert!(matches!(IdentityHeaders::new(vec![header]), Err(ApiError::Header(_))), "{name}");
    }
    // a caller's is removed before, in any spelling, and many servers ask for it
    assert!(may_tell(&HeaderName::from_static("x-forwarded-user")));
}

#[test]
fn what_is_told() {
    let identity = |subject: &str| {
        let builder = Identity::builder(Arc::from("https://issuer.example"));
        builder.subject(subject).client("c1").scope("a").scope("b").build().unwrap()
    };
    let mut headers = HeaderMap::new();
    site().values(&identity("alice smith")).unwrap().tell(&mut headers);
    let told = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(told("x-user"), Some("alice smith"));
    assert_eq!((told("x-client"), told("x-scopes"), told("x-roles")), (Some("c1"), Some("a b"), None));
    for unfit in ["a\nx-roles: admin", "a\r", "a\0", " admin", "admin ", "j\u{f6}rg", "a\u{202e}b", "a\tb", "\u{7f}"] {
        assert_eq!(site().values(&identity(unfit)).err(), Some(Unfit), "{unfit:?}");
    }
    assert_eq!(joined(["a,b"].into_iter(), ','), Err(Unfit));
    assert_eq!(joined(["a", ""].into_iter(), ','), Err(Unfit));
    assert_eq!(joined(["a", "b"].into_iter(), ',').unwrap().as_deref(), Some("a,b"));
}

#[test]
fn what_stands_in_an_identity_is_told_without_a_copy() {
    use IdentityField::{Claim, Client, Issuer, Permissions, Scopes, Subject, TokenId};
    let identity = Identity::builder(Arc::from("https://issuer.example")).subject("alice").client("c1").token_id("t1");
    let identity = identity.scope("a").scope("b").claim_text("tenant", "acme").claim_number("level", -7);
    let identity = identity.claim_bool("staff", true).claim_list("roles", ["x", "y"]).build().unwrap();
    let claim = |name: &str| Claim(name.into());
    for (field, expected, borrowed) in [
        (Subject, Some("alice"), true),
        (Client, Some("c1"), true),
        (Issuer, Some("https://issuer.example"), true),
        (TokenId, Some("t1"), true),
        (claim("tenant"), Some("acme"), true),
        (claim("staff"), Some("true"), true),
        (Scopes, Some("a b"), false),
        (Permissions, None, false),
        (claim("level"), Some("-7"), false),
        (claim("roles"), Some("x,y"), false),
        (claim("other"), None, false),
    ] {
        let told = field.of(&identity).unwrap();
        assert_eq!((told.as_deref(), matches!(told, Some(Cow::Borrowed(_)))), (expected, borrowed), "{field:?}");
    }
}

/// The body of the fuzz target, on 100,000 names made of the letters of kept names and of all that servers exchange.
#[test]
fn a_hundred_thousand_names() {
    let parts = ["x", "user", "forwarded", "for", "content", "length", "host", "real", "ip", "authorization", "client"];
    let between = ["-", "_", ".", "~", "!", "", "--", "^", "|", "`", "'", "*", "+", "#", "$", "%", "&"];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |of: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % of as u64).unwrap()
    };
    let site = site();
    let mut stripped = 0;
    for _ in 0..100 {
        let batch: Vec<HeaderName> = (0..1_000)
            .map(|_| {
                let mut name = String::new();
                for at in 0..=next(3) {
                    if at > 0 {
                        name.push_str(between[next(between.len())]);
                    }
                    name.push_str(parts[next(parts.len())]);
                }
                HeaderName::from_bytes(name.as_bytes()).unwrap()
            })
            .collect();
        assert_eq!(kept_names_that_pass(&batch), Vec::<HeaderName>::new());
        stripped += batch.iter().filter(|name| is_odd(name) && site.is_kept(name)).count();
    }
    assert!(stripped > 100, "the interesting names came up: {stripped}");
}
