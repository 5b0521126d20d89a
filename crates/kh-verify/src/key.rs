//! One key of an issuer: a JWK (RFC 7517) that was parsed once, and what it may verify.
//!
//! Invariants: the key's type, curve, `alg`, `use` and `key_ops` all bind, and what it may not verify it has no verifier
//! for; a private key is never taken, because a key that was published is nobody's.

use std::fmt;

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
        RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
        VerificationAlgorithm,
    },
};

use crate::{
    Algorithm, Algorithms, base64url,
    json::{Json, Object},
};

/// Smallest RSA modulus (RFC 7518 section 3.3).
pub const RSA_BITS_MIN: usize = 2048;

/// Largest RSA modulus: a larger one makes each verification a way to spend our time.
pub const RSA_BITS_MAX: usize = 8192;

/// Longest `kid`, in bytes; those of real issuers have at most 64.
pub const KID_BYTES_MAX: usize = 256;

/// Longest symmetric key, in bytes: a longer one is hashed first (RFC 2104) and no stronger.
const HMAC_BYTES_MAX: usize = 1024;

/// Whether symmetric keys are taken. Whoever can verify with one can also sign with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symmetric {
    /// A symmetric key is left out.
    Refused,
    /// A symmetric key verifies HMAC.
    Accepted,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    /// `kty` is missing or unknown.
    #[error("its `kty` is not known")]
    UnknownType,
    /// `crv` is missing or unknown.
    #[error("its `crv` is not known")]
    UnknownCurve,
    /// `use` or `key_ops` says that it is for something else.
    #[error("its `use` or `key_ops` is not for verifying signatures")]
    NotForVerifying,
    /// `alg` is no signature algorithm that is known.
    #[error("its `alg` is no known signature algorithm")]
    UnknownAlgorithm,
    /// `alg` does not fit `kty` and `crv`.
    #[error("its `alg` does not fit its type or curve")]
    UnfitAlgorithm,
    /// A member is missing or has not the form that RFC 7518 section 6 demands, or the point is not on the curve.
    #[error("its members are not those of such a key")]
    Malformed,
    /// An RSA modulus of fewer than 2048 or more than 8192 bits, a bad exponent, or a short symmetric key.
    #[error("its size is not safe")]
    UnsafeSize,
    /// It has private members.
    #[error("it is a private key")]
    Private,
    /// It is symmetric, and those are refused.
    #[error("it is a symmetric key")]
    Symmetric,
}

/// A key that verifies signatures.
pub struct Key {
    kid: Option<Box<str>>,
    verifiers: Vec<(Algorithm, Verifier)>,
}

enum Verifier {
    Public { key: ParsedPublicKey, signature_len: usize },
    Hmac { key: Box<hmac::Key>, signature_len: usize },
}

impl Key {
    pub(crate) fn of(jwk: &Object<'_>, symmetric: Symmetric) -> Result<Self, Unusable> {
        let text = |name: &str| jwk.text(name).map_err(|_| Unusable::Malformed);
        let kid = text("kid")?;
        if kid.is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(Unusable::Malformed);
        }
        for_verifying(jwk)?;
        let verifiers = match text("kty")? {
            Some("RSA") => rsa(jwk)?,
            Some("EC") => elliptic(jwk)?,
            Some("OKP") => edwards(jwk)?,
            Some("oct") if symmetric == Symmetric::Refused => return Err(Unusable::Symmetric),
            Some("oct") => octets(jwk)?,
            Some(_) => return Err(Unusable::UnknownType),
            None => return Err(Unusable::Malformed),
        };
        Ok(Self { kid: kid.map(Into::into), verifiers })
    }

    /// The key's name (`kid`).
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What it may verify.
    pub fn algorithms(&self) -> Algorithms {
        self.verifiers.iter().map(|(algorithm, _)| *algorithm).collect()
    }

    /// Whether `signature` over `message` is this key's; false too when the key is not for the algorithm.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match self.verifiers.iter().find(|(own, _)| *own == algorithm).map(|(_, verifier)| verifier) {
            Some(Verifier::Public { key, signature_len }) => {
                signature.len() == *signature_len && key.verify_sig(message, signature).is_ok()
            }
            Some(Verifier::Hmac { key, signature_len }) => {
                signature.len() == *signature_len && hmac::verify(key, message, signature).is_ok()
            }
            None => false,
        }
    }

    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        self.verifiers.iter().any(|(own, _)| *own == algorithm)
    }
}

