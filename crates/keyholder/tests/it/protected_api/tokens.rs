//! A signing key and tokens of it, made by hand: what is under test shares nothing with this but the mathematics.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the program under test reads the same clock")]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A part of a token.
pub fn encode(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// An ES256 key.
pub struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    pub fn new(id: &'static str) -> Self {
        Self { id, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    /// Its public part as a JWK.
    pub fn public(&self) -> Value {
        // uncompressed: 4, x, y
        let point = self.pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256", "x": x, "y": y })
    }

    /// A token with these claims; a claim that is null is left out.
    pub fn sign(&self, claims: &Value) -> String {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let input = format!("{}.{}", encode(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.id })), encode(&claims));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A `DPoP` proof with these claims (RFC 9449 section 4.2).
    pub fn proof(&self, claims: &Value) -> String {
        let mut jwk = self.public();
        jwk.as_object_mut().unwrap().retain(|name, _| ["kty", "crv", "x", "y"].contains(&name.as_str()));
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        let input = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token whose HMAC key is what everybody knows.
    pub fn sign_with_public_key(&self, claims: &Value) -> String {
        let input = format!("{}.{}", encode(&json!({ "alg": "HS256", "kid": self.id })), encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.pair.public_key().as_ref());
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, input.as_bytes())))
    }
}
