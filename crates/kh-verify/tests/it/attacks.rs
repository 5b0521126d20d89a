//! What attackers send. Each test is a row of `docs/reference/token-attacks.md`.

use kh_verify::{Algorithm, KeySet, Reason, Symmetric, jws::TOKEN_BYTES_MAX, verify};
use serde_json::{Value, json};

use crate::support::*;

/// Why an RS256 token with this header is refused, signed as it should be.
fn header_refused(header: &str) -> &'static str {
    outcome(header, &claims().to_string()).map_or_else(Reason::as_str, |_| "taken")
}

fn payload_refused(payload: &str) -> &'static str {
    outcome(&header(Algorithm::Rs256).to_string(), payload).map_or_else(Reason::as_str, |_| "taken")
}

#[test]
fn alg_none_in_every_spelling() {
    for alg in ["none", "None", "NONE", "nOnE", "nonE"] {
        let start = format!("{}.{}.", base64url(json!({ "alg": alg }).to_string()), base64url(claims().to_string()));
        let good = RSA.token(Algorithm::Rs256, &claims());
        let signature = good.rsplit('.').next().unwrap();
        for token in [start.clone(), format!("{start}{signature}"), format!("{start}AA")] {
            assert_eq!(refused(&token, &keys(Algorithm::Rs256)), "algorithm_none", "{alg}");
        }
    }
    for (alg, reason) in [
        (json!("non\u{0065}"), "algorithm_none"),
        (json!("none "), "algorithm_unknown"),
        (json!(""), "algorithm_unknown"),
        (json!("rs256"), "algorithm_unknown"),
        (json!("RS256\u{0}"), "algorithm_unknown"),
        (json!("ES256K"), "algorithm_unknown"),
        (json!(["RS256"]), "header_invalid"),
        (json!(null), "header_invalid"),
        (json!({ "RS256": 1 }), "header_invalid"),
    ] {
        assert_eq!(header_refused(&json!({ "alg": alg, "kid": "k1" }).to_string()), reason, "{alg}");
    }
    assert_eq!(header_refused(r#"{"kid":"k1"}"#), "header_invalid");
}

#[test]
fn a_token_without_a_signature() {
    for algorithm in Algorithm::ALL {
        let token = signer(algorithm).token(algorithm, &claims());
        let (signed, _) = token.rsplit_once('.').unwrap();
        assert_eq!(refused(&format!("{signed}."), &keys(algorithm)), "signature_invalid", "{algorithm}");
        assert_eq!(refused(signed, &keys(algorithm)), "malformed", "{algorithm}");
    }
}

#[test]
fn hmac_with_the_public_key_as_its_secret() {
    let der = RSA.der();
    let pem_body = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &der);
    let modulus = RSA.jwk()["n"].as_str().unwrap().to_owned();
    let secrets = [
        der.clone(),
        format!("-----BEGIN RSA PUBLIC KEY-----\n{pem_body}\n-----END RSA PUBLIC KEY-----\n").into_bytes(),
        format!("-----BEGIN RSA PUBLIC KEY-----\n{pem_body}\n-----END RSA PUBLIC KEY-----").into_bytes(),
        modulus.into_bytes(),
        RSA.jwk().to_string().into_bytes(),
    ];
    for secret in secrets {
        for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
            let token = Signer::Octets(secret.clone()).token(algorithm, &claims());
            let outcome = verify(token.as_bytes(), &keys(Algorithm::Rs256), &policy(), NOW);
            assert_eq!(outcome, Err(Reason::AlgorithmNotAllowed));
            // and where HMAC is on the list: the key is still an RSA key
            assert_eq!(refused(&token, &keys(Algorithm::Rs256)), "key_unfit");
        }
    }
}

