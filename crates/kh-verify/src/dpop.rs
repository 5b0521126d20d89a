//! `DPoP` proofs (RFC 9449 section 4.3): that the sender holds the key that a token is bound to.
//!
//! Invariants: the key in a proof is good for this proof alone, never for a token; a proof is remembered only when all
//! else is right, so that nobody fills the memory with what anybody can make up.

use std::time::Duration;

use kh_core::{Confirmation, Identity, Sha256, UnixMillis};

use crate::{
    Algorithm, Algorithms, Compact, Key, Reason, Symmetric, base64url,
    claims::proof_times,
    json::{Json, Object},
    jws::media_type,
    thumbprint::thumbprint,
    uri,
};

/// Longest proof, in bytes: header with an RSA key of 8192 bits, claims, signature.
pub const PROOF_BYTES_MAX: usize = 8 * 1024;

/// Longest `jti`, in bytes.
pub const JTI_BYTES_MAX: usize = 256;

/// The usual time that a proof is good for, before and after its `iat`.
pub const WINDOW_DEFAULT: Duration = Duration::from_mins(1);

/// What proofs were seen. One memory serves everybody who takes the same proofs.
pub trait ReplayMemory {
    /// Remembers a proof until that time, from which on it is refused anyway.
    fn remember(&self, proof: ProofId, until: UnixMillis) -> Remembered;
}

/// What a memory of proofs says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remembered {
    /// It was not there, and is now.
    New,
    /// It was there: somebody sends it again.
    Again,
    /// There is no room for it, so that nobody would know it again.
    NoRoom,
}

/// Names a proof: the digest of its key's thumbprint and its `jti`, so that one client cannot use up another's names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProofId(pub Sha256);

/// What a proof has to be for.
#[derive(Clone, Copy, Debug)]
pub struct ProofFor<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's address as the client has it: scheme, host, path.
    pub uri: &'a str,
    /// The access token that came with it; none at a token endpoint.
    pub token: Option<&'a [u8]>,
    /// The nonces that were given out and are good, if one is demanded (RFC 9449 section 9).
    pub nonces: Option<&'a [&'a str]>,
}

/// A good proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proven {
    /// The thumbprint of the key that the sender holds (`jkt`).
    pub thumbprint: Sha256,
}

/// What is taken as a proof.
#[derive(Clone, Copy, Debug)]
pub struct ProofPolicy {
    /// Algorithms that are taken; symmetric ones never are.
    pub algorithms: Algorithms,
    /// How far `iat` may be from now, to both sides.
    pub window: Duration,
}

impl Default for ProofPolicy {
    fn default() -> Self {
        Self { algorithms: Algorithms::ASYMMETRIC, window: WINDOW_DEFAULT }
    }
}

/// A proof that is right in itself and was not looked for in the memory yet: it proves nothing until it is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a proof that is not remembered can be sent again"]
pub struct Examined {
    /// The thumbprint of the key that signed it.
    pub thumbprint: Sha256,
    id: ProofId,
    until: UnixMillis,
}

impl Examined {
    /// Remembers the proof, once all else about its sender is right.
    pub fn remember(self, memory: &dyn ReplayMemory) -> Result<Proven, Reason> {
        match memory.remember(self.id, self.until) {
            Remembered::New => Ok(Proven { thumbprint: self.thumbprint }),
            Remembered::Again => Err(Reason::ProofReplayed),
            Remembered::NoRoom => Err(Reason::ProofUnremembered),
        }
    }
}

/// Checks one proof: the value of the only `DPoP` field of the request.
pub fn check_proof(
    proof: &[u8],
    wanted: &ProofFor<'_>,
    policy: &ProofPolicy,
    memory: &dyn ReplayMemory,
    now: UnixMillis,
) -> Result<Proven, Reason> {
    examine(proof, wanted, policy, now)?.remember(memory)
}

