//! A compact JWS (RFC 7515 section 7.1) and its header.
//!
//! Invariants: nothing is decoded before the size is known to be in bounds; of a token there is one spelling; keys that
//! a header brings along (`jwk`, `jku`, `x5u`, `x5c`) are not looked at.

use std::ops::Range;

use kh_core::{Identity, UnixMillis};

use crate::{
    Algorithm, Algorithms, KeySet, Policy, Reason, base64url, claims::Claims, json::Object, key::KID_BYTES_MAX,
};

/// Longest token, in bytes: what common servers take in all headers together.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Most members of a header. RFC 7515 and its successors name twenty.
const HEADER_MEMBERS_MAX: usize = 32;

/// A token's three parts, decoded. Nothing of it is known to be true yet.
#[derive(Debug)]
pub struct Compact<'t> {
    signing_input: &'t [u8],
    header: Header,
    header_json: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What is read of a header.
#[derive(Debug)]
struct Header {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    typ: Option<Box<str>>,
    nested: bool,
}

impl<'t> Compact<'t> {
    /// Takes a token apart and reads its header.
    pub fn decode(token: &'t [u8]) -> Result<Self, Reason> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reason::TooLarge);
        }
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second)) = (dots.next(), dots.next()) else { return Err(Reason::Malformed) };
        match dots.count() {
            0 => {}
            2 => return Err(Reason::Encrypted),
            _ => return Err(Reason::Malformed),
        }
        let part = |range: Range<usize>| token.get(range).ok_or(Reason::Malformed);
        let (header, payload) = (part(0..first)?, part(first + 1..second)?);
        let (signature, signing_input) = (part(second + 1..token.len())?, part(0..second)?);
        let decode = |part: &[u8]| base64url::decode(part).ok_or(Reason::Malformed);
        let header_json = decode(header)?;
        let payload_bytes = decode(payload)?;
        let signature = decode(signature)?;
        let header = Header::read(&header_json)?;
        Ok(Self { signing_input, header, header_json, payload: payload_bytes, signature })
    }

    /// The header's `alg`. The token says so; whether it is taken is decided by key and policy.
    pub fn algorithm(&self) -> Algorithm {
        self.header.algorithm
    }

    /// The header's `kid`: anything at all. Do not log it as it is.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The header's `typ`.
    pub fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// The payload's bytes, whatever they are.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn header_json(&self) -> &[u8] {
        &self.header_json
    }

    pub(crate) fn signed(&self) -> (&[u8], &[u8]) {
        (self.signing_input, &self.signature)
    }

    /// Checks the signature alone.
    pub fn verify_signature(&self, keys: &KeySet, allowed: Algorithms) -> Result<(), Reason> {
        if !allowed.contains(self.header.algorithm) {
            return Err(Reason::AlgorithmNotAllowed);
        }
        keys.check(self.header.algorithm, self.kid(), self.signing_input, &self.signature)
    }

    /// Verifies everything: type, signature, claims.
    pub fn verify(&self, keys: &KeySet, policy: &Policy, now: UnixMillis) -> Result<Identity, Reason> {
        self.check_type(policy)?;
        self.verify_signature(keys, policy.algorithms())?;
        Claims::parse(&self.payload)?.identity(policy, now)
    }

    /// Reads the claims before the signature is checked, to choose the issuer whose keys are to check it.
    pub fn read(&self) -> Result<Unverified<'_>, Reason> {
        if self.header.nested {
            return Err(Reason::NestedToken);
        }
        Ok(Unverified { token: self, claims: Claims::parse(&self.payload)? })
    }

    fn check_type(&self, policy: &Policy) -> Result<(), Reason> {
        if self.header.nested {
            return Err(Reason::NestedToken);
        }
        if policy.takes_type(self.typ()) { Ok(()) } else { Err(Reason::TypeRefused) }
    }
}

/// A token whose claims were read but not verified: good for choosing an issuer and for nothing else.
#[derive(Debug)]
pub struct Unverified<'c> {
    token: &'c Compact<'c>,
    claims: Claims<'c>,
}

impl Unverified<'_> {
    /// Who the token says has issued it (`iss`).
    pub fn issuer(&self) -> Option<&str> {
        self.claims.issuer()
    }

    /// What names the token, as it says itself: for a list of what is not to be taken, and never for letting anybody in.
    pub fn names(&self) -> TokenNames {
        self.claims.names()
    }

    /// Verifies everything: type, signature, claims. The claims are not parsed again.
    pub fn verify(&self, keys: &KeySet, policy: &Policy, now: UnixMillis) -> Result<Identity, Reason> {
        self.token.check_type(policy)?;
        self.token.verify_signature(keys, policy.algorithms())?;
        self.claims.identity(policy, now)
    }
}

/// How an unverified token names itself. Each is none where the token has it in no form that a verifier would take.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TokenNames {
    /// `iss`.
    pub issuer: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `client_id`, else `azp`.
    pub client: Option<String>,
    /// `iat`.
    pub issued_at: Option<UnixMillis>,
    /// `exp`.
    pub expires_at: Option<UnixMillis>,
}

impl Header {
    fn read(json: &[u8]) -> Result<Self, Reason> {
        let header = Object::parse(json).ok_or(Reason::HeaderInvalid)?;
        if header.len() > HEADER_MEMBERS_MAX {
            return Err(Reason::HeaderInvalid);
        }
        let text = |name: &str| header.text(name).map_err(|_| Reason::HeaderInvalid);
        let name = text("alg")?.ok_or(Reason::HeaderInvalid)?;
        // by its own reason in every spelling, because it is an attack and not a mistake
        if name.eq_ignore_ascii_case("none") {
            return Err(Reason::AlgorithmNone);
        }
        let refused =
            [("crit", Reason::CriticalHeader), ("b64", Reason::UnencodedPayload), ("zip", Reason::Compressed)];
        if let Some((_, reason)) = refused.into_iter().find(|(name, _)| header.get(name).is_some()) {
            return Err(reason);
        }
        let algorithm = Algorithm::parse(name).ok_or(Reason::AlgorithmUnknown)?;
        let kid = text("kid")?;
        if kid.is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(Reason::HeaderInvalid);
        }
        let nested = text("cty")?.is_some_and(|cty| media_type(cty).eq_ignore_ascii_case("jwt"));
        Ok(Self { algorithm, kid: kid.map(Into::into), typ: text("typ")?.map(Into::into), nested })
    }
}

/// A media type without its optional prefix (RFC 7515 section 4.1.9): `application/at+jwt` is `at+jwt`.
pub(crate) fn media_type(name: &str) -> &str {
    const PREFIX: &str = "application/";
    match (name.get(..PREFIX.len()), name.get(PREFIX.len()..)) {
        (Some(start), Some(rest)) if start.eq_ignore_ascii_case(PREFIX) && !rest.contains('/') => rest,
        _ => name,
    }
}
