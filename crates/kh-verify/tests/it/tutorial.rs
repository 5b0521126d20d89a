//! A widely copied tutorial does these things wrong. Each of its mistakes that concerns verification is a test here.

use kh_verify::{Algorithm, Compact, verify};
use serde_json::json;

use crate::support::*;

#[test]
fn unverified_parsing_makes_nobody_of_a_payload() {
    // the tutorial parsed without a key and believed the claims
    let payload = base64url(claims_with(json!({ "sub": "admin", "scope": "admin" })).to_string());
    for signature in ["", "AA", &base64url([0; 256])] {
        for alg in ["RS256", "ES256", "EdDSA", "HS256"] {
            let token = format!("{}.{payload}.{signature}", base64url(json!({ "alg": alg, "kid": "k1" }).to_string()));
            for algorithm in Algorithm::ALL {
                assert_ne!(refused(&token, &keys(algorithm)), "taken", "{alg} {algorithm}");
            }
            // it can be read, to choose an issuer; an identity comes out only by a key
            let compact = Compact::decode(token.as_bytes()).unwrap();
            let unverified = compact.read().unwrap();
            assert_eq!(unverified.issuer(), Some(ISSUER));
            assert!(unverified.verify(&keys(Algorithm::Rs256), &policy(), NOW).is_err());
        }
    }
}

#[test]
fn alg_none_makes_nobody_of_a_payload() {
    let payload = base64url(claims().to_string());
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"none","typ":"at+jwt","kid":"k1"}"#, r#"{"alg":"NoNe","kid":"k1"}"#] {
        let token = format!("{}.{payload}.", base64url(header));
        for algorithm in Algorithm::ALL {
            assert_eq!(refused(&token, &keys(algorithm)), "algorithm_none");
        }
    }
}

#[test]
fn hmac_by_the_public_key_makes_nobody_of_a_payload() {
    let token = Signer::Octets(RSA.der()).token(Algorithm::Hs256, &claims());
    assert_eq!(
        verify(token.as_bytes(), &keys(Algorithm::Rs256), &policy(), NOW).unwrap_err().as_str(),
        "algorithm_not_allowed"
    );
}

#[test]
fn tokens_with_the_same_first_bytes_are_different_tokens() {
    // the tutorial's cache knew a token by its first 8 bytes, which are `eyJhbGci` in all of them
    let one = RSA.token(Algorithm::Rs256, &claims());
    let other = RSA.token(Algorithm::Rs256, &claims_with(json!({ "sub": "other" })));
    assert_eq!(one[..8], other[..8]);
    let subject = |token: &str| {
        let identity = verify(token.as_bytes(), &keys(Algorithm::Rs256), &policy(), NOW).unwrap();
        identity.subject().map(ToOwned::to_owned)
    };
    assert_ne!(subject(&one), subject(&other));
}

#[test]
fn an_expired_token_is_refused_by_one_look_at_it() {
    // the tutorial asked the platform for a new token for every request with an expired one
    let expired = claims_with(json!({ "exp": 1_799_999_000 }));
    assert_eq!(outcome_of(&expired, &policy()).unwrap_err().as_str(), "expired");
}