impl fmt::Debug for Key {
    /// Nothing of the key itself: it may be symmetric.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithms", &self.algorithms()).finish_non_exhaustive()
    }
}

/// RFC 7517 sections 4.2 and 4.3: both are optional, and each that is there must allow it.
fn for_verifying(jwk: &Object<'_>) -> Result<(), Unusable> {
    match jwk.get("use") {
        None => {}
        Some(Json::Text(usage)) if usage == "sig" => {}
        Some(Json::Text(_)) => return Err(Unusable::NotForVerifying),
        Some(_) => return Err(Unusable::Malformed),
    }
    let Some(operations) = jwk.get("key_ops") else { return Ok(()) };
    let operations = operations.texts().ok_or(Unusable::Malformed)?;
    let repeats = operations.iter().enumerate().any(|(at, one)| operations.iter().take(at).any(|other| other == one));
    if repeats {
        return Err(Unusable::Malformed);
    }
    if operations.contains(&"verify") { Ok(()) } else { Err(Unusable::NotForVerifying) }
}

/// What the key's own `alg` leaves of `possible`.
fn bound(jwk: &Object<'_>, possible: Algorithms) -> Result<Algorithms, Unusable> {
    let Some(name) = jwk.text("alg").map_err(|_| Unusable::Malformed)? else { return Ok(possible) };
    let own = Algorithms::of(&[Algorithm::parse(name).ok_or(Unusable::UnknownAlgorithm)?]);
    let left = possible.and(own);
    if left.is_empty() { Err(Unusable::UnfitAlgorithm) } else { Ok(left) }
}

fn public_only(jwk: &Object<'_>) -> Result<(), Unusable> {
    // RFC 7518 sections 6.2.2 and 6.3.2, RFC 8037 section 2; `k` is a symmetric key's
    let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    if private.iter().any(|name| jwk.get(name).is_some()) { Err(Unusable::Private) } else { Ok(()) }
}

fn bytes(jwk: &Object<'_>, name: &str) -> Result<Vec<u8>, Unusable> {
    let text = jwk.text(name).ok().flatten().ok_or(Unusable::Malformed)?;
    base64url::decode(text.as_bytes()).filter(|bytes| !bytes.is_empty()).ok_or(Unusable::Malformed)
}

fn rsa(jwk: &Object<'_>) -> Result<Vec<(Algorithm, Verifier)>, Unusable> {
    public_only(jwk)?;
    let algorithms = bound(jwk, Algorithms::RSA)?;
    let (modulus, exponent) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    // RFC 7518 section 2: Base64urlUInt has no leading zero
    let (Some(first), Some(last)) = (modulus.first(), modulus.last()) else { return Err(Unusable::Malformed) };
    if *first == 0 || exponent.first() == Some(&0) || last % 2 == 0 {
        return Err(Unusable::Malformed);
    }
    let bits = modulus.len() * 8 - first.leading_zeros() as usize;
    let public = match exponent.as_slice() {
        [exponent] => u32::from(*exponent),
        [high, low] => u32::from_be_bytes([0, 0, *high, *low]),
        [high, middle, low] => u32::from_be_bytes([0, *high, *middle, *low]),
        [a, b, c, d] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0,
    };
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) || public < 3 || public % 2 == 0 {
        return Err(Unusable::UnsafeSize);
    }
    let signature_len = modulus.len();
    let components = RsaPublicKeyComponents { n: modulus, e: exponent };
    let parse = |algorithm: Algorithm| {
        let parameters = rsa_parameters(algorithm).ok_or(Unusable::UnfitAlgorithm)?;
        let key = components.to_parsed_public_key(parameters).map_err(|_| Unusable::Malformed)?;
        Ok((algorithm, Verifier::Public { key, signature_len }))
    };
    algorithms.iter().map(parse).collect()
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256
        | Algorithm::Es384
        | Algorithm::Es512
        | Algorithm::EdDsa
        | Algorithm::Hs256
        | Algorithm::Hs384
        | Algorithm::Hs512 => return None,
    })
}

