//! DPoP proofs: each check of RFC 9449 section 4.3, and what is remembered.

use std::{cell::RefCell, time::Duration};

use kh_core::{Identity, Sha256, UnixMillis};
use kh_verify::{
    Algorithm, Algorithms, Reason,
    dpop::{
        JTI_BYTES_MAX, PROOF_BYTES_MAX, ProofFor, ProofId, ProofPolicy, Proven, Remembered, ReplayMemory, bare_origin,
        check_binding, check_key, check_proof, examine, origin,
    },
    thumbprint,
};
use serde_json::{Value, json};

use crate::support::*;

const URI: &str = "https://api.example.com/v1/reports";
const TOKEN: &[u8] = b"kht_0000";

#[derive(Default)]
struct Memory {
    seen: RefCell<Vec<(ProofId, UnixMillis)>>,
    full: bool,
}

impl ReplayMemory for Memory {
    fn remember(&self, proof: ProofId, until: UnixMillis) -> Remembered {
        if self.full {
            return Remembered::NoRoom;
        }
        let mut seen = self.seen.borrow_mut();
        if seen.iter().any(|(own, _)| *own == proof) {
            return Remembered::Again;
        }
        seen.push((proof, until));
        Remembered::New
    }
}

fn proof_header(signer: &Signer, algorithm: Algorithm) -> Value {
    json!({ "typ": "dpop+jwt", "alg": algorithm.as_str(), "jwk": signer.jwk() })
}

fn proof_claims() -> Value {
    json!({ "jti": "-BwC3ESc6acc2lTc", "htm": "GET", "htu": URI, "iat": 1_800_000_000, "ath": base64url(Sha256::of(TOKEN).0) })
}

fn with(mut base: Value, other: Value) -> Value {
    let Value::Object(other) = other else { panic!("members") };
    for (name, value) in other {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(&name);
        } else {
            base[name] = value;
        }
    }
    base
}

fn check_with(proof: &str, nonces: Option<&[&str]>, memory: &Memory) -> Result<Proven, Reason> {
    let wanted = ProofFor { method: "GET", uri: URI, token: Some(TOKEN), nonces };
    check_proof(proof.as_bytes(), &wanted, &ProofPolicy::default(), memory, NOW)
}

/// What comes of a proof with these members instead; a refused one must leave no trace.
fn said(header: Value, claims: Value) -> &'static str {
    let memory = Memory::default();
    let header = with(proof_header(&P256, Algorithm::Es256), header).to_string();
    let proof = P256.raw(Algorithm::Es256, &header, &with(proof_claims(), claims).to_string());
    let outcome = check_with(&proof, None, &memory);
    assert_eq!(memory.seen.borrow().len(), usize::from(outcome.is_ok()));
    outcome.map_or_else(Reason::as_str, |_| "taken")
}

#[test]
fn a_good_proof_of_every_algorithm_names_its_key() {
    for algorithm in Algorithms::ASYMMETRIC.iter() {
        let signer = signer(algorithm);
        let header = proof_header(signer, algorithm).to_string();
        let proof = signer.raw(algorithm, &header, &proof_claims().to_string());
        let proven = check_with(&proof, None, &Memory::default()).unwrap();
        assert_eq!(Some(proven.thumbprint), thumbprint::of_jwk(signer.jwk().to_string().as_bytes()), "{algorithm}");
    }
}