/// Everything of [`check_proof`] but the memory, for whoever has more to check before a proof may take room there.
pub fn examine(proof: &[u8], wanted: &ProofFor<'_>, policy: &ProofPolicy, now: UnixMillis) -> Result<Examined, Reason> {
    if proof.len() > PROOF_BYTES_MAX {
        return Err(Reason::ProofMalformed);
    }
    let decoded = Compact::decode(proof).map_err(|reason| match reason {
        Reason::AlgorithmNone | Reason::AlgorithmUnknown => Reason::ProofAlgorithm,
        _ => Reason::ProofMalformed,
    })?;
    let typ = decoded.typ().map(media_type);
    if !typ.is_some_and(|typ| typ.eq_ignore_ascii_case("dpop+jwt")) {
        return Err(Reason::ProofMalformed);
    }
    if !policy.algorithms.and(Algorithms::ASYMMETRIC).contains(decoded.algorithm()) {
        return Err(Reason::ProofAlgorithm);
    }
    let thumbprint = proven_key(&decoded, decoded.algorithm())?;
    let claims = Object::parse(decoded.payload()).ok_or(Reason::ProofClaims)?;
    let text = |name: &str| claims.text(name).map_err(|_| Reason::ProofClaims);
    let needed = |name: &str| text(name)?.ok_or(Reason::ProofClaims);
    let token_id = needed("jti")?;
    if token_id.is_empty() || token_id.len() > JTI_BYTES_MAX {
        return Err(Reason::ProofClaims);
    }
    if needed("htm")? != wanted.method {
        return Err(Reason::ProofMethod);
    }
    if !uri::same(needed("htu")?, wanted.uri) {
        return Err(Reason::ProofUri);
    }
    let until = proof_times(&claims, policy.window, now)?;
    if let Some(token) = wanted.token {
        let told = text("ath")?.and_then(base64url::decode_sha256).ok_or(Reason::ProofTokenHash)?;
        if !Sha256::of(token).ct_eq(&Sha256(told)) {
            return Err(Reason::ProofTokenHash);
        }
    }
    let nonce = text("nonce")?;
    if wanted.nonces.is_some_and(|good| !nonce.is_some_and(|nonce| good.contains(&nonce))) {
        return Err(Reason::ProofNonce);
    }
    let id = ProofId(Sha256::of(&[thumbprint.0.as_slice(), token_id.as_bytes()].concat()));
    Ok(Examined { thumbprint, id, until })
}

/// Scheme, host and port in one spelling of an address that has nothing else: no path, no query.
pub fn bare_origin(address: &str) -> Option<String> {
    let normal = uri::normal(address).filter(|_| !address.contains(['?', '#']))?;
    origin(address).filter(|origin| normal.strip_prefix(origin.as_str()) == Some("/"))
}

/// Scheme, host and port of an address in one spelling, for comparing; none for what is not an `http` or `https` address.
pub fn origin(address: &str) -> Option<String> {
    let normal = uri::normal(address)?;
    let host = normal.find("://")? + 3;
    let end = normal.get(host..)?.find('/').map_or(normal.len(), |slash| host + slash);
    normal.get(..end).map(str::to_owned)
}

/// Whether the proof, if there is one, is of the key that the token is bound to (RFC 9449 sections 7.1 and 7.2).
pub fn check_binding(identity: &Identity, proven: Option<&Proven>) -> Result<(), Reason> {
    check_key(identity.confirmation(), proven.map(|proven| &proven.thumbprint))
}

/// The same for a token of which the confirmation is known, and the thumbprint of the key that signed the proof.
pub fn check_key(bound: Option<&Confirmation>, proven: Option<&Sha256>) -> Result<(), Reason> {
    match (bound, proven) {
        (Some(Confirmation::Jkt(_)), None) => Err(Reason::ProofMissing),
        (Some(Confirmation::Jkt(bound)), Some(proven)) if Sha256(*bound).ct_eq(proven) => Ok(()),
        (Some(Confirmation::Jkt(_)), Some(_)) => Err(Reason::ProofKeyMismatch),
        (Some(Confirmation::X5tS256(_)) | None, None) => Ok(()),
        (Some(Confirmation::X5tS256(_)) | None, Some(_)) => Err(Reason::ProofUnbound),
    }
}

/// The thumbprint of the proof's own key, which signed it.
fn proven_key(proof: &Compact<'_>, algorithm: Algorithm) -> Result<Sha256, Reason> {
    let header = Object::parse(proof.header_json()).ok_or(Reason::ProofMalformed)?;
    let Some(Json::Object(jwk)) = header.get("jwk") else { return Err(Reason::ProofKey) };
    let key = Key::of(jwk, Symmetric::Refused).map_err(|_| Reason::ProofKey)?;
    if !key.fits(algorithm) {
        return Err(Reason::ProofKey);
    }
    let (message, signature) = proof.signed();
    if !key.verifies(algorithm, message, signature) {
        return Err(Reason::ProofSignature);
    }
    thumbprint(jwk).ok_or(Reason::ProofKey)
}