#[test]
fn a_key_that_the_token_brings_along() {
    let jwk = RSA_OTHER.jwk_with(json!({ "kid": "k1" }));
    let certificate = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, RSA_OTHER.der());
    for member in [
        json!({ "jwk": jwk }),
        json!({ "jku": "https://attacker.example/jwks.json" }),
        json!({ "x5u": "https://attacker.example/key.pem" }),
        json!({ "x5c": [certificate] }),
        json!({ "x5t#S256": base64url([1; 32]), "x5c": [certificate], "jwk": jwk }),
    ] {
        for kid in [Some("k1"), Some("attacker"), None] {
            let mut header = json!({ "alg": "RS256" });
            header.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
            if let Some(kid) = kid {
                header["kid"] = kid.into();
            }
            let reason = match kid {
                Some("k1") => "signature_invalid",
                Some(_) => "key_unknown",
                None => "signature_unmatched",
            };
            let token = RSA_OTHER.raw(Algorithm::Rs256, &header.to_string(), &claims().to_string());
            assert_eq!(refused(&token, &keys(Algorithm::Rs256)), reason, "{header}");
        }
    }
}

#[test]
fn a_key_name_that_is_a_path_a_query_or_no_text() {
    for kid in [
        "../../../../../../dev/null",
        "/dev/null",
        "k1' UNION SELECT 'AA'--",
        "k1\u{0}",
        "k1 ",
        "K1",
        "",
        "https://attacker.example/key",
        "| sleep 10",
        "k1\r\nX: y",
    ] {
        assert_eq!(header_refused(&json!({ "alg": "RS256", "kid": kid }).to_string()), "key_unknown", "{kid:?}");
    }
    for kid in [json!(1), json!(null), json!(["k1"]), json!({ "k": 1 }), json!("k".repeat(257))] {
        assert_eq!(header_refused(&json!({ "alg": "RS256", "kid": kid }).to_string()), "header_invalid");
    }
    // an empty symmetric key, which `/dev/null` would be, is no key at all
    assert!(KeySet::pinned(br#"{"kty":"oct","k":""}"#, Symmetric::Accepted).is_err());
}

#[test]
fn a_key_of_another_issuer_under_the_same_name() {
    let theirs = key_set(&[RSA_OTHER.jwk_with(json!({ "kid": "k1" }))]);
    let token = RSA.token(Algorithm::Rs256, &claims());
    assert_eq!(refused(&token, &theirs), "signature_invalid");
}

#[test]
fn a_curve_or_padding_of_another_algorithm() {
    for (says, signs, with) in [
        (Algorithm::Es256, Algorithm::Es384, &*P384),
        (Algorithm::Es384, Algorithm::Es256, &*P256),
        (Algorithm::Es512, Algorithm::Es256, &*P256),
        (Algorithm::EdDsa, Algorithm::Es256, &*P256),
        (Algorithm::Rs256, Algorithm::Es256, &*P256),
        (Algorithm::Es256, Algorithm::EdDsa, &*ED),
    ] {
        let token = with.raw(signs, &header(says).to_string(), &claims().to_string());
        assert_eq!(refused(&token, &keys(signs)), "key_unfit", "{says} by a key of {signs}");
    }
    for (says, signs) in [
        (Algorithm::Rs256, Algorithm::Ps256),
        (Algorithm::Ps256, Algorithm::Rs256),
        (Algorithm::Rs256, Algorithm::Rs512),
        (Algorithm::Ps384, Algorithm::Ps256),
        (Algorithm::Hs256, Algorithm::Hs512),
    ] {
        let token = signer(signs).raw(signs, &header(says).to_string(), &claims().to_string());
        assert_eq!(refused(&token, &keys(signs)), "signature_invalid", "{says} that is {signs}");
    }
}

#[test]
fn another_spelling_of_the_same_bytes() {
    let token = ED.token(Algorithm::EdDsa, &claims());
    let keys = keys(Algorithm::EdDsa);
    assert_eq!(refused(&token, &keys), "taken");
    let parts: Vec<&str> = token.split('.').collect();
    for at in 0..3 {
        let with = |part: String| {
            let mut other: Vec<String> = parts.iter().map(ToString::to_string).collect();
            other[at] = part;
            other.join(".")
        };
        let part = parts[at];
        for other in [
            format!("{part}="),
            format!("{part}=="),
            format!("{part} "),
            format!(" {part}"),
            format!("{part}\n"),
            format!("{}\r\n{}", &part[..8], &part[8..]),
            format!("{}%2B{}", &part[..8], &part[8..]),
            format!("{part}\u{0}"),
            format!("{}+{}", &part[..8], &part[9..]),
            format!("{}/{}", &part[..8], &part[9..]),
            format!("{}é{}", &part[..8], &part[9..]),
        ] {
            assert_eq!(refused(&with(other.clone()), &keys), "malformed", "{other:?}");
        }
    }
    // the last character of 64 bytes carries two bits: sixteen spellings, of which one is right
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = token.chars().last().unwrap();
    let place = alphabet.find(last).unwrap();
    let same_bits = alphabet.chars().enumerate().filter(|(other, _)| other / 16 == place / 16);
    for (_, spelling) in same_bits.filter(|(_, spelling)| *spelling != last) {
        let other = format!("{}{spelling}", &token[..token.len() - 1]);
        assert_eq!(refused(&other, &keys), "malformed");
    }
}

#[test]
fn other_forms_of_a_token() {
    let token = RSA.token(Algorithm::Rs256, &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { panic!("three parts") };
    let flattened = json!({ "protected": header, "payload": payload, "signature": signature }).to_string();
    let general = json!({ "payload": payload, "signatures": [{ "protected": header, "signature": signature }] });
    for (other, reason) in [
        (String::new(), "malformed"),
        (".".to_owned(), "malformed"),
        ("..".to_owned(), "header_invalid"),
        ("...".to_owned(), "malformed"),
        (format!("{token}."), "malformed"),
        (format!(".{token}"), "malformed"),
        (format!("{header}.{payload}"), "malformed"),
        (format!("{header}.{payload}.{signature}.{signature}"), "malformed"),
        (format!("{header}.{header}.{payload}.{signature}.{signature}"), "encrypted"),
        (format!("{header}....{signature}"), "encrypted"),
        (format!("{token}.{token}"), "malformed"),
        (format!("Bearer {token}"), "malformed"),
        (format!("{token},{token}"), "encrypted"),
        (flattened, "malformed"),
        (general.to_string(), "malformed"),
        (format!("{payload}.{header}.{signature}"), "header_invalid"),
    ] {
        assert_eq!(refused(&other, &keys(Algorithm::Rs256)), reason, "{other}");
    }
}

#[test]
fn an_encrypted_token() {
    // RFC 7516 appendix A.1: five parts
    let jwe = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ";
    assert_eq!(refused(jwe, &keys(Algorithm::Rs256)), "encrypted");
    let header = r#"{"alg":"RS256","enc":"A256GCM","kid":"k1","zip":"DEF"}"#;
    assert_eq!(header_refused(header), "compressed");
}

#[test]
fn a_token_that_is_too_large() {
    let padded = |len: usize| {
        let claims = claims_with(json!({ "pad": "x".repeat(len) }));
        RSA.token(Algorithm::Rs256, &claims)
    };
    let spare = TOKEN_BYTES_MAX - padded(0).len();
    let largest = padded(spare * 3 / 4 - 3);
    assert!(largest.len() <= TOKEN_BYTES_MAX && largest.len() > TOKEN_BYTES_MAX - 16);
    assert_eq!(refused(&largest, &keys(Algorithm::Rs256)), "taken");
    assert_eq!(refused(&padded(spare), &keys(Algorithm::Rs256)), "too_large");
    for byte in ["a", ".", "{", "="] {
        assert_eq!(refused(&byte.repeat(TOKEN_BYTES_MAX + 1), &keys(Algorithm::Rs256)), "too_large");
    }
}

#[test]
fn a_member_that_is_there_twice() {
    for header in [
        r#"{"alg":"RS256","kid":"k1","alg":"none"}"#,
        r#"{"alg":"none","kid":"k1","alg":"RS256"}"#,
        r#"{"alg":"RS256","kid":"k1","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":"k1","\u0061lg":"RS256"}"#,
        r#"{"alg":"RS256","kid":"k1","x":{"a":1,"a":2}}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"JWT","typ":"at+jwt"}"#,
    ] {
        assert_eq!(header_refused(header), "header_invalid", "{header}");
    }
    let good = claims().to_string();
    for more in [
        r#""sub":"admin""#,
        r#""s\u0075b":"admin""#,
        r#""exp":99999999999"#,
        r#""scope":"admin""#,
        r#""realm_access":{"roles":["a"],"roles":["b"]}"#,
        r#""x":[[{"y":{"z":1,"z":1}}]]"#,
    ] {
        let (first, last) = (good.replacen('{', &format!("{{{more},"), 1), good.replace('}', &format!(",{more}}}")));
        for payload in [first, last] {
            assert_eq!(payload_refused(&payload), "claims_invalid", "{payload}");
        }
    }
}

#[test]
fn a_header_or_payload_that_is_not_one_json_object() {
    for text in
        ["", "null", "[]", "\"x\"", "1", "{", "{}{}", "{} x", "\u{feff}{}", "{\"a\":}", "{a:1}", "{\"a\":\"\\ud800\"}"]
    {
        assert_eq!(header_refused(text), "header_invalid", "{text:?}");
        assert_eq!(payload_refused(text), "claims_invalid", "{text:?}");
    }
    let good = header(Algorithm::Rs256).to_string();
    assert_eq!(header_refused(&format!("{good}\u{0}")), "header_invalid");
    assert_eq!(header_refused(&format!("{good}{good}")), "header_invalid");
    let deep = good.replace('}', &format!(",\"x\":{}{}}}", "[".repeat(3000), "]".repeat(3000)));
    assert_eq!(header_refused(&deep), "header_invalid");
    let deep = claims_with(json!({ "x": 0 }))
        .to_string()
        .replace("\"x\":0", &format!("\"x\":{}{}", "[".repeat(4000), "]".repeat(4000)));
    assert_eq!(payload_refused(&deep), "claims_invalid");
    let many: Value = (0..64).map(|at| (format!("m{at}"), json!(0))).collect::<serde_json::Map<_, _>>().into();
    let mut wide = header(Algorithm::Rs256);
    wide.as_object_mut().unwrap().extend(many.as_object().unwrap().clone());
    assert_eq!(header_refused(&wide.to_string()), "header_invalid");
}

#[test]
fn extensions_of_the_header() {
    for (more, reason) in [
        (json!({ "crit": ["exp"], "exp": 1 }), "critical_header"),
        (json!({ "crit": [] }), "critical_header"),
        (json!({ "crit": null }), "critical_header"),
        (json!({ "crit": ["b64"], "b64": false }), "critical_header"),
        (json!({ "b64": false }), "unencoded_payload"),
        (json!({ "b64": true }), "unencoded_payload"),
        (json!({ "zip": "DEF" }), "compressed"),
        (json!({ "cty": "JWT" }), "nested_token"),
        (json!({ "cty": "jwt" }), "nested_token"),
        (json!({ "cty": "application/JWT" }), "nested_token"),
        (json!({ "cty": 1 }), "header_invalid"),
        (json!({ "typ": 1 }), "header_invalid"),
        (json!({ "typ": "dpop+jwt" }), "type_refused"),
        (json!({ "typ": "logout+jwt" }), "type_refused"),
        (json!({ "unknown": { "a": 1 }, "nonce": "n" }), "taken"),
    ] {
        let mut header = header(Algorithm::Rs256);
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(header_refused(&header.to_string()), reason, "{more}");
    }
}

#[test]
fn an_unencoded_payload() {
    // RFC 7797 section 4.2: the payload stands in the token as it is, and is signed so
    let header = base64url(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#);
    let signature = SHARED.sign_bytes(Algorithm::Hs256, format!("{header}.$02").as_bytes());
    let token = format!("{header}.$02.{}", base64url(signature));
    assert_eq!(refused(&token, &keys(Algorithm::Hs256)), "malformed");
}

#[test]
fn a_nested_token() {
    let inner = RSA.token(Algorithm::Rs256, &claims());
    assert_eq!(payload_refused(&inner), "claims_invalid");
    let header = json!({ "alg": "RS256", "kid": "k1", "cty": "JWT" }).to_string();
    let outer = RSA.raw(Algorithm::Rs256, &header, &inner);
    assert_eq!(refused(&outer, &keys(Algorithm::Rs256)), "nested_token");
    let compact = kh_verify::Compact::decode(outer.as_bytes()).unwrap();
    assert_eq!(compact.read().err(), Some(Reason::NestedToken));
}

#[test]
fn a_payload_or_header_that_was_changed() {
    for algorithm in Algorithm::ALL {
        let token = signer(algorithm).token(algorithm, &claims());
        let parts: Vec<&str> = token.split('.').collect();
        let other = base64url(claims_with(json!({ "scope": "admin" })).to_string());
        let changed_header = base64url(json!({ "alg": algorithm.as_str(), "kid": "k1" }).to_string());
        let elsewhere = signer(algorithm).token(algorithm, &claims_with(json!({ "sub": "other" })));
        let foreign = elsewhere.rsplit('.').next().unwrap();
        for forged in [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{changed_header}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.{foreign}", parts[0], parts[1]),
        ] {
            assert_eq!(refused(&forged, &keys(algorithm)), "signature_invalid", "{algorithm}");
        }
    }
}

#[test]
fn every_single_bit_of_a_signature_counts() {
    for algorithm in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::EdDsa, Algorithm::Es256, Algorithm::Hs256] {
        let token = signer(algorithm).token(algorithm, &claims());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let good = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, signature).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert_eq!(refused(&format!("{signed}.{}", base64url(bad)), &keys(algorithm)), "signature_invalid");
        }
        for len in [1, good.len() - 1] {
            assert_eq!(
                refused(&format!("{signed}.{}", base64url(&good[..len])), &keys(algorithm)),
                "signature_invalid"
            );
        }
        let longer = [good.as_slice(), &[0]].concat();
        assert_eq!(refused(&format!("{signed}.{}", base64url(longer)), &keys(algorithm)), "signature_invalid");
    }
}

/// The measured table of gateways: what each product let through, for the part that is a token's own.
#[test]
fn the_refusal_matrix() {
    let now = 1_800_000_000;
    let public_as_secret = Signer::Octets(RSA.der()).token(Algorithm::Hs256, &claims());
    let unsigned = format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(claims().to_string()));
    for (name, token, key, reason) in [
        ("RS256", RSA.token(Algorithm::Rs256, &claims()), Algorithm::Rs256, "taken"),
        ("ES256", P256.token(Algorithm::Es256, &claims()), Algorithm::Es256, "taken"),
        ("EdDSA", ED.token(Algorithm::EdDsa, &claims()), Algorithm::EdDsa, "taken"),
        ("forged", RSA_OTHER.token(Algorithm::Rs256, &claims()), Algorithm::Rs256, "signature_invalid"),
        ("expired", RSA.token(Algorithm::Rs256, &claims_with(json!({ "exp": now - 31 }))), Algorithm::Rs256, "expired"),
        ("HS256 with the public key", public_as_secret, Algorithm::Rs256, "key_unfit"),
        ("alg none", unsigned, Algorithm::Rs256, "algorithm_none"),
        ("no token", String::new(), Algorithm::Rs256, "malformed"),
    ] {
        assert_eq!(refused(&token, &keys(key)), reason, "{name}");
    }
    let identity = outcome_of(&claims_with(json!({ "scope": "user:read:all analytics" })), &policy()).unwrap();
    assert!(!identity.scopes().contains("user:read"), "the beginning of a scope is not the scope");
    assert!(!identity.scopes().contains("analytics:reports:read"));
}
