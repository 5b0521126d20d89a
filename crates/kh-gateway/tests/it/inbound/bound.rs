//! Tokens that are bound to their sender: by the certificate of the connection (RFC 8705), by a proof of the request
//! (RFC 9449). Each way in has its negative twin.

mod by_certificate;
mod by_key;

use std::sync::LazyLock;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::{Clock, Sha256};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::*;

/// A client's certificate with its key.
type Identity = (CertificateDer<'static>, Vec<u8>);

/// An authority of clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), key.serialize_der())
    }
}

fn private(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(identity.1.clone()).unwrap()
}

/// The regional authority, one for all tenants, and two of the clients that it vouches for.
static REGION: LazyLock<Authority> = LazyLock::new(|| Authority::new("region"));
static OURS: LazyLock<Identity> = LazyLock::new(|| REGION.issue("ours.example"));
static THEIRS: LazyLock<Identity> = LazyLock::new(|| REGION.issue("theirs.example"));

/// What the token `of-certificate` is bound to.
pub(super) fn of_certificate() -> Confirmation {
    Confirmation::X5tS256(Sha256::of(&OURS.0).0)
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A client's key for proofs.
struct Key(EcdsaKeyPair);

static KEY: LazyLock<Key> = LazyLock::new(Key::new);
static OTHER_KEY: LazyLock<Key> = LazyLock::new(Key::new);

/// What the token `of-key` is bound to.
pub(super) fn of_key() -> Confirmation {
    Confirmation::Jkt(kh_verify::thumbprint::of_jwk(KEY.jwk().to_string().as_bytes()).unwrap().0)
}

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..]) })
    }

    /// A proof with these claims in place of the usual ones; `null` leaves one out.
    fn proof(&self, claims: &Value) -> String {
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk() });
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url(signature))
    }
}

fn now() -> u64 {
    SystemClock::new().now().wall.as_secs()
}

/// The claims of a good proof for `of-key`, with others in their place.
fn claims(method: &str, address: &str, other: &Value) -> Value {
    static NAMES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let name = NAMES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut claims = json!({
        "jti": format!("proof-{name}"), "htm": method, "htu": address, "iat": now(),
        "ath": base64url(Sha256::of(b"of-key").0),
    });
    for (name, value) in other.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}
