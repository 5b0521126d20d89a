//! Good tokens, and the way from a token to its issuer's keys.

use kh_verify::{Algorithm, Algorithms, Compact, KeySet, Profile, Reason, Symmetric, verify};
use serde_json::json;

use crate::support::*;

#[test]
fn a_good_token_of_every_algorithm_is_taken() {
    let policy = policy().with_algorithms(Algorithms::ALL).with_profile(Profile::AccessToken);
    for algorithm in Algorithm::ALL {
        let token = signer(algorithm).token(algorithm, &claims());
        let identity = verify(token.as_bytes(), &keys(algorithm), &policy, NOW).unwrap_or_else(|reason| {
            panic!("{algorithm}: {reason}");
        });
        assert_eq!((identity.subject(), identity.client()), (Some("5e9d"), Some("9b1f")));
        assert!(identity.scopes().contains("user:read") && !identity.scopes().contains("user"));
        // and by nobody else's list
        let without = Algorithms::ALL.iter().filter(|other| *other != algorithm).collect();
        let refused = verify(token.as_bytes(), &keys(algorithm), &policy.clone().with_algorithms(without), NOW);
        assert_eq!(refused, Err(Reason::AlgorithmNotAllowed), "{algorithm}");
    }
}

#[test]
fn the_name_of_rfc_9864_is_taken_for_ed25519() {
    let token = ED.raw(Algorithm::EdDsa, r#"{"alg":"Ed25519"}"#, &claims().to_string());
    for alg in ["EdDSA", "Ed25519"] {
        let keys = key_set(&[ED.jwk_with(json!({ "alg": alg }))]);
        assert!(verify(token.as_bytes(), &keys, &policy(), NOW).is_ok(), "{alg}");
    }
}

#[test]
fn the_examples_of_the_standards() {
    // RFC 7515 appendices A.1 and A.3, RFC 8037 appendix A.4
    for (token, key) in [
        (
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        ),
        (
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        ),
    ] {
        let keys = KeySet::pinned(key.as_bytes(), Symmetric::Accepted).unwrap();
        let compact = Compact::decode(token.as_bytes()).unwrap();
        assert_eq!(compact.verify_signature(&keys, Algorithms::ALL), Ok(()), "{token}");
    }
}

#[test]
fn the_issuer_is_read_first_and_then_its_keys_decide() {
    let token = P256.token(Algorithm::Es256, &claims());
    let compact = Compact::decode(token.as_bytes()).unwrap();
    let unverified = compact.read().unwrap();
    assert_eq!(unverified.issuer(), Some(ISSUER));
    let identity = unverified.verify(&keys(Algorithm::Es256), &policy(), NOW).unwrap();
    assert_eq!(Ok(identity), verify(token.as_bytes(), &keys(Algorithm::Es256), &policy(), NOW));
    assert_eq!(unverified.verify(&keys(Algorithm::Rs256), &policy(), NOW), Err(Reason::KeyUnfit));
    let forged =
        token.replace(&base64url(claims().to_string()), &base64url(claims_with(json!({ "sub": "x" })).to_string()));
    let forged = Compact::decode(forged.as_bytes()).unwrap();
    assert_eq!(forged.read().unwrap().verify(&keys(Algorithm::Es256), &policy(), NOW), Err(Reason::SignatureInvalid));
}

#[test]
fn the_signature_alone_says_nothing_of_the_payload() {
    let token = ED.raw(Algorithm::EdDsa, r#"{"alg":"EdDSA","typ":"anything"}"#, "no JSON at all");
    let compact = Compact::decode(token.as_bytes()).unwrap();
    let keys = key_set(&[ED.jwk()]);
    assert_eq!(compact.verify_signature(&keys, Algorithms::ASYMMETRIC), Ok(()));
    assert_eq!(compact.payload(), b"no JSON at all");
    assert_eq!(compact.read().err(), Some(Reason::ClaimsInvalid));
    assert_eq!(compact.verify_signature(&key_set(&[P256.jwk()]), Algorithms::ASYMMETRIC), Err(Reason::KeyMissing));
}

#[test]
fn types_of_access_tokens_in_every_spelling() {
    let strict = policy().with_profile(Profile::AccessToken);
    for (typ, jwt, access_token) in [
        (Some("at+jwt"), true, true),
        (Some("AT+JWT"), true, true),
        (Some("application/at+jwt"), true, true),
        (Some("Application/At+Jwt"), true, true),
        (Some("JWT"), true, false),
        (Some("jwt"), true, false),
        (Some("application/jwt"), true, false),
        (None, true, false),
        (Some("application/application/at+jwt"), false, false),
        (Some("text/at+jwt"), false, false),
        (Some("at+jwt; charset=utf-8"), false, false),
        (Some(" at+jwt"), false, false),
        (Some(""), false, false),
        (Some("dpop+jwt"), false, false),
        (Some("logout+jwt"), false, false),
        (Some("secevent+jwt"), false, false),
        (Some("token-introspection+jwt"), false, false),
    ] {
        let mut header = json!({ "alg": "RS256", "kid": "k1" });
        if let Some(typ) = typ {
            header["typ"] = typ.into();
        }
        let token = RSA.raw(Algorithm::Rs256, &header.to_string(), &claims().to_string());
        for (policy, taken) in [(&policy(), jwt), (&strict, access_token)] {
            let outcome = verify(token.as_bytes(), &keys(Algorithm::Rs256), policy, NOW).map(drop);
            assert_eq!(outcome, if taken { Ok(()) } else { Err(Reason::TypeRefused) }, "{typ:?}");
        }
    }
}
