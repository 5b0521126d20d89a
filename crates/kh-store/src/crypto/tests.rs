//! Known answers, and the separation of keys.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 5869 appendix A.1 with its own info, through the same calls.
#[test]
fn hkdf_is_the_one_of_rfc_5869() {
    let salt = hex("000102030405060708090a0b0c");
    let mut out = [0; 42];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &salt)
        .extract(&[0x0b; 22])
        .expand(&[&hex("f0f1f2f3f4f5f6f7f8f9")], Length(42))
        .and_then(|material| material.fill(&mut out))
        .unwrap();
    let known = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(out.as_slice(), hex(known));
}

#[test]
fn labels_contexts_and_salts_separate_keys() {
    let base = derive(b"secret", b"salt", "label", b"context");
    for other in [
        derive(b"secreu", b"salt", "label", b"context"),
        derive(b"secret", b"salu", "label", b"context"),
        derive(b"secret", b"salt", "labem", b"context"),
        derive(b"secret", b"salt", "label", b"contexu"),
        derive(b"secret", b"salt", "labelc", b"ontext"),
    ] {
        assert_ne!(base, other);
    }
    assert_eq!(base, derive(b"secret", b"salt", "label", b"context"));
}

#[test]
fn what_is_sealed_opens_only_as_it_was() {
    let key = |salt: &[u8]| OneTimeKey::derive(b"data key", salt, "row");
    let sealed = key(b"1").seal(b"name", b"value");
    assert_eq!(key(b"1").open(b"name", &sealed).unwrap().expose(), b"value");
    assert!(key(b"2").open(b"name", &sealed).is_none());
    assert!(key(b"1").open(b"nama", &sealed).is_none());
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        assert!(key(b"1").open(b"name", &changed).is_none(), "byte {index}");
    }
    assert!(key(b"1").open(b"name", &sealed[..3]).is_none());
}

#[test]
fn encodings_of_different_lists_differ() {
    let encode = |parts: &[&[u8]]| parts.iter().fold(Encoding::of("x"), |encoding, part| encoding.bytes(part)).finish();
    assert_ne!(encode(&[b"ab", b"c"]), encode(&[b"a", b"bc"]));
    assert_ne!(encode(&[b"ab"]), encode(&[b"ab", b""]));
}

#[test]
fn stretching_is_bounded_and_depends_on_all_inputs() {
    let passphrase = SecretString::copied("correct horse");
    let params = KdfParams { memory_kib: 64, passes: 1, lanes: 1 };
    let base = stretch(&passphrase, &[1; 32], params).unwrap();
    assert_ne!(base, stretch(&passphrase, &[2; 32], params).unwrap());
    assert_ne!(base, stretch(&SecretString::copied("Correct horse"), &[1; 32], params).unwrap());
    assert_ne!(base, stretch(&passphrase, &[1; 32], KdfParams { passes: 2, ..params }).unwrap());
    for bad in [
        KdfParams { memory_kib: 4 * 1024 * 1024, ..params },
        KdfParams { memory_kib: 1, ..params },
        KdfParams { passes: 0, ..params },
        KdfParams { passes: 1000, ..params },
        KdfParams { lanes: 0, ..params },
        KdfParams { lanes: 1000, ..params },
    ] {
        assert!(stretch(&passphrase, &[1; 32], bad).is_none(), "{bad:?}");
    }
}

#[test]
fn the_default_cost_is_accepted() {
    assert!(stretch(&SecretString::copied("correct horse"), &[1; 32], KdfParams::DEFAULT).is_some());
}
