//! Claims against policies: each line is a claim, and what it does.

use std::time::Duration;

use kh_core::{ClaimValue, Confirmation, UnixMillis, identity::WORD_MAX};
use kh_verify::{
    Accepted, Algorithm, Policy, Profile, Reason,
    binding::check_certificate,
    claims::{AUDIENCES_MAX, NUMERIC_DATE_MAX, SCOPES_MAX},
    policy::LEEWAY_MAX,
};
use serde_json::{Value, json};

use crate::support::*;

fn said(claims: &Value, policy: &Policy) -> &'static str {
    outcome_of(claims, policy).map_or_else(Reason::as_str, |_| "taken")
}

/// Each of these claims, in good ones, by the usual policy.
fn check(rows: &[(Value, &str)]) {
    for (claims, outcome) in rows {
        assert_eq!(said(&claims_with(claims.clone()), &policy()), *outcome, "{claims}");
    }
}

const NOW_SECS: u64 = 1_800_000_000;

#[test]
fn expiry() {
    check(&[
        (json!({ "exp": NOW_SECS + 1 }), "taken"),
        (json!({ "exp": NOW_SECS - 29 }), "taken"),
        (json!({ "exp": NOW_SECS - 30 }), "expired"),
        (json!({ "exp": 0 }), "expired"),
        (json!({ "exp": null }), "expiry_missing"),
        (json!({ "exp": NUMERIC_DATE_MAX }), "taken"),
    ]);
    let none = policy().without_expiry();
    assert_eq!(said(&claims_with(json!({ "exp": null })), &none), "taken");
    assert_eq!(said(&claims_with(json!({ "exp": NOW_SECS - 30 })), &none), "expired", "one that is there counts");
    let strict = policy().with_leeway(Duration::ZERO);
    assert_eq!(said(&claims_with(json!({ "exp": NOW_SECS })), &strict), "expired");
    let identity = outcome_of(&claims_with(json!({ "exp": NOW_SECS + 300 })), &policy()).unwrap();
    assert_eq!(identity.expires_at(), Some(UnixMillis((NOW_SECS + 300) * 1000)), "without the leeway");
    // no configuration can make the leeway a second life
    let lax = policy().with_leeway(Duration::from_hours(24));
    assert_eq!(lax.leeway(), LEEWAY_MAX);
    assert_eq!(said(&claims_with(json!({ "exp": NOW_SECS - 301 })), &lax), "expired");
}

#[test]
fn start_and_issue() {
    check(&[
        (json!({ "nbf": NOW_SECS + 30 }), "taken"),
        (json!({ "nbf": NOW_SECS + 31 }), "not_yet_valid"),
        (json!({ "nbf": NUMERIC_DATE_MAX }), "not_yet_valid"),
        (json!({ "nbf": null, "iat": null }), "taken"),
        (json!({ "iat": NOW_SECS + 30 }), "taken"),
        (json!({ "iat": NOW_SECS + 31 }), "issued_in_future"),
        (json!({ "iat": 0 }), "taken"),
    ]);
    let young = policy().with_age_max(Duration::from_mins(10));
    for (iat, outcome) in [
        (json!(NOW_SECS - 630), "taken"),
        (json!(NOW_SECS - 631), "too_old"),
        (json!(0), "too_old"),
        (json!(null), "issued_at_missing"),
    ] {
        assert_eq!(said(&claims_with(json!({ "iat": iat })), &young), outcome, "{iat}");
    }
}

#[test]
fn numbers_that_are_no_time() {
    for name in ["exp", "nbf", "iat"] {
        for number in [
            "-1",
            "-0.5",
            "1e309",
            "1e300",
            "253402300800",
            "1800000300000",
            "18446744073709551616",
            "\"1800000300\"",
            "true",
            "[1800000300]",
            "{}",
            "-1800000300",
            "9223372036854775807",
        ] {
            let payload = claims_with(json!({ name: "here" })).to_string().replace("\"here\"", number);
            let outcome = outcome(&header(Algorithm::Rs256).to_string(), &payload).unwrap_err();
            assert_eq!(outcome, Reason::ClaimsInvalid, "{name} {number}");
        }
    }
}