#[test]
fn each_check_of_a_proof() {
    let hash_of_other = base64url(Sha256::of(b"other").0);
    let none = || json!({});
    for (header, claims, outcome) in [
        (none(), none(), "taken"),
        (json!({ "typ": "DPOP+JWT" }), none(), "taken"),
        (json!({ "typ": "application/dpop+jwt" }), none(), "taken"),
        (json!({ "typ": null }), none(), "proof_malformed"),
        (json!({ "typ": "JWT" }), none(), "proof_malformed"),
        (json!({ "typ": "at+jwt" }), none(), "proof_malformed"),
        (json!({ "alg": "none" }), none(), "proof_algorithm"),
        (json!({ "alg": "HS256" }), none(), "proof_algorithm"),
        (json!({ "alg": "XS256" }), none(), "proof_algorithm"),
        (json!({ "alg": "ES384" }), none(), "proof_key"),
        (json!({ "jwk": null }), none(), "proof_key"),
        (json!({ "jwk": "x" }), none(), "proof_key"),
        (json!({ "jwk": SHARED.jwk() }), none(), "proof_key"),
        (json!({ "jwk": P256.jwk_with(json!({ "d": "AQAB" })) }), none(), "proof_key"),
        (json!({ "jwk": P256.jwk_with(json!({ "use": "enc" })) }), none(), "proof_key"),
        (json!({ "jwk": ED.jwk() }), none(), "proof_key"),
        (json!({ "crit": ["x"] }), none(), "proof_malformed"),
        (none(), json!({ "jti": null }), "proof_claims"),
        (none(), json!({ "jti": "" }), "proof_claims"),
        (none(), json!({ "jti": 7 }), "proof_claims"),
        (none(), json!({ "jti": "x".repeat(JTI_BYTES_MAX) }), "taken"),
        (none(), json!({ "jti": "x".repeat(JTI_BYTES_MAX + 1) }), "proof_claims"),
        (none(), json!({ "htm": null }), "proof_claims"),
        (none(), json!({ "htm": "POST" }), "proof_method"),
        (none(), json!({ "htm": "get" }), "proof_method"),
        (none(), json!({ "htu": null }), "proof_claims"),
        (none(), json!({ "htu": "HTTPS://API.example.com:443/v1/reports?x=1#y" }), "taken"),
        (none(), json!({ "htu": "https://api.example.com/v1/reports/" }), "proof_uri"),
        (none(), json!({ "htu": "http://api.example.com/v1/reports" }), "proof_uri"),
        (none(), json!({ "htu": "https://attacker.example/v1/reports" }), "proof_uri"),
        (none(), json!({ "htu": "/v1/reports" }), "proof_uri"),
        (none(), json!({ "iat": null }), "proof_claims"),
        (none(), json!({ "iat": "1800000000" }), "proof_claims"),
        (none(), json!({ "iat": -1 }), "proof_claims"),
        (none(), json!({ "iat": 1_799_999_941 }), "taken"),
        (none(), json!({ "iat": 1_799_999_940 }), "proof_time"),
        (none(), json!({ "iat": 1_800_000_060 }), "taken"),
        (none(), json!({ "iat": 1_800_000_061 }), "proof_time"),
        (none(), json!({ "exp": 1_799_999_000 }), "proof_time"),
        (none(), json!({ "nbf": 1_800_001_000 }), "proof_time"),
        (none(), json!({ "ath": null }), "proof_token_hash"),
        (none(), json!({ "ath": hash_of_other }), "proof_token_hash"),
        (none(), json!({ "ath": "x" }), "proof_token_hash"),
        (none(), json!({ "ath": 1 }), "proof_claims"),
        (none(), json!({ "nonce": 1 }), "proof_claims"),
        (none(), json!({ "nonce": "not asked for" }), "taken"),
    ] {
        assert_eq!(said(header.clone(), claims.clone()), outcome, "{header} {claims}");
    }
}

