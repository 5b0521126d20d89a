//! Edge cases of RSA signatures: numbers that are none of the key's, and padding that is read loosely.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::Sha256;
use kh_verify::Algorithm;
use serde_json::json;

use crate::support::*;

#[test]
fn numbers_that_are_none_of_the_keys() {
    let jwk = RSA.jwk();
    let modulus = BASE64_URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let small = |value: u8| [vec![0; modulus.len() - 1], vec![value]].concat();
    let mut less = modulus.clone();
    // it is odd, so this borrows nothing
    *less.last_mut().unwrap() -= 1;
    for algorithm in [Algorithm::Rs256, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps512] {
        let token = RSA.token(algorithm, &claims());
        let (signed, good) = token.rsplit_once('.').unwrap();
        let good = BASE64_URL_SAFE_NO_PAD.decode(good).unwrap();
        let padded = [&[0], good.as_slice()].concat();
        let largest = vec![0xff; modulus.len()];
        for bad in [&small(0), &small(1), &small(2), &modulus, &less, &largest, &padded] {
            let token = format!("{signed}.{}", base64url(bad));
            assert_eq!(refused(&token, &keys(algorithm)), "signature_invalid", "{algorithm}");
        }
    }
}

/// DigestInfo of SHA-256 (RFC 8017 section 9.2, note 1).
const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// Bytes of a cube root of 2048 bits.
const ROOT_BYTES: usize = 86;

/// With an exponent of 3 a number can be found, without any private key, whose cube begins as the padded digest does
/// (Bleichenbacher 2006, CVE-2006-4339). A verifier that stops reading behind the digest takes it.
#[test]
fn padding_is_read_to_its_last_byte() {
    let keys = key_set(&[RSA.jwk_with(json!({ "e": base64url([3]), "kid": "k1" }))]);
    let signed = format!("{}.{}", base64url(header(Algorithm::Rs256).to_string()), base64url(claims().to_string()));
    let digest = Sha256::of(signed.as_bytes()).0;
    for padding in [0, 1, 8, 30] {
        let start = [&[0, 1][..], &vec![0xff; padding], &[0], &DIGEST_INFO, &digest].concat();
        let mut block = start.clone();
        block.resize(256, 0);
        let root = cube_root_above(&block);
        let cube = times(&times(&root, &root), &root);
        assert!(cube[2..].starts_with(&start), "the forgery is one: {padding}");
        let signature = [vec![0; 256 - ROOT_BYTES], root].concat();
        let token = format!("{signed}.{}", base64url(signature));
        assert_eq!(refused(&token, &keys), "signature_invalid", "{padding}");
    }
}

/// The smallest number whose cube is not below this one.
fn cube_root_above(number: &[u8]) -> Vec<u8> {
    let wanted = [&[0, 0], number].concat();
    let mut root = vec![0; ROOT_BYTES];
    for bit in (0..8 * ROOT_BYTES).rev() {
        let at = ROOT_BYTES - 1 - bit / 8;
        root[at] |= 1 << (bit % 8);
        if times(&times(&root, &root), &root) >= wanted {
            root[at] &= !(1 << (bit % 8));
        }
    }
    // one more than the largest whose cube is below
    for digit in root.iter_mut().rev() {
        *digit = digit.wrapping_add(1);
        if *digit != 0 {
            break;
        }
    }
    root
}

/// A product in as many bytes as both factors have.
fn times(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut product = vec![0_u32; a.len() + b.len()];
    for (i, x) in a.iter().rev().enumerate().filter(|(_, x)| **x != 0) {
        let mut carry = 0;
        for (j, y) in b.iter().rev().enumerate() {
            let sum = product[i + j] + u32::from(*x) * u32::from(*y) + carry;
            product[i + j] = sum & 0xff;
            carry = sum >> 8;
        }
        product[i + b.len()] += carry;
    }
    product.into_iter().rev().map(|digit| u8::try_from(digit).unwrap()).collect()
}
