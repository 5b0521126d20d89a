//! JWK sets: what is left out, what binds, and which key a token is checked with.

use aws_lc_rs::rsa::KeySize;
use kh_verify::{
    Algorithm, Algorithms, KeySet, KeySetError, Reason, Symmetric, Unusable,
    key_set::{JWKS_BYTES_MAX, KEYS_MAX, KEYS_TRIED_MAX, Skipped},
    verify,
};
use serde_json::{Value, json};

use crate::support::*;

/// Why this key cannot be used.
fn unusable(jwk: &Value) -> Option<Unusable> {
    match KeySet::pinned(jwk.to_string().as_bytes(), Symmetric::Refused) {
        Ok(_) => None,
        Err(KeySetError::NoUsableKey(skipped)) => Some(skipped[0].why),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn keys_that_cannot_be_used_are_left_out_and_told() {
    let set = key_set(&[
        json!({ "kty": "PQC", "x": "AA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" }),
        json!({ "kty": "OKP", "crv": "X25519", "x": "AA" }),
        RSA.jwk_with(json!({ "use": "enc", "kid": "e" })),
        RSA.jwk_with(json!({ "kid": "k1", "x5c": ["MIIB"], "x5t": "AA", "unknown": { "a": [1] } })),
        SHARED.jwk(),
    ]);
    assert_eq!(set.keys().len(), 1);
    assert_eq!(set.keys()[0].kid(), Some("k1"));
    assert_eq!(set.algorithms(), Algorithms::RSA);
    let why: Vec<(usize, Unusable)> = set.skipped().iter().map(|Skipped { at, why }| (*at, *why)).collect();
    assert_eq!(
        why,
        [
            (1, Unusable::UnknownType),
            (2, Unusable::UnknownCurve),
            (3, Unusable::UnknownCurve),
            (4, Unusable::NotForVerifying),
            (6, Unusable::Symmetric)
        ]
    );
}

#[test]
fn everything_that_a_key_says_of_itself_binds() {
    let with = |signer: &Signer, more: Value| unusable(&signer.jwk_with(more));
    for good in [json!({}), json!({ "use": "sig" }), json!({ "key_ops": ["verify"] }), json!({ "alg": "PS384" })] {
        assert_eq!(with(&RSA, good.clone()), None, "{good}");
    }
    for (bad, why) in [
        (json!({ "use": "enc" }), Unusable::NotForVerifying),
        (json!({ "use": "SIG" }), Unusable::NotForVerifying),
        (json!({ "use": ["sig"] }), Unusable::Malformed),
        (json!({ "key_ops": ["encrypt"] }), Unusable::NotForVerifying),
        (json!({ "key_ops": ["sign"] }), Unusable::NotForVerifying),
        (json!({ "key_ops": [] }), Unusable::NotForVerifying),
        (json!({ "key_ops": ["verify", "verify"] }), Unusable::Malformed),
        (json!({ "key_ops": "verify" }), Unusable::Malformed),
        (json!({ "use": "sig", "key_ops": ["wrapKey"] }), Unusable::NotForVerifying),
        (json!({ "alg": "RSA-OAEP" }), Unusable::UnknownAlgorithm),
        (json!({ "alg": "none" }), Unusable::UnknownAlgorithm),
        (json!({ "alg": "rs256" }), Unusable::UnknownAlgorithm),
        (json!({ "alg": "ES256" }), Unusable::UnfitAlgorithm),
        (json!({ "alg": "HS256" }), Unusable::UnfitAlgorithm),
        (json!({ "alg": 256 }), Unusable::Malformed),
        (json!({ "kid": 1 }), Unusable::Malformed),
        (json!({ "kid": "x".repeat(257) }), Unusable::Malformed),
        (json!({ "kty": "EC" }), Unusable::Malformed),
    ] {
        assert_eq!(with(&RSA, bad.clone()), Some(why), "{bad}");
    }
    assert_eq!(with(&P256, json!({ "alg": "ES384" })), Some(Unusable::UnfitAlgorithm));
    assert_eq!(with(&P384, json!({ "crv": "P-256" })), Some(Unusable::Malformed));
    assert_eq!(with(&ED, json!({ "alg": "ES256" })), Some(Unusable::UnfitAlgorithm));
}

#[test]
fn an_rsa_key_of_one_algorithm_verifies_no_other() {
    let bound = key_set(&[RSA.jwk_with(json!({ "kid": "k1", "alg": "PS256" }))]);
    let policy = policy();
    let outcome =
        |algorithm: Algorithm| verify(RSA.token(algorithm, &claims()).as_bytes(), &bound, &policy, NOW).map(drop);
    assert_eq!(outcome(Algorithm::Ps256), Ok(()));
    for other in [Algorithm::Rs256, Algorithm::Rs512, Algorithm::Ps384] {
        assert_eq!(outcome(other), Err(Reason::KeyUnfit), "{other}");
    }
    // a signature of one padding under the name of the other
    let crossed = RSA.raw(Algorithm::Rs256, &header(Algorithm::Ps256).to_string(), &claims().to_string());
    assert_eq!(verify(crossed.as_bytes(), &bound, &policy, NOW), Err(Reason::SignatureInvalid));
}

#[test]
fn private_keys_are_never_taken() {
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        for signer in [&*RSA, &*P256, &*ED] {
            assert_eq!(unusable(&signer.jwk_with(json!({ private: "AQAB" }))), Some(Unusable::Private), "{private}");
        }
    }
    // even where symmetric keys are: they are another kind
    let private = P256.jwk_with(json!({ "d": "AQAB" })).to_string();
    assert!(KeySet::pinned(private.as_bytes(), Symmetric::Accepted).is_err());
}

#[test]
fn weak_and_odd_rsa_keys_are_left_out() {
    let modulus = |bytes: Vec<u8>| RSA.jwk_with(json!({ "n": base64url(bytes) }));
    let of_len = |len: usize, first: u8| {
        let mut bytes = vec![0xff; len];
        bytes[0] = first;
        modulus(bytes)
    };
    // 2047, 1024, 512 and 8193 bits
    for weak in [of_len(256, 0x7f), of_len(128, 0xff), of_len(64, 0xff), of_len(1025, 0x01)] {
        assert_eq!(unusable(&weak), Some(Unusable::UnsafeSize));
    }
    assert_eq!(unusable(&of_len(256, 0x80)), None);
    assert_eq!(unusable(&of_len(1024, 0xff)), None);
    for exponent in [&[1][..], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert_eq!(unusable(&RSA.jwk_with(json!({ "e": base64url(exponent) }))), Some(Unusable::UnsafeSize));
    }
    assert_eq!(unusable(&RSA.jwk_with(json!({ "e": base64url([3]) }))), None);
    let mut even = vec![0xff; 256];
    even[255] = 0xfe;
    for malformed in [
        modulus(even),
        modulus([vec![0], vec![0xff; 256]].concat()),
        RSA.jwk_with(json!({ "e": base64url([0, 1, 0, 1]) })),
        RSA.jwk_with(json!({ "e": "" })),
        RSA.jwk_with(json!({ "n": "" })),
        RSA.jwk_with(json!({ "n": format!("{}=", base64url([0xff; 256])) })),
        RSA.jwk_with(json!({ "n": 3 })),
        json!({ "kty": "RSA", "e": "AQAB" }),
    ] {
        assert_eq!(unusable(&malformed), Some(Unusable::Malformed), "{malformed}");
    }
}

#[test]
fn larger_rsa_keys_verify() {
    let large = Signer::rsa(KeySize::Rsa4096);
    let token = large.token(Algorithm::Ps512, &claims());
    assert!(verify(token.as_bytes(), &key_set(&[large.jwk()]), &policy(), NOW).is_ok());
}

#[test]
fn points_that_are_not_on_the_curve_are_no_keys() {
    for (signer, len) in [(&*P256, 32), (&*P384, 48), (&*P521, 66)] {
        for (x, y) in [(vec![0; len], vec![0; len]), (vec![1; len], vec![1; len]), (vec![0xff; len], vec![0xff; len])] {
            let jwk = signer.jwk_with(json!({ "x": base64url(x), "y": base64url(y) }));
            assert_eq!(unusable(&jwk), Some(Unusable::Malformed));
        }
        // the right number with a byte too few or too many
        let y = signer.jwk()["y"].as_str().unwrap().to_owned();
        assert_eq!(unusable(&signer.jwk_with(json!({ "y": y[..y.len() - 4] }))), Some(Unusable::Malformed));
        assert_eq!(unusable(&signer.jwk_with(json!({ "y": format!("AAAA{y}") }))), Some(Unusable::Malformed));
    }
    assert_eq!(unusable(&ED.jwk_with(json!({ "x": base64url([1; 31]) }))), Some(Unusable::Malformed));
}

#[test]
fn symmetric_keys_are_taken_only_where_asked_for_and_only_long_ones() {
    let set = |len: usize| {
        let jwk = json!({ "kty": "oct", "k": base64url(vec![7; len]) }).to_string();
        KeySet::pinned(jwk.as_bytes(), Symmetric::Accepted).map(|set| set.algorithms())
    };
    for (len, algorithms) in [
        (32, Algorithms::of(&[Algorithm::Hs256])),
        (48, Algorithms::of(&[Algorithm::Hs256, Algorithm::Hs384])),
        (64, Algorithms::HMAC),
        (1024, Algorithms::HMAC),
    ] {
        assert_eq!(set(len), Ok(algorithms), "{len}");
    }
    for len in [0, 1, 31, 1025] {
        assert!(set(len).is_err(), "{len}");
    }
    assert_eq!(unusable(&SHARED.jwk()), Some(Unusable::Symmetric));
    let shown = format!("{:?}", keys(Algorithm::Hs256));
    assert_eq!(
        shown,
        "KeySet { keys: [Key { kid: Some(\"k1\"), algorithms: {Hs256, Hs384, Hs512}, .. }], skipped: [], pinned: false }"
    );
}

#[test]
fn a_key_set_is_bounded_and_read_in_one_way() {
    let parse = |json: &str| KeySet::parse(json.as_bytes(), Symmetric::Refused).map(drop);
    let key = ED.jwk().to_string();
    for malformed in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        &key,
        &format!(r#"{{"keys":[{key}],"keys":[{key}]}}"#),
        &format!(r#"{{"keys":[{}]}}"#, key.replacen('{', r#"{"kty":"RSA","#, 1)),
        &format!(r#"{{"keys":[{key}]}} x"#),
    ] {
        assert_eq!(parse(malformed), Err(KeySetError::Malformed), "{malformed}");
    }
    assert_eq!(parse(r#"{"keys":[]}"#), Err(KeySetError::NoUsableKey(Vec::new())));
    let many = |count: usize| format!(r#"{{"keys":[{}]}}"#, vec![key.as_str(); count].join(","));
    assert_eq!(parse(&many(KEYS_MAX)), Ok(()));
    assert_eq!(parse(&many(KEYS_MAX + 1)), Err(KeySetError::TooManyKeys));
    let padded = format!(r#"{{"keys":[{key}]{}}}"#, " ".repeat(JWKS_BYTES_MAX));
    assert_eq!(parse(&padded), Err(KeySetError::TooLarge));
    let empty = KeySet::pinned(SHARED.jwk().to_string().as_bytes(), Symmetric::Refused).unwrap_err();
    assert_eq!(
        empty.to_string(),
        "the key set has no key that can be used; key 1 is left out because it is a symmetric key"
    );
}

#[test]
fn an_unknown_name_is_told_from_a_bad_signature() {
    let keys = key_set(&[RSA.jwk_with(json!({ "kid": "k1" })), P256.jwk_with(json!({ "kid": "k2" }))]);
    let by = |signer: &Signer, kid: Option<&str>| {
        let mut header = json!({ "alg": "RS256" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        refused(&signer.raw(Algorithm::Rs256, &header.to_string(), &claims().to_string()), &keys)
    };
    assert_eq!(by(&RSA, Some("k1")), "taken");
    assert_eq!(by(&RSA, None), "taken");
    assert_eq!(by(&RSA_OTHER, Some("k1")), "signature_invalid");
    assert_eq!(by(&RSA_OTHER, Some("k9")), "key_unknown");
    assert_eq!(by(&RSA, Some("k9")), "key_unknown", "a name that is there counts");
    assert_eq!(by(&RSA, Some("k2")), "key_unfit");
    assert_eq!(by(&RSA_OTHER, None), "signature_unmatched");
    let without = key_set(&[P256.jwk()]);
    let nameless = RSA.raw(Algorithm::Rs256, r#"{"alg":"RS256"}"#, &claims().to_string());
    assert_eq!(refused(&nameless, &without), "key_missing");
}

#[test]
fn a_key_that_was_chosen_for_a_token_is_meant_whatever_its_name() {
    let pinned = |signer: &Signer| {
        let jwk = signer.jwk_with(json!({ "kid": "other" })).to_string();
        KeySet::pinned(jwk.as_bytes(), Symmetric::Refused).unwrap()
    };
    let token = RSA.token(Algorithm::Rs256, &claims());
    assert_eq!(refused(&token, &pinned(&RSA)), "taken");
    assert_eq!(refused(&token, &pinned(&RSA_OTHER)), "signature_invalid");
    assert_eq!(refused(&token, &pinned(&P256)), "key_unfit");
}

#[test]
fn keys_of_one_name_are_all_tried_and_keys_without_a_name_too() {
    let twins = key_set(&[
        P256.jwk_with(json!({ "kid": "k1" })),
        RSA_OTHER.jwk_with(json!({ "kid": "k1" })),
        RSA.jwk_with(json!({ "kid": "k1" })),
    ]);
    let token = RSA.token(Algorithm::Rs256, &claims());
    assert_eq!(refused(&token, &twins), "taken");
    assert_eq!(refused(&token, &key_set(&[RSA.jwk()])), "taken");
    assert_eq!(refused(&token, &key_set(&[RSA_OTHER.jwk()])), "key_unknown");
}

#[test]
fn a_token_without_a_name_is_tried_against_a_bounded_number_of_keys() {
    let token = ED.raw(Algorithm::EdDsa, r#"{"alg":"EdDSA"}"#, &claims().to_string());
    let set = |before: usize| {
        let others = (0..before).map(|_| Signer::Ed(aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap()).jwk());
        key_set(&others.chain([ED.jwk()]).collect::<Vec<_>>())
    };
    assert_eq!(refused(&token, &set(KEYS_TRIED_MAX - 1)), "taken");
    assert_eq!(refused(&token, &set(KEYS_TRIED_MAX)), "signature_unmatched");
}