#[test]
fn forms_that_are_no_proof() {
    let header = proof_header(&P256, Algorithm::Es256).to_string();
    let good = P256.raw(Algorithm::Es256, &header, &proof_claims().to_string());
    let memory = Memory::default();
    let (signed, _) = good.rsplit_once('.').unwrap();
    for (proof, outcome) in [
        (String::new(), Reason::ProofMalformed),
        (format!("{good},{good}"), Reason::ProofMalformed),
        (format!("{good} "), Reason::ProofMalformed),
        (format!("{signed}."), Reason::ProofSignature),
        (format!("{signed}.{}", base64url([0; 64])), Reason::ProofSignature),
        ("a".repeat(PROOF_BYTES_MAX + 1), Reason::ProofMalformed),
        (P256.raw(Algorithm::Es256, &header, "[]"), Reason::ProofClaims),
        (P256.raw(Algorithm::Es256, &header, r#"{"jti":"a","jti":"a"}"#), Reason::ProofClaims),
    ] {
        assert_eq!(check_with(&proof, None, &memory), Err(outcome), "{proof}");
    }
    assert!(memory.seen.borrow().is_empty());
}

#[test]
fn a_proof_is_taken_once_and_remembered_as_long_as_it_is_good() {
    let header = proof_header(&P256, Algorithm::Es256).to_string();
    let proof = P256.raw(Algorithm::Es256, &header, &proof_claims().to_string());
    // the same key and name, signed again: ECDSA signatures differ, the proof does not
    let again = P256.raw(Algorithm::Es256, &header, &with(proof_claims(), json!({ "iat": 1_800_000_001 })).to_string());
    let memory = Memory::default();
    assert!(check_with(&proof, None, &memory).is_ok());
    assert_eq!(check_with(&proof, None, &memory), Err(Reason::ProofReplayed));
    assert_eq!(check_with(&again, None, &memory), Err(Reason::ProofReplayed));
    assert_eq!(memory.seen.borrow()[0].1, NOW.plus(Duration::from_mins(1)));
    // another client's proof of the same name is another proof
    let other = ED.raw(Algorithm::EdDsa, &proof_header(&ED, Algorithm::EdDsa).to_string(), &proof_claims().to_string());
    assert!(check_with(&other, None, &memory).is_ok());
    let full = Memory { full: true, ..Memory::default() };
    assert_eq!(check_with(&proof, None, &full), Err(Reason::ProofUnremembered));
}

#[test]
fn a_nonce_that_was_asked_for_must_be_there() {
    let header = proof_header(&P256, Algorithm::Es256).to_string();
    let proof = |claims: Value| P256.raw(Algorithm::Es256, &header, &with(proof_claims(), claims).to_string());
    let nonces = Some(["old", "new"].as_slice());
    let memory = Memory::default();
    for bad in [json!({}), json!({ "nonce": "" }), json!({ "nonce": "ol" }), json!({ "nonce": "other" })] {
        assert_eq!(check_with(&proof(bad), nonces, &memory), Err(Reason::ProofNonce));
    }
    assert!(memory.seen.borrow().is_empty());
    assert!(check_with(&proof(json!({ "nonce": "old" })), nonces, &memory).is_ok());
    assert!(check_with(&proof(json!({ "nonce": "new", "jti": "2" })), nonces, &memory).is_ok());
}

#[test]
fn a_bound_token_needs_its_own_key_and_a_proof_needs_a_bound_token() {
    let bound_to = |signer: &Signer| {
        let jkt = base64url(thumbprint::of_jwk(signer.jwk().to_string().as_bytes()).unwrap().0);
        outcome_of(&claims_with(json!({ "cnf": { "jkt": jkt } })), &policy()).unwrap()
    };
    let header = proof_header(&P256, Algorithm::Es256).to_string();
    let proof = P256.raw(Algorithm::Es256, &header, &proof_claims().to_string());
    let proven = check_with(&proof, None, &Memory::default()).unwrap();
    assert_eq!(check_binding(&bound_to(&P256), Some(&proven)), Ok(()));
    assert_eq!(check_binding(&bound_to(&ED), Some(&proven)), Err(Reason::ProofKeyMismatch));
    assert_eq!(check_binding(&bound_to(&P256), None), Err(Reason::ProofMissing));
    let bearer: Identity = outcome_of(&claims(), &policy()).unwrap();
    assert_eq!(check_binding(&bearer, None), Ok(()));
    assert_eq!(check_binding(&bearer, Some(&proven)), Err(Reason::ProofUnbound));
}

#[test]
fn a_proof_is_no_access_token_and_a_token_is_no_proof() {
    let header = with(proof_header(&RSA, Algorithm::Rs256), json!({ "kid": "k1" })).to_string();
    let proof = RSA.raw(Algorithm::Rs256, &header, &claims().to_string());
    assert_eq!(refused(&proof, &keys(Algorithm::Rs256)), "type_refused");
    let token = RSA.token(Algorithm::Rs256, &claims());
    assert_eq!(check_with(&token, None, &Memory::default()), Err(Reason::ProofMalformed));
}

#[test]
fn origins_of_addresses() {
    for (address, whole, bare) in [
        ("https://API.example:443/v1?a=b", Some("https://api.example"), None),
        ("https://API.example:443/", Some("https://api.example"), Some("https://api.example")),
        ("http://api.example:8080", Some("http://api.example:8080"), Some("http://api.example:8080")),
        ("https://[2001:db8::1]:8443/", Some("https://[2001:db8::1]:8443"), Some("https://[2001:db8::1]:8443")),
        ("https://api.example/?a", Some("https://api.example"), None),
        ("https://api.example#a", Some("https://api.example"), None),
        ("api.example", None, None),
        ("https://user@api.example", None, None),
        ("", None, None),
    ] {
        assert_eq!((origin(address).as_deref(), bare_origin(address).as_deref()), (whole, bare), "{address}");
    }
}

/// RFC 9449 section 4.3, check 12, and what a server does with a proof that is right but for something else.
#[test]
fn a_proof_that_is_only_examined_is_not_remembered() {
    let header = proof_header(&P256, Algorithm::Es256).to_string();
    let proof = P256.raw(Algorithm::Es256, &header, &proof_claims().to_string());
    let wanted = ProofFor { method: "GET", uri: URI, token: Some(TOKEN), nonces: None };
    let memory = Memory::default();
    let examined = examine(proof.as_bytes(), &wanted, &ProofPolicy::default(), NOW).unwrap();
    assert!(memory.seen.borrow().is_empty());
    assert_eq!(check_key(None, Some(&examined.thumbprint)), Err(Reason::ProofUnbound));
    assert!(examined.remember(&memory).is_ok());
    assert_eq!(examined.remember(&memory), Err(Reason::ProofReplayed));
}

#[test]
fn the_example_of_the_standard() {
    // RFC 9449 section 4.1: a proof for the token endpoint, at its time
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let wanted = ProofFor { method: "POST", uri: "https://server.example.com/token", token: None, nonces: None };
    let at = UnixMillis(1_562_262_616_000);
    let memory = Memory::default();
    let proven = check_proof(proof.as_bytes(), &wanted, &ProofPolicy::default(), &memory, at).unwrap();
    // section 6.1 names the thumbprint of this key
    assert_eq!(base64url(proven.thumbprint.0), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}