#[test]
fn fractions_of_a_second_count_against_the_token() {
    let identity = outcome_of(
        &claims_with(json!({ "exp": 1_800_000_300.000_9, "nbf": 1_799_999_999.000_1, "iat": 1.5e9 })),
        &policy(),
    );
    let identity = identity.unwrap();
    assert_eq!(identity.expires_at(), Some(UnixMillis(1_800_000_300_000)));
    assert_eq!(identity.not_before(), Some(UnixMillis(1_799_999_999_001)));
    assert_eq!(identity.issued_at(), Some(UnixMillis(1_500_000_000_000)));
    let strict = policy().with_leeway(Duration::ZERO);
    assert_eq!(said(&claims_with(json!({ "exp": 1_800_000_000.000_5 })), &strict), "expired");
    assert_eq!(said(&claims_with(json!({ "exp": 1_800_000_000.002 })), &strict), "taken");
    assert_eq!(said(&claims_with(json!({ "nbf": 1_800_000_000.000_5 })), &strict), "not_yet_valid");
}

#[test]
fn issuers() {
    check(&[
        (json!({ "iss": null }), "issuer_missing"),
        (json!({ "iss": "" }), "issuer_refused"),
        (json!({ "iss": "https://login.example.com" }), "issuer_refused"),
        (json!({ "iss": "https://login.example.com//" }), "issuer_refused"),
        (json!({ "iss": "https://LOGIN.example.com/" }), "issuer_refused"),
        (json!({ "iss": "https://login.example.com/ " }), "issuer_refused"),
        (json!({ "iss": [ISSUER] }), "claims_invalid"),
        (json!({ "iss": 1 }), "claims_invalid"),
    ]);
    let two = Policy::new(Accepted::OneOf(vec!["other".into(), ISSUER.into()]), Accepted::Any);
    assert_eq!(said(&claims(), &two), "taken");
    assert_eq!(&**outcome_of(&claims_with(json!({ "iss": "other" })), &two).unwrap().issuer(), "other");
    let any = Policy::new(Accepted::Any, Accepted::Any);
    assert_eq!(&**outcome_of(&claims_with(json!({ "iss": null })), &any).unwrap().issuer(), "");
    assert_eq!(said(&claims(), &Policy::new(Accepted::OneOf(Vec::new()), Accepted::Any)), "issuer_refused");
}

