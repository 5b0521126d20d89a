//! What one verification takes from the heap: keys are parsed once, sets of names are not built per token.

use kh_verify::{Algorithm, Compact, verify};
use serde_json::json;

use crate::support::*;

/// Allocations of one verification that are ours and the signature library's together. RSA and ECDSA allocate numbers
/// of their own, in C and therefore not counted here.
const ALLOCATIONS_MAX: u64 = 20;

#[test]
fn a_verification_allocates_little() {
    let policy = policy();
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let (token, keys) = (signer(algorithm).token(algorithm, &claims()), keys(algorithm));
        let whole = allocation_counter::measure(|| drop(verify(token.as_bytes(), &keys, &policy, NOW).unwrap()));
        assert_eq!(whole.bytes_current, 0, "{algorithm}: nothing stays");
        assert!(whole.count_total <= ALLOCATIONS_MAX, "{algorithm}: {} allocations", whole.count_total);
        assert!(whole.bytes_total < 6 * token.len() as u64, "{algorithm}: {} bytes", whole.bytes_total);
        let read_first = allocation_counter::measure(|| {
            let compact = Compact::decode(token.as_bytes()).unwrap();
            drop(compact.read().unwrap().verify(&keys, &policy, NOW).unwrap());
        });
        assert!(read_first.count_total <= whole.count_total, "reading the issuer first costs nothing more");
    }
}

/// What a cache keeps of a token: 100,000 of these have to fit beside everything else in 64 MB.
#[test]
fn what_is_kept_of_a_typical_token_is_less_than_half_of_it() {
    let claims = claims_with(json!({
        "sub": "0f5a2c1e-6d1b-4f39-9d55-2d6c0c8c8d11",
        "client_id": "9b1f5f0a-8f0e-4c63-8d31-64a3d7d9a5f2",
        "scope": "analytics:reports:read user:read routing:queue:view",
    }));
    let token = RSA.token(Algorithm::Rs256, &claims);
    assert!((741..=900).contains(&token.len()), "{} bytes are not typical", token.len());
    let identity = verify(token.as_bytes(), &keys(Algorithm::Rs256), &policy(), NOW).unwrap();
    assert!(identity.weight() <= 350, "{} bytes", identity.weight());
}

#[test]
fn a_token_that_is_too_large_takes_nothing() {
    let token = vec![b'a'; kh_verify::jws::TOKEN_BYTES_MAX + 1];
    let taken = allocation_counter::measure(|| assert!(Compact::decode(&token).is_err()));
    assert_eq!(taken.count_total, 0);
}
