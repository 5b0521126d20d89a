//! Issuers of the tests: they sign whatever they are told to, right or wrong.

use std::sync::LazyLock;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::{Identity, UnixMillis};
use kh_verify::{Accepted, Algorithm, Algorithms, KeySet, Policy, Reason, Symmetric, verify};
use serde_json::{Value, json};

/// The moment of the tests.
pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
pub(crate) const ISSUER: &str = "https://login.example.com/";
pub(crate) const AUDIENCE: &str = "https://api.example.com";
/// At least 64 bytes, so that it is long enough for every HMAC.
const OCTETS: &[u8] = b"sixty-four bytes of a symmetric key that both of the sides know!";

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs.
pub(crate) enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str, usize),
    Ed(Ed25519KeyPair),
    Octets(Vec<u8>),
}

pub(crate) static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::rsa(KeySize::Rsa2048));
pub(crate) static RSA_OTHER: LazyLock<Signer> = LazyLock::new(|| Signer::rsa(KeySize::Rsa2048));
pub(crate) static P256: LazyLock<Signer> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    Signer::Ec(pair, "P-256", 32)
});
pub(crate) static P384: LazyLock<Signer> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    Signer::Ec(pair, "P-384", 48)
});
pub(crate) static P521: LazyLock<Signer> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
    Signer::Ec(pair, "P-521", 66)
});
pub(crate) static ED: LazyLock<Signer> = LazyLock::new(|| Signer::Ed(Ed25519KeyPair::generate().unwrap()));
pub(crate) static SHARED: LazyLock<Signer> = LazyLock::new(|| Signer::Octets(OCTETS.to_vec()));

/// The key that is for this algorithm.
pub(crate) fn signer(algorithm: Algorithm) -> &'static Signer {
    match algorithm {
        Algorithm::Es256 => &P256,
        Algorithm::Es384 => &P384,
        Algorithm::Es512 => &P521,
        Algorithm::EdDsa => &ED,
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => &SHARED,
        _ => &RSA,
    }
}

impl Signer {
    pub(crate) fn rsa(size: KeySize) -> Self {
        Self::Rsa(RsaKeyPair::generate(size).unwrap())
    }

    /// The public JWK; the symmetric one for octets.
    pub(crate) fn jwk(&self) -> Value {
        match self {
            Self::Rsa(pair) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref());
                json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
            }
            Self::Ec(pair, curve, len) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": curve, "x": base64url(&point[1..=*len]), "y": base64url(&point[1 + len..]) })
            }
            Self::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) }),
            Self::Octets(key) => json!({ "kty": "oct", "k": base64url(key) }),
        }
    }

    /// The public JWK with these members as well.
    pub(crate) fn jwk_with(&self, more: Value) -> Value {
        let mut jwk = self.jwk();
        let Value::Object(more) = more else { panic!("members") };
        jwk.as_object_mut().unwrap().extend(more);
        jwk
    }

    /// The RSA public key in DER (PKCS #1).
    pub(crate) fn der(&self) -> Vec<u8> {
        let Self::Rsa(pair) = self else { panic!("an RSA key") };
        pair.public_key().as_ref().to_vec()
    }

    /// Signs bytes as this algorithm says; it must be one of the key's.
    pub(crate) fn sign_bytes(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    Algorithm::Rs256 => &RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    Algorithm::Ps384 => &RSA_PSS_SHA384,
                    Algorithm::Ps512 => &RSA_PSS_SHA512,
                    other => panic!("an RSA key does not sign {other}"),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair, ..) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Octets(key) => {
                let hash = match algorithm {
                    Algorithm::Hs256 => hmac::HMAC_SHA256,
                    Algorithm::Hs384 => hmac::HMAC_SHA384,
                    Algorithm::Hs512 => hmac::HMAC_SHA512,
                    other => panic!("octets do not sign {other}"),
                };
                hmac::sign(&hmac::Key::new(hash, key), message).as_ref().to_vec()
            }
        }
    }

    /// A token of this header and payload as they are, signed as `algorithm` says whatever the header says.
    pub(crate) fn raw(&self, algorithm: Algorithm, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.sign_bytes(algorithm, signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    }

    /// A token with these claims and the usual header.
    pub(crate) fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        self.raw(algorithm, &header(algorithm).to_string(), &claims.to_string())
    }
}

/// The two numbers of an RSA key in DER: lengths in the long form, as a key of 2048 bits has them.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (start, len) = match der[1] {
            0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
            0x81 => (3, usize::from(der[2])),
            short => (2, usize::from(short)),
        };
        (&der[start..start + len], &der[start + len..])
    }
    let (inside, _) = element(der);
    let (n, rest) = element(inside);
    let (e, _) = element(rest);
    (n.strip_prefix(&[0]).unwrap_or(n), e)
}

pub(crate) fn header(algorithm: Algorithm) -> Value {
    json!({ "alg": algorithm.as_str(), "typ": "at+jwt", "kid": "k1" })
}

/// Good claims.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "5e9d", "aud": AUDIENCE, "exp": 1_800_000_300, "nbf": 1_800_000_000, "iat": 1_800_000_000,
        "jti": "4f3a0d61-54d3-4a3c-9a29-2f6f3d1a5b7c", "client_id": "9b1f", "scope": "analytics:reports:read user:read",
    })
}

/// Good claims with these instead; null takes one away.
pub(crate) fn claims_with(other: Value) -> Value {
    let mut claims = claims();
    let Value::Object(other) = other else { panic!("members") };
    for (name, value) in other {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(&name)),
            value => drop(claims.as_object_mut().unwrap().insert(name, value)),
        }
    }
    claims
}

pub(crate) fn key_set(jwks: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": jwks }).to_string().as_bytes(), Symmetric::Refused).unwrap()
}

/// The issuer's key for this algorithm, by the name that good headers have.
pub(crate) fn keys(algorithm: Algorithm) -> KeySet {
    let jwk = signer(algorithm).jwk_with(json!({ "kid": "k1" }));
    KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes(), Symmetric::Accepted).unwrap()
}

pub(crate) fn policy() -> Policy {
    Policy::new(Accepted::only(ISSUER), Accepted::only(AUDIENCE))
}

/// What comes of an RS256 token with this header and payload by the usual keys and policy.
pub(crate) fn outcome(header: &str, payload: &str) -> Result<Identity, Reason> {
    verify(RSA.raw(Algorithm::Rs256, header, payload).as_bytes(), &keys(Algorithm::Rs256), &policy(), NOW)
}

/// What comes of an RS256 token with these claims by this policy.
pub(crate) fn outcome_of(claims: &Value, policy: &Policy) -> Result<Identity, Reason> {
    let token = RSA.token(Algorithm::Rs256, claims);
    verify(token.as_bytes(), &keys(Algorithm::Rs256), policy, NOW)
}

/// Why this token is refused; by any algorithm, also HMAC.
pub(crate) fn refused(token: &str, keys: &KeySet) -> &'static str {
    let policy = policy().with_algorithms(Algorithms::ALL);
    match verify(token.as_bytes(), keys, &policy, NOW) {
        Ok(_) => "taken",
        Err(reason) => reason.as_str(),
    }
}
