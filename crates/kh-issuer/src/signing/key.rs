//! One signing key: made, stored, used, and shown as a JWK (RFC 7517) without its private part.
//!
//! Invariant: the private part leaves this file only sealed, in the document of the secret store.

use std::fmt::Write as _;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::{SecretBytes, Sha256, UnixMillis};

use super::schedule::{Algorithm, Times};

/// A key that cannot be used: its bytes are not a private key of its algorithm.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the signing key is not a private key for {}", .0.as_str())]
pub(super) struct NotAKey(pub(super) Algorithm);

enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// A key pair with its times.
pub(super) struct Key {
    /// RFC 7638 thumbprint of the public key.
    pub(super) kid: String,
    pub(super) times: Times,
    /// When it was made, and first published.
    pub(super) made_at: UnixMillis,
    /// PKCS #8, as it is stored.
    pub(super) pkcs8: SecretBytes,
    /// The first segment of every token that it signs.
    pub(super) header: String,
    /// The public key as a JWK.
    pub(super) jwk: String,
    pair: Pair,
    public: ParsedPublicKey,
}

impl Key {
    /// Makes a key. Slow for RSA (some 100 ms): not on a thread that serves.
    pub(super) fn generate(times: Times, made_at: UnixMillis) -> Result<Self, NotAKey> {
        let not = |_| NotAKey(times.algorithm);
        // the library keeps no copy and wipes its own document
        let pkcs8 = match times.algorithm {
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(not)?;
                pair.to_pkcs8v1().map_err(not)?.as_ref().to_vec()
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(not)?;
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(not)?;
                der.as_ref().to_vec()
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().map_err(not)?;
                pair.to_pkcs8v1().map_err(not)?.as_ref().to_vec()
            }
        };
        Self::of(times, made_at, SecretBytes::new(pkcs8))
    }

    /// A key out of the store.
    pub(super) fn of(times: Times, made_at: UnixMillis, pkcs8: SecretBytes) -> Result<Self, NotAKey> {
        let algorithm = times.algorithm;
        let not = |_| NotAKey(algorithm);
        let (pair, members, public) = match algorithm {
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose()).map_err(not)?;
                let point = pair.public_key().as_ref();
                let members = ec_members(point).ok_or(NotAKey(algorithm))?;
                let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(not)?;
                (Pair::Es256(pair), members, public)
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8.expose()).map_err(not)?;
                let der = pair.public_key().as_ref();
                let members = rsa_members(der).ok_or(NotAKey(algorithm))?;
                let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).map_err(not)?;
                (Pair::Rs256(pair), members, public)
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8.expose()).map_err(not)?;
                let bytes = pair.public_key().as_ref();
                let members = format!(r#""crv":"Ed25519","kty":"OKP","x":"{}""#, encoded(bytes));
                let public = ParsedPublicKey::new(&ED25519, bytes).map_err(not)?;
                (Pair::EdDsa(pair), members, public)
            }
        };
        // RFC 7638: the required members in the order of their names, without white space
        let kid = encoded(&Sha256::of(format!("{{{members}}}").as_bytes()).0);
        let alg = algorithm.as_str();
        let jwk = format!(r#"{{{members},"use":"sig","alg":"{alg}","kid":"{kid}"}}"#);
        // RFC 9068 section 2.1
        let header = encoded(format!(r#"{{"typ":"at+jwt","alg":"{alg}","kid":"{kid}"}}"#).as_bytes());
        Ok(Self { kid, times, made_at, pkcs8, header, jwk, pair, public })
    }

    /// The signature over `message`, as a JWS has it (RFC 7518 section 3, RFC 8037 section 3.1). An RSA signature takes
    /// about a millisecond, the others some 20 us.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Es256(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Pair::EdDsa(pair) => Some(pair.try_sign(message).ok()?.as_ref().to_vec()),
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("times", &self.times).finish_non_exhaustive()
    }
}

kh_core::assert_closed!(Key);