fn elliptic(jwk: &Object<'_>) -> Result<Vec<(Algorithm, Verifier)>, Unusable> {
    public_only(jwk)?;
    let (algorithm, coordinate_len, parameters): (_, _, &'static dyn VerificationAlgorithm) =
        match jwk.text("crv").map_err(|_| Unusable::Malformed)? {
            Some("P-256") => (Algorithm::Es256, 32, &ECDSA_P256_SHA256_FIXED),
            Some("P-384") => (Algorithm::Es384, 48, &ECDSA_P384_SHA384_FIXED),
            Some("P-521") => (Algorithm::Es512, 66, &ECDSA_P521_SHA512_FIXED),
            Some(_) => return Err(Unusable::UnknownCurve),
            None => return Err(Unusable::Malformed),
        };
    bound(jwk, Algorithms::of(&[algorithm]))?;
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    // RFC 7518 section 6.2.1.2: the whole size of a coordinate
    if x.len() != coordinate_len || y.len() != coordinate_len {
        return Err(Unusable::Malformed);
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let key = ParsedPublicKey::new(parameters, point).map_err(|_| Unusable::Malformed)?;
    Ok(vec![(algorithm, Verifier::Public { key, signature_len: 2 * coordinate_len })])
}

fn edwards(jwk: &Object<'_>) -> Result<Vec<(Algorithm, Verifier)>, Unusable> {
    public_only(jwk)?;
    match jwk.text("crv").map_err(|_| Unusable::Malformed)? {
        Some("Ed25519") => {}
        Some(_) => return Err(Unusable::UnknownCurve),
        None => return Err(Unusable::Malformed),
    }
    bound(jwk, Algorithms::of(&[Algorithm::EdDsa]))?;
    let x = bytes(jwk, "x")?;
    if x.len() != 32 {
        return Err(Unusable::Malformed);
    }
    let key = ParsedPublicKey::new(&ED25519, x).map_err(|_| Unusable::Malformed)?;
    Ok(vec![(Algorithm::EdDsa, Verifier::Public { key, signature_len: 64 })])
}

fn octets(jwk: &Object<'_>) -> Result<Vec<(Algorithm, Verifier)>, Unusable> {
    let algorithms = bound(jwk, Algorithms::HMAC)?;
    let secret = bytes(jwk, "k")?;
    if secret.len() > HMAC_BYTES_MAX {
        return Err(Unusable::UnsafeSize);
    }
    let lengths = [
        (Algorithm::Hs256, hmac::HMAC_SHA256, 32),
        (Algorithm::Hs384, hmac::HMAC_SHA384, 48),
        (Algorithm::Hs512, hmac::HMAC_SHA512, 64),
    ];
    // RFC 7518 section 3.2: at least as long as the hash
    let able = |(algorithm, _, len): &(Algorithm, hmac::Algorithm, usize)| {
        algorithms.contains(*algorithm) && secret.len() >= *len
    };
    let verifiers: Vec<_> = lengths
        .into_iter()
        .filter(able)
        .map(|(algorithm, hash, signature_len)| {
            (algorithm, Verifier::Hmac { key: Box::new(hmac::Key::new(hash, &secret)), signature_len })
        })
        .collect();
    if verifiers.is_empty() { Err(Unusable::UnsafeSize) } else { Ok(verifiers) }
}