#[test]
fn audiences() {
    let many: Vec<String> = (0..=AUDIENCES_MAX).map(|at| format!("a{at}")).collect();
    check(&[
        (json!({ "aud": [AUDIENCE] }), "taken"),
        (json!({ "aud": ["x", AUDIENCE] }), "taken"),
        (json!({ "aud": null }), "audience_missing"),
        (json!({ "aud": [] }), "audience_missing"),
        (json!({ "aud": "https://api.example.com/" }), "audience_refused"),
        (json!({ "aud": "https://api.example.co" }), "audience_refused"),
        (json!({ "aud": format!("{AUDIENCE} x") }), "audience_refused"),
        (json!({ "aud": ["x"] }), "audience_refused"),
        (json!({ "aud": [AUDIENCE, 1] }), "claims_invalid"),
        (json!({ "aud": { AUDIENCE: 1 } }), "claims_invalid"),
        (json!({ "aud": 1 }), "claims_invalid"),
        (json!({ "aud": many }), "claims_invalid"),
    ]);
    let any = Policy::new(Accepted::only(ISSUER), Accepted::Any);
    let identity = outcome_of(&claims_with(json!({ "aud": ["x", "y"] })), &any).unwrap();
    assert_eq!(identity.audience().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(said(&claims_with(json!({ "aud": null })), &any), "taken");
}

#[test]
fn scopes_of_both_spellings() {
    let list = |claims: Value| {
        let identity = outcome_of(&claims_with(claims), &policy()).map_err(Reason::as_str)?;
        Ok(identity.scopes().iter().map(ToOwned::to_owned).collect::<Vec<_>>())
    };
    let words = |words: &[&str]| Ok(words.iter().map(ToString::to_string).collect::<Vec<_>>());
    for (claims, scopes) in [
        (json!({ "scope": "a b" }), words(&["a", "b"])),
        (json!({ "scope": "  a   b " }), words(&["a", "b"])),
        (json!({ "scope": "" }), words(&[])),
        (json!({ "scope": null }), words(&[])),
        (json!({ "scope": ["a", "b"] }), words(&["a", "b"])),
        (json!({ "scope": null, "scp": "a b" }), words(&["a", "b"])),
        (json!({ "scope": null, "scp": ["a:b", "c/d?e=f"] }), words(&["a:b", "c/d?e=f"])),
        (json!({ "scope": "a", "scp": ["b"] }), words(&["a"])),
        (json!({ "scope": "", "scp": ["b"] }), words(&[])),
        (json!({ "scope": "a\tb" }), Err("scope_invalid")),
        (json!({ "scope": "a\nb" }), Err("scope_invalid")),
        (json!({ "scope": "a\u{0}" }), Err("scope_invalid")),
        (json!({ "scope": "ä" }), Err("scope_invalid")),
        (json!({ "scope": "a\"b" }), Err("scope_invalid")),
        (json!({ "scope": "a\\b" }), Err("scope_invalid")),
        (json!({ "scope": "a\u{a0}b" }), Err("scope_invalid")),
        (json!({ "scope": null, "scp": ["a b"] }), Err("scope_invalid")),
        (json!({ "scope": null, "scp": ["a", ""] }), Err("scope_invalid")),
        (json!({ "scope": null, "scp": ["a", 1] }), Err("scope_invalid")),
        (json!({ "scope": 1 }), Err("scope_invalid")),
        (json!({ "scope": { "a": 1 } }), Err("scope_invalid")),
        (json!({ "scope": vec!["a"; SCOPES_MAX + 1].join(" ") }), Err("scope_invalid")),
        (json!({ "scope": vec!["a"; SCOPES_MAX + 1] }), Err("scope_invalid")),
    ] {
        assert_eq!(list(claims.clone()), scopes, "{claims}");
    }
}

#[test]
fn clients_and_names() {
    let client = |claims: Value| outcome_of(&claims_with(claims), &policy()).unwrap().client().map(ToOwned::to_owned);
    assert_eq!(client(json!({ "azp": "z" })).as_deref(), Some("9b1f"));
    assert_eq!(client(json!({ "client_id": null, "azp": "z" })).as_deref(), Some("z"));
    assert_eq!(client(json!({ "client_id": null })), None);
    for name in ["sub", "client_id", "azp", "jti"] {
        check(&[(json!({ name: 1 }), "claims_invalid"), (json!({ name: ["x"] }), "claims_invalid")]);
    }
    check(&[(json!({ "sub": "x".repeat(WORD_MAX) }), "too_large")]);
}

#[test]
fn rfc_9068_wants_them_all() {
    let strict = policy().with_profile(Profile::AccessToken);
    assert_eq!(said(&claims(), &strict), "taken");
    for (name, reason) in [
        ("iss", "issuer_missing"),
        ("exp", "expiry_missing"),
        ("aud", "audience_missing"),
        ("sub", "subject_missing"),
        ("client_id", "client_missing"),
        ("iat", "issued_at_missing"),
        ("jti", "token_id_missing"),
    ] {
        let without = claims_with(json!({ name: null }));
        assert_eq!(said(&without, &strict), reason);
        // also where the policy does not look at the value
        let any = Policy::new(Accepted::Any, Accepted::Any).without_expiry();
        assert_eq!(said(&without, &any.clone().with_profile(Profile::AccessToken)), reason);
        assert_eq!(said(&without, &any), "taken");
    }
    assert_eq!(said(&claims_with(json!({ "client_id": null, "azp": "z" })), &strict), "client_missing");
}

#[test]
fn a_binding_is_understood_or_the_token_refused() {
    let hash = base64url([7; 32]);
    let bound = |cnf: Value| outcome_of(&claims_with(json!({ "cnf": cnf })), &policy());
    assert_eq!(bound(json!({ "x5t#S256": hash })).unwrap().confirmation(), Some(&Confirmation::X5tS256([7; 32])));
    assert_eq!(bound(json!({ "jkt": hash })).unwrap().confirmation(), Some(&Confirmation::Jkt([7; 32])));
    for (cnf, reason) in [
        (json!({}), Reason::ConfirmationUnsupported),
        (json!({ "jwk": {} }), Reason::ConfirmationUnsupported),
        (json!({ "kid": "k" }), Reason::ConfirmationUnsupported),
        (json!({ "x5t#S256": hash, "jkt": hash }), Reason::ConfirmationUnsupported),
        (json!({ "jkt": hash, "unknown": 1 }), Reason::ConfirmationUnsupported),
        (json!({ "jkt": base64url([7; 31]) }), Reason::ConfirmationUnsupported),
        (json!({ "jkt": format!("{hash}=") }), Reason::ConfirmationUnsupported),
        (json!({ "jkt": 1 }), Reason::ConfirmationUnsupported),
        (json!({ "x5t": hash }), Reason::ConfirmationUnsupported),
        (json!("x"), Reason::ClaimsInvalid),
        (json!([hash]), Reason::ClaimsInvalid),
    ] {
        assert_eq!(bound(cnf.clone()).unwrap_err(), reason, "{cnf}");
    }
}

#[test]
fn a_token_bound_to_a_certificate_needs_that_certificate() {
    let certificate = b"a certificate in DER";
    let hash = base64url(kh_core::Sha256::of(certificate).0);
    let bound = outcome_of(&claims_with(json!({ "cnf": { "x5t#S256": hash } })), &policy()).unwrap();
    assert_eq!(check_certificate(&bound, Some(certificate)), Ok(()));
    assert_eq!(check_certificate(&bound, Some(b"another")), Err(Reason::CertificateMismatch));
    assert_eq!(check_certificate(&bound, Some(b"")), Err(Reason::CertificateMismatch));
    assert_eq!(check_certificate(&bound, None), Err(Reason::CertificateMissing));
    let bearer = outcome_of(&claims(), &policy()).unwrap();
    assert_eq!(check_certificate(&bearer, None), Ok(()));
    assert_eq!(check_certificate(&bearer, Some(certificate)), Ok(()));
}

#[test]
fn claims_that_were_asked_for_are_kept() {
    let wanted = policy().with_claims([
        "tenant",
        "roles",
        "level",
        "partner",
        "/realm_access/roles",
        "/a~1b/c~0d",
        "https://example.com/x",
        "float",
        "object",
        "mixed",
        "huge",
        "/tenant/x",
        "/",
        "absent",
    ]);
    let identity = outcome_of(
        &claims_with(json!({
            "tenant": "acme", "roles": ["Agent", "Supervisor"], "level": -3, "partner": false,
            "realm_access": { "roles": ["x"] }, "a/b": { "c~d": 5 }, "https://example.com/x": "y",
            "float": 1.5, "object": {}, "mixed": ["a", 1], "huge": u64::MAX, "not_wanted": "z",
        })),
        &wanted,
    )
    .unwrap();
    assert_eq!(identity.claim("tenant"), Some(ClaimValue::Text("acme")));
    assert_eq!(identity.claim("level"), Some(ClaimValue::Number(-3)));
    assert_eq!(identity.claim("partner"), Some(ClaimValue::Bool(false)));
    assert_eq!(identity.claim("/a~1b/c~0d"), Some(ClaimValue::Number(5)));
    assert_eq!(identity.claim("https://example.com/x"), Some(ClaimValue::Text("y")));
    let list = |name: &str| match identity.claim(name) {
        Some(ClaimValue::List(words)) => words.collect::<Vec<_>>(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(list("roles"), ["Agent", "Supervisor"]);
    assert_eq!(list("/realm_access/roles"), ["x"]);
    for absent in ["float", "object", "mixed", "huge", "/tenant/x", "/", "absent", "not_wanted", "sub"] {
        assert_eq!(identity.claim(absent), None, "{absent}");
    }
}
