//! Whether the sender of a token is the one that it is bound to: by the certificate of the connection (RFC 8705 section
//! 3), or by a `DPoP` proof of the request (RFC 9449 section 7).
//!
//! Invariants: a bound token is never taken as a bearer token; a proof takes room in the memory only after all else about
//! it and its token is right, so that nobody without a good token can fill it.

mod memory;
mod nonce;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use kh_core::{Confirmation, Entropy, Sha256, UnixMillis};
use kh_net::PeerCertificate;
use kh_verify::{
    Algorithm, Algorithms, Reason,
    binding::check_certificate_digest,
    dpop::{Examined, ProofFor, ProofPolicy, check_key, examine},
};

pub use self::memory::{PROOF_MEMORY_BYTES, ProofMemory};
use self::nonce::Nonces;

/// The header of a proof (RFC 9449 section 4).
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The header of a nonce (RFC 9449 section 8).
pub(crate) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// When to send the next proof after there was no room: proofs end all the time.
pub(crate) const PROOF_PATIENCE: Duration = Duration::from_secs(5);

/// By which scheme a token was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `Bearer` (RFC 6750).
    Bearer,
    /// `DPoP` (RFC 9449).
    DPoP,
}

/// How proofs are judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProofRules {
    /// Algorithms and times.
    pub policy: ProofPolicy,
    /// Whether a proof has to repeat a nonce that was given out here. It makes a proof worthless two minutes later even
    /// for who can set the caller's clock; it costs each caller one more request now and then.
    pub nonce: bool,
}

/// How keyholder's own access tokens are bound to their clients: at its token endpoint, and where they are used.
#[derive(Clone, Debug, Default)]
pub struct OwnBinding {
    /// What is remembered of senders: one memory for all listeners of one token endpoint.
    pub senders: Arc<Senders>,
    /// How proofs are judged.
    pub proofs: ProofRules,
    /// Whether the listeners ask for client certificates at the moment, which is told in the metadata.
    pub certificates: Arc<AtomicBool>,
}

/// What is remembered of senders, for as long as the listeners serve.
#[derive(Debug)]
pub struct Senders {
    memory: ProofMemory,
    nonces: Nonces,
}

/// A request as its sender's proof has to name it.
pub(crate) struct Sent<'a> {
    pub(crate) method: &'a str,
    /// Scheme, host and path as the client has them; none: they cannot be told.
    pub(crate) address: Option<String>,
    pub(crate) headers: &'a HeaderMap,
    /// The access token; none at the token endpoint.
    pub(crate) token: Option<&'a [u8]>,
    pub(crate) now: UnixMillis,
}

/// What the answer tells a sender whose nonce ends soon.
pub(crate) type NextNonce = Option<Box<Nonce>>;

/// A nonce. Behind one more pointer, because a refusal that may hold one is made for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nonce(pub(crate) Box<str>);

/// A proof that is right and not yet remembered.
#[must_use = "a proof that is not remembered can be sent again"]
pub(crate) struct Proof {
    examined: Examined,
    next: NextNonce,
}

impl Proof {
    /// The thumbprint of the key that signed it.
    pub(crate) fn thumbprint(&self) -> &Sha256 {
        &self.examined.thumbprint
    }
}

impl Default for Senders {
    fn default() -> Self {
        Self::with_memory(PROOF_MEMORY_BYTES)
    }
}

impl Senders {
    /// With room for this many bytes of proofs.
    pub fn with_memory(bytes: usize) -> Self {
        Self { memory: ProofMemory::new(bytes), nonces: Nonces::default() }
    }

    /// The nonce for the next proof, where one is demanded.
    pub(crate) fn nonce(&self, rules: &ProofRules, now: UnixMillis, entropy: &dyn Entropy) -> NextNonce {
        rules.nonce.then(|| {
            let [nonce, _] = self.nonces.at(now, entropy);
            Box::new(Nonce(nonce))
        })
    }

    /// Looks at the one proof of a request, if all of it is right.
    pub(crate) fn examine(&self, sent: &Sent<'_>, rules: &ProofRules, entropy: &dyn Entropy) -> Result<Proof, Reason> {
        let proof = only_proof(sent.headers)?.ok_or(Reason::ProofMissing)?;
        let nonces = rules.nonce.then(|| self.nonces.at(sent.now, entropy));
        let good = nonces.as_ref().map(|both| both.each_ref().map(|nonce| &**nonce));
        let wanted = ProofFor {
            method: sent.method,
            uri: sent.address.as_deref().unwrap_or_default(),
            token: sent.token,
            nonces: good.as_ref().map(<[&str; 2]>::as_slice),
        };
        let examined = examine(proof, &wanted, &rules.policy, sent.now)?;
        // told whenever there is one: which of the two came is not worth another look
        let next = nonces.map(|[now, _]| Box::new(Nonce(now)));
        Ok(Proof { examined, next })
    }

    /// Remembers it, so that it is good this once.
    pub(crate) fn remember(&self, proof: Proof, now: UnixMillis) -> Result<(Sha256, NextNonce), Reason> {
        let proven = proof.examined.remember(&self.memory.at(now))?;
        Ok((proven.thumbprint, proof.next))
    }

    /// Whether a token that is bound like this, or not at all, comes from whom it was issued to.
    pub(crate) fn check<'a>(
        &self,
        bound: Option<&Confirmation>,
        scheme: Scheme,
        certificate: Option<&PeerCertificate>,
        rules: &ProofRules,
        entropy: &dyn Entropy,
        sent: impl FnOnce() -> Sent<'a>,
    ) -> Result<NextNonce, Reason> {
        match (scheme, bound) {
            (Scheme::Bearer, None) => Ok(None),
            (Scheme::Bearer, Some(Confirmation::X5tS256(_))) => {
                check_certificate_digest(bound, certificate.map(|one| &one.sha256)).map(|()| None)
            }
            // RFC 9449 section 7.2: a downgrade
            (Scheme::Bearer, Some(Confirmation::Jkt(_))) => Err(Reason::ProofMissing),
            // RFC 9449 section 7.1: the scheme is for tokens that are bound to a key
            (Scheme::DPoP, None | Some(Confirmation::X5tS256(_))) => Err(Reason::ProofUnbound),
            (Scheme::DPoP, Some(Confirmation::Jkt(_))) => {
                let sent = sent();
                let proof = self.examine(&sent, rules, entropy)?;
                check_key(bound, Some(proof.thumbprint()))?;
                self.remember(proof, sent.now).map(|(_, next)| next)
            }
        }
    }
}

/// The value of the only `DPoP` header (RFC 9449 section 4.3, check 1).
fn only_proof(headers: &HeaderMap) -> Result<Option<&[u8]>, Reason> {
    let mut proofs = headers.get_all(PROOF).iter().map(HeaderValue::as_bytes);
    let first = proofs.next();
    if proofs.next().is_some() { Err(Reason::ProofMalformed) } else { Ok(first) }
}

/// The names of the algorithms that are taken, as challenges and metadata have them (RFC 9449 sections 5.1 and 7.1).
pub(crate) fn algorithms(rules: &ProofRules) -> Vec<&'static str> {
    rules.policy.algorithms.and(Algorithms::ASYMMETRIC).iter().map(Algorithm::as_str).collect()
}
