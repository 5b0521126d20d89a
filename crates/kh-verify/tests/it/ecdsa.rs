//! Edge cases of ECDSA signatures, of the kinds that Project Wycheproof collects: zero (CVE-2022-21449), empty, over the
//! order, wrong lengths and encodings.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_verify::{Algorithm, verify};

use crate::support::*;

/// The order of each curve (SEC 2 sections 2.4.2, 2.5.1, 2.6.1).
const ORDERS: [(Algorithm, &str); 3] = [
    (Algorithm::Es256, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
    (
        Algorithm::Es384,
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    ),
    (
        Algorithm::Es512,
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// `a - b` of numbers of one length, the first of which is not the smaller.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut digits: Vec<u8> = (a.iter().rev().zip(b.iter().rev()))
        .map(|(a, b)| {
            let difference = 256 + i32::from(*a) - i32::from(*b) - borrow;
            borrow = i32::from(difference < 256);
            u8::try_from(difference % 256).unwrap()
        })
        .collect();
    assert_eq!(borrow, 0);
    digits.reverse();
    digits
}

fn number(len: usize, value: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[len - 1] = value;
    bytes
}

struct Case {
    algorithm: Algorithm,
    order: Vec<u8>,
    signed: String,
    r: Vec<u8>,
    s: Vec<u8>,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        ORDERS.into_iter().map(|(algorithm, order)| {
            let order = bytes(order);
            let token = signer(algorithm).token(algorithm, &claims());
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            let (r, s) = signature.split_at(order.len());
            Self { algorithm, signed: signed.into(), r: r.into(), s: s.into(), order }
        })
    }

    fn outcome(&self, signature: &[u8]) -> &'static str {
        refused(&format!("{}.{}", self.signed, base64url(signature)), &keys(self.algorithm))
    }
}

#[test]
fn zero_and_empty_signatures() {
    for case in Case::all() {
        let len = case.order.len();
        let (zero, one) = (number(len, 0), number(len, 1));
        assert_eq!(case.outcome(&[case.r.clone(), case.s.clone()].concat()), "taken");
        for (r, s) in [
            (&zero, &zero),
            (&zero, &one),
            (&one, &zero),
            (&one, &one),
            (&zero, &case.s),
            (&case.r, &zero),
            (&one, &case.s),
            (&case.r, &one),
        ] {
            assert_eq!(case.outcome(&[r.as_slice(), s].concat()), "signature_invalid", "{}", case.algorithm);
        }
        for len in [0, 1, 2, len, 2 * len - 1, 2 * len + 1, 4 * len] {
            assert_eq!(case.outcome(&vec![0; len]), "signature_invalid", "{} {len}", case.algorithm);
        }
    }
}

#[test]
fn numbers_of_the_order_and_above() {
    for case in Case::all() {
        let len = case.order.len();
        let less = minus(&case.order, &number(len, 1));
        let above = {
            let mut above = case.order.clone();
            *above.last_mut().unwrap() += 1;
            above
        };
        let largest = vec![0xff; len];
        for edge in [&case.order, &less, &above, &largest] {
            for (r, s) in [(edge, edge), (&case.r, edge), (edge, &case.s)] {
                assert_eq!(case.outcome(&[r.as_slice(), s].concat()), "signature_invalid", "{}", case.algorithm);
            }
        }
    }
}

#[test]
fn other_encodings_of_a_good_signature() {
    for case in Case::all() {
        let swapped = [case.s.as_slice(), &case.r].concat();
        let padded = [&[0], case.r.as_slice(), &[0], &case.s].concat();
        let reversed: Vec<u8> = case.r.iter().rev().chain(case.s.iter().rev()).copied().collect();
        let integer = |number: &[u8]| {
            let digits: Vec<u8> = number.iter().skip_while(|byte| **byte == 0).copied().collect();
            let sign = if digits[0] >= 0x80 { vec![0] } else { Vec::new() };
            let len = u8::try_from(sign.len() + digits.len()).unwrap();
            [vec![2, len], sign, digits].concat()
        };
        let inside = [integer(&case.r), integer(&case.s)].concat();
        let len = u8::try_from(inside.len()).unwrap();
        let start = if len < 0x80 { vec![0x30, len] } else { vec![0x30, 0x81, len] };
        let der = [start, inside].concat();
        for (name, other) in [("swapped", swapped), ("padded", padded), ("reversed", reversed), ("DER", der)] {
            assert_eq!(case.outcome(&other), "signature_invalid", "{} {name}", case.algorithm);
        }
        let mut shorter = case.r.clone();
        shorter.extend(&case.s[1..]);
        assert_eq!(case.outcome(&shorter), "signature_invalid");
    }
}

/// Why a revocation by the token's hash alone is none: who holds a token can write it in a second way.
#[test]
fn an_ecdsa_signature_has_a_second_spelling_of_the_same_identity() {
    for case in Case::all() {
        let good = format!("{}.{}", case.signed, base64url([case.r.as_slice(), &case.s].concat()));
        let mirrored = [case.r.as_slice(), &minus(&case.order, &case.s)].concat();
        let second = format!("{}.{}", case.signed, base64url(mirrored));
        assert_ne!(good, second);
        let identity = |token: &str| verify(token.as_bytes(), &keys(case.algorithm), &policy(), NOW).unwrap();
        assert_eq!(identity(&good), identity(&second), "the same token id, so that a revocation by it takes both");
        assert_eq!(identity(&second).token_id(), Some("4f3a0d61-54d3-4a3c-9a29-2f6f3d1a5b7c"));
    }
}

#[test]
fn an_ed25519_signature_has_no_second_spelling() {
    // RFC 8032 section 5.1.7: the second half must be below the order of the group
    let order = bytes("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed");
    let token = ED.token(Algorithm::EdDsa, &claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(order.iter().rev()) {
        let sum = u16::from(*byte) + u16::from(*add) + carry;
        *byte = u8::try_from(sum % 256).unwrap();
        carry = sum / 256;
    }
    assert_eq!(carry, 0, "there is room for the order");
    assert_eq!(refused(&format!("{signed}.{}", base64url(signature)), &keys(Algorithm::EdDsa)), "signature_invalid");
    for zero in [[0; 64].as_slice(), &[[1; 1].as_slice(), &[0; 63]].concat()] {
        assert_eq!(refused(&format!("{signed}.{}", base64url(zero)), &keys(Algorithm::EdDsa)), "signature_invalid");
    }
}
