//! Orders of revocation: what they name, and what of them holds.

use kh_core::{Fingerprinter, SystemEntropy, issued::issue};

use super::*;

const NOW: UnixMillis = UnixMillis(1_790_000_000_500);
const LIFE: Option<Duration> = Some(Duration::from_hours(1));

fn jwt(claims: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"ES256"}"#), part(claims), part("no signature that anybody looks at"))
}

fn of_token(token: &str) -> Result<Vec<RevocationRecord>, OrderError> {
    RevocationOrder::Token(SecretString::copied(token)).records(NOW, LIFE)
}

fn kinds(token: &str) -> String {
    of_token(token).unwrap().iter().map(|record| record.target.kind()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_token_is_revoked_by_everything_that_names_it() {
    for (claims, expected) in [
        (r#"{"iss":"i","jti":"1","sub":"s","iat":5}"#, "token signed token_id"),
        (r#"{"iss":"i","sub":"s","iat":5}"#, "token signed issued"),
        (r#"{"iss":"i","sub":"s"}"#, "token signed"),
        (r#"{"jti":"1","sub":"s","iat":5}"#, "token signed"),
        (r#"{"iss":"i","jti":7,"sub":"s","iat":5}"#, "token signed issued"),
        (r#"{"iss":"i","jti":"1","jti":"2"}"#, "token signed"),
        ("no claims", "token signed"),
    ] {
        assert_eq!(kinds(&jwt(claims)), expected, "{claims}");
    }
    assert_eq!(kinds("an-opaque-token"), "token");
    assert_eq!(kinds(issue(IssuedKind::Token, &SystemEntropy).expose()), "token");
    let records = of_token(&jwt(r#"{"iss":"i","sub":"s","iat":5.25,"azp":"c"}"#)).unwrap();
    let issued = records.last().unwrap();
    let at = UnixMillis(5_250);
    assert_eq!(issued.target, RevocationTarget::Issued { issuer: "i".to_owned(), subject: "s".to_owned(), at });
    let whose = (issued.issuer.as_deref(), issued.client.as_deref(), issued.subject.as_deref());
    assert_eq!(whose, (Some("i"), Some("c"), Some("s")), "so that it can be widened where there is no room");
}

#[test]
fn no_token_is_told_from_one() {
    for bad in ["", " ", "a b", "a\n", "tök", &"x".repeat(TOKEN_MAX + 1)] {
        assert_eq!(of_token(bad), Err(OrderError::NoToken), "{bad:?}");
    }
    assert!(of_token(&"x".repeat(TOKEN_MAX)).is_ok());
}

/// Revoking a token that lost its end in pasting would leave the whole one good.
#[test]
fn what_keyholder_issues_is_taken_only_as_a_whole_token() {
    let own = issue(IssuedKind::Token, &SystemEntropy);
    let own = own.expose();
    let cut = own.get(..own.len() - 2).unwrap();
    for damaged in [cut, &format!("{own}x"), "kht_", "kht_an-opaque-token"] {
        assert_eq!(of_token(damaged), Err(OrderError::Damaged), "{damaged}");
    }
    for kind in [IssuedKind::ClientSecret, IssuedKind::Guard] {
        let secret = issue(kind, &SystemEntropy);
        for text in [secret.expose(), kind.prefix()] {
            assert_eq!(of_token(text), Err(OrderError::OtherSecret), "{text}");
        }
    }
    for (token, foreign) in [(own, false), (jwt("{}").as_str(), false), ("an-opaque-token", true), ("foo", true)] {
        assert!(of_token(token).is_ok(), "{token}");
        let order = RevocationOrder::Token(SecretString::copied(token));
        assert_eq!(order.is_foreign_opaque(), foreign, "{token}");
    }
}

/// A token can say that it ends at once; what hits it stays as long as a token may live.
#[test]
fn the_end_that_a_token_names_shortens_nothing() {
    let end = |claims: &str| of_token(&jwt(claims)).unwrap().first().unwrap().expires_at;
    assert!(end(r#"{"exp":1}"#) >= NOW.plus(Duration::from_hours(1)));
    let later = NOW.plus(Duration::from_hours(5));
    assert!(end(&format!(r#"{{"exp":{}}}"#, later.as_secs() + 1)) > later);
    let forever = RevocationOrder::Token(SecretString::copied("opaque")).records(NOW, None).unwrap();
    assert!(forever.iter().all(|record| record.expires_at == RevocationRecord::FOR_EVER));
}

#[test]
fn what_is_yet_to_be_issued_is_out_of_reach() {
    let everything = |before| RevocationOrder::Of(RevocationTarget::Everything { issuer: None }, before);
    assert_eq!(everything(UnixMillis(NOW.0 + 1)).records(NOW, LIFE), Err(OrderError::Future));
    let records = everything(NOW).records(NOW, LIFE).unwrap();
    assert_eq!((records.len(), records.first().unwrap().before), (1, NOW));
    let issued = |at| {
        let target = RevocationTarget::Issued { issuer: "i".to_owned(), subject: "s".to_owned(), at };
        RevocationOrder::Of(target, NOW).records(NOW, LIFE)
    };
    let last = NOW.plus(LEEWAY_MAX);
    assert!(issued(last).is_ok(), "an issuer's clock may be ahead");
    assert_eq!(issued(UnixMillis(last.0 + 1)), Err(OrderError::Future));
    assert_eq!(issued(UnixMillis(NOW.0 * 1000)), Err(OrderError::Future), "not in milliseconds");
    for client in [String::new(), "x".repeat(PART_MAX + 1)] {
        let target = RevocationTarget::Client { issuer: None, client };
        assert_eq!(RevocationOrder::Of(target, NOW).records(NOW, LIFE), Err(OrderError::Target(BadTarget)));
    }
}

#[test]
fn reasons_forge_no_line() {
    for bad in ["a\nb", "\u{1b}[2J", &"x".repeat(REASON_MAX + 1)] {
        assert_eq!(checked_reason(bad), Err(OrderError::Reason));
    }
    assert_eq!(checked_reason("laptop lost, ticket 4711"), Ok("laptop lost, ticket 4711"));
}

#[test]
fn the_audit_log_is_told_a_fingerprint_and_no_token() {
    let event = || AuditEvent::new(&SystemEntropy, NOW, "cli:ann", "revocation.add", "x");
    let prints = Fingerprinter::new(b"k");
    let token = jwt(r#"{"iss":"i","jti":"MARKED"}"#);
    let told = RevocationOrder::Token(SecretString::copied(&token)).told(event(), |bytes| prints.fingerprint(bytes));
    let text = serde_json::to_string(&told).unwrap();
    assert!(text.contains("token_fingerprint") && !text.contains(&token) && !text.contains("MARKED"), "{text}");
    let target = RevocationTarget::Client { issuer: Some("i".to_owned()), client: "c".to_owned() };
    let told = RevocationOrder::Of(target, NOW).told(event(), |_| unreachable!("there is no token"));
    let detail: Vec<_> = told.detail.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(detail.join(" "), format!("kind=client issuer=i client=c before={}", NOW.0));
}