pub(super) fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Strict: no padding, no other alphabet, no bits left over (RFC 7515 appendix C).
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// RFC 7518 section 6.2.1, from the uncompressed point of SEC 1.
fn ec_members(point: &[u8]) -> Option<String> {
    let (form, coordinates) = point.split_first()?;
    let (x, y) = coordinates.split_at_checked(32)?;
    (*form == 4 && y.len() == 32)
        .then(|| format!(r#""crv":"P-256","kty":"EC","x":"{}","y":"{}""#, encoded(x), encoded(y)))
}

/// RFC 7518 section 6.3.1, from `RSAPublicKey` of RFC 8017 appendix A.1.1.
fn rsa_members(der: &[u8]) -> Option<String> {
    let (sequence, after) = element(der, 0x30)?;
    let (modulus, rest) = element(sequence, 0x02)?;
    let (exponent, end) = element(rest, 0x02)?;
    if !after.is_empty() || !end.is_empty() {
        return None;
    }
    let mut members = String::new();
    write!(members, r#""e":"{}","kty":"RSA","n":"{}""#, encoded(unsigned(exponent)), encoded(unsigned(modulus)))
        .ok()?;
    Some(members)
}

/// The content of the DER element at the start of `der`, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    if *first < 0x80 {
        return rest.split_at_checked(usize::from(*first));
    }
    let (digits, rest) = rest.split_at_checked(usize::from(*first & 0x7f))?;
    if digits.len() > 3 {
        return None;
    }
    let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
    rest.split_at_checked(length)
}

/// A positive DER integer without the zero that keeps it positive.
fn unsigned(integer: &[u8]) -> &[u8] {
    match integer {
        [0, rest @ ..] if !rest.is_empty() => rest,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn times(algorithm: Algorithm) -> Times {
        Times { algorithm, signs_from: UnixMillis(0) }
    }

    #[test]
    fn a_key_of_each_algorithm_signs_verifies_and_comes_back_from_its_bytes() {
        for algorithm in Algorithm::ALL {
            let key = Key::generate(times(algorithm), UnixMillis(0)).unwrap();
            let again = Key::of(key.times, UnixMillis(0), key.pkcs8.duplicate()).unwrap();
            assert_eq!((&key.kid, &key.jwk, &key.header), (&again.kid, &again.jwk, &again.header));
            let signature = key.sign(b"message").unwrap();
            assert!(again.verifies(b"message", &signature) && !again.verifies(b"massage", &signature));
            assert!(!again.verifies(b"message", &vec![0; signature.len()]) && !again.verifies(b"message", &[]));
            let other = Key::generate(times(algorithm), UnixMillis(0)).unwrap();
            assert!(!other.verifies(b"message", &signature) && other.kid != key.kid);
            for wrong in Algorithm::ALL.iter().filter(|one| **one != algorithm) {
                let refused = Key::of(times(*wrong), UnixMillis(0), key.pkcs8.duplicate());
                assert_eq!(refused.err(), Some(NotAKey(*wrong)), "a key of {algorithm:?}");
            }
        }
    }

    #[test]
    fn a_jwk_has_the_public_members_alone() {
        for (algorithm, members) in [
            (Algorithm::Es256, vec!["alg", "crv", "kid", "kty", "use", "x", "y"]),
            (Algorithm::Rs256, vec!["alg", "e", "kid", "kty", "n", "use"]),
            (Algorithm::EdDsa, vec!["alg", "crv", "kid", "kty", "use", "x"]),
        ] {
            let key = Key::generate(times(algorithm), UnixMillis(0)).unwrap();
            let jwk: Value = serde_json::from_str(&key.jwk).unwrap();
            let mut names: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, members);
            assert_eq!((jwk["alg"].as_str(), jwk["kid"].as_str()), (Some(algorithm.as_str()), Some(key.kid.as_str())));
            if algorithm == Algorithm::Rs256 {
                let modulus = BASE64_URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
                assert_eq!((modulus.len(), modulus[0] >> 7, jwk["e"].as_str()), (256, 1, Some("AQAB")));
            }
        }
    }

    /// The example of RFC 7638 section 3.1.
    #[test]
    fn the_kid_is_the_thumbprint_of_the_standard() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let modulus = BASE64_URL_SAFE_NO_PAD.decode(n).unwrap();
        // RSAPublicKey around it, with the exponent 65537
        let mut der = vec![0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
        der.extend_from_slice(&modulus);
        der.extend_from_slice(&[0x02, 0x03, 0x01, 0x00, 0x01]);
        let members = rsa_members(&der).unwrap();
        assert_eq!(members, format!(r#""e":"AQAB","kty":"RSA","n":"{n}""#));
        let kid = encoded(&Sha256::of(format!("{{{members}}}").as_bytes()).0);
        assert_eq!(kid, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        for broken in [&der[..der.len() - 1], &[0x30, 0x84, 0, 0, 0, 0], &[], &[0x02, 0x01, 0x00]] {
            assert_eq!(rsa_members(broken), None);
        }
    }
}
