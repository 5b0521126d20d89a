//! RS256 signing (RFC 7515, RFC 7518 section 3.3). Invariant: one key per process, made at first use; the private part
//! never leaves the library.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

/// Key id of the vendor's id tokens.
const KEY_ID: &str = "default";

/// A signing key with its public JWK.
#[derive(Debug)]
pub(super) struct Signer {
    pair: RsaKeyPair,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl Signer {
    /// The key of this process; making one takes a noticeable part of a second.
    pub(super) fn of_process() -> Option<Arc<Self>> {
        static KEY: OnceLock<Option<Arc<Signer>>> = OnceLock::new();
        KEY.get_or_init(|| Self::generate().map(Arc::new)).clone()
    }

    fn generate() -> Option<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
        let der = pair.public_key().as_ref().to_vec();
        let (modulus, exponent) = public_numbers(&der)?;
        Some(Self { pair, modulus, exponent })
    }

    /// The public key (RFC 7517).
    pub(super) fn jwk(&self) -> Value {
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus), "e": URL_SAFE_NO_PAD.encode(&self.exponent),
        })
    }

    /// A token whose header names the key.
    pub(super) fn with_key_id(&self, claims: &Value) -> Option<String> {
        self.sign(&json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}), claims)
    }

    /// A token whose header does not, like the vendor's access tokens.
    pub(super) fn without_key_id(&self, claims: &Value) -> Option<String> {
        self.sign(&json!({"alg": "RS256", "typ": "JWT"}), claims)
    }

    fn sign(&self, header: &Value, claims: &Value) -> Option<String> {
        let head = URL_SAFE_NO_PAD.encode(header.to_string());
        let body = URL_SAFE_NO_PAD.encode(claims.to_string());
        let signed = format!("{head}.{body}");
        let mut signature = vec![0_u8; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Modulus and exponent of a DER `RSAPublicKey ::= SEQUENCE { INTEGER, INTEGER }` (RFC 8017 appendix A.1.1).
fn public_numbers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (sequence, _) = element(der, 0x30)?;
    let (modulus, rest) = element(sequence, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    Some((unsigned(modulus), unsigned(exponent)))
}

/// A DER integer without the zero byte that keeps it positive.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    bytes.strip_prefix(&[0]).unwrap_or(bytes).to_vec()
}

/// The content of a DER element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (octets.iter().try_fold(0_usize, |sum, &octet| Some(sum.checked_mul(256)? + usize::from(octet)))?, rest)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}
