//! What one verification takes from the heap: keys are parsed once, sets of names are not built per token.

use kh_verify::{Algorithm, Compact, verify};

use crate::support::*;

/// Allocations of one verification that are ours and the signature library's together. RSA and ECDSA allocate numbers
/// of their own, in C and therefore not counted here.
const ALLOCATIONS_MAX: u64 = 24;

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

#[test]
fn a_token_that_is_too_large_takes_nothing() {
    let token = vec![b'a'; kh_verify::jws::TOKEN_BYTES_MAX + 1];
    let taken = allocation_counter::measure(|| assert!(Compact::decode(&token).is_err()));
    assert_eq!(taken.count_total, 0);
}
