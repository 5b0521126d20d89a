//! keyholder's own tokens and whom they are bound to: what a login proves (RFC 9449 section 5, RFC 8705 section 3), and the
//! check of a bound token where keyholder takes it (RFC 9449 section 7, RFC 8705 section 3).
//!
//! Invariants: a bound token is never taken as a bearer token; a proof takes room in the memory only after its client or
//! its token was found good.

use http::{StatusCode, request::Parts};
use kh_core::{Code, Confirmation};
use kh_issuer::{Held, Session};
use kh_verify::Reason;

use super::{
    Outbound,
    own::{Visit, authentication::Refused, discovery},
    security::Telling,
};
use crate::{
    answer::Refusal,
    oauth_error::OauthError,
    request::Caller,
    sender::{OwnBinding, PROOF, PROOF_PATIENCE, Scheme, Sent, algorithms},
};

/// A token came without what it is bound to: why, for the log, and what its sender is told.
pub(super) struct Unproven {
    pub(super) reason: Reason,
    pub(super) refusal: Refusal,
}

/// The session of a token, if it comes from whom it was issued to.
pub(super) fn check(
    telling: Telling<'_>,
    parts: &Parts,
    shown: (Scheme, &[u8]),
    session: Session,
) -> Result<Session, Refusal> {
    match verify(telling, parts, shown, session.confirmation()) {
        Ok(()) => Ok(session),
        Err(Unproven { reason, refusal }) => {
            telling.unproven(parts, reason.as_str(), &session, &refusal);
            Err(refusal)
        }
    }
}

/// Whether a token that is shown like this and is bound like this, or not at all, comes from whom it was issued to.
pub(super) fn verify(
    telling: Telling<'_>,
    parts: &Parts,
    (scheme, token): (Scheme, &[u8]),
    bound: Option<&Confirmation>,
) -> Result<(), Unproven> {
    if scheme == Scheme::Bearer && bound.is_none() {
        return Ok(());
    }
    let (site, caller) = (telling.site, telling.asked.caller);
    let OwnBinding { senders, proofs, .. } = &site.binding;
    let (entropy, now) = (&*caller.worker.ports.entropy, telling.asked.began.now.wall);
    let checked = senders.check(bound, scheme, caller.certificate.as_ref(), proofs, entropy, || Sent {
        method: parts.method.as_str(),
        address: address(site, caller, parts),
        headers: &parts.headers,
        token: Some(token),
        now,
    });
    // the answer is the platform's and is passed on as it is: whose nonce has ended is given the next one then
    checked.map(drop).map_err(|reason| {
        let nonce = (reason == Reason::ProofNonce).then(|| senders.nonce(proofs, now, entropy)).flatten();
        Unproven { reason, refusal: Refusal { nonce, ..refusal(&site.binding, scheme, reason) } }
    })
}

/// What a sender is told that did not prove whom the token was issued to.
fn refusal(binding: &OwnBinding, scheme: Scheme, reason: Reason) -> Refusal {
    let (error, detail) = match reason {
        Reason::ProofUnremembered => {
            let detail = "the DPoP proof cannot be remembered at the moment";
            return Refusal::new(Code::OVERLOADED, detail).after(PROOF_PATIENCE);
        }
        // bound to somebody else, or not at all, or shown as what it is not: told like any token that is not good
        _ if scheme == Scheme::Bearer => return invalid_token(binding, scheme),
        Reason::ProofUnbound | Reason::ProofKeyMismatch => return invalid_token(binding, scheme),
        Reason::ProofNonce => ("use_dpop_nonce", "the DPoP proof needs the nonce of this answer"),
        _ => ("invalid_dpop_proof", "the DPoP proof is not valid for this request"),
    };
    let told = Some(challenge(binding, scheme, error, detail));
    Refusal { told, ..Refusal::new(Code::CALLER_PROOF_INVALID, detail) }
}

/// The answer to every token that is not good, for whatever reason.
pub(super) fn invalid_token(binding: &OwnBinding, scheme: Scheme) -> Refusal {
    let told = Some(challenge(binding, scheme, "invalid_token", "the token is unknown, expired or revoked"));
    Refusal { told, ..Refusal::new(Code::CALLER_UNAUTHENTICATED, "the access token is unknown, expired or revoked") }
}

/// `WWW-Authenticate` (RFC 6750 section 3, RFC 9449 section 7.1).
fn challenge(binding: &OwnBinding, scheme: Scheme, error: &str, detail: &str) -> Box<str> {
    let (scheme, more) = match scheme {
        Scheme::Bearer => ("Bearer", String::new()),
        Scheme::DPoP => ("DPoP", format!(r#", algs="{}""#, algorithms(&binding.proofs).join(" "))),
    };
    format!(r#"{scheme} realm="keyholder", error="{error}", error_description="{detail}"{more}"#).into()
}

/// Scheme, host and path of a request as its caller has them; none if they cannot be told.
fn address(site: &Outbound, caller: &Caller, parts: &Parts) -> Option<String> {
    let origin = discovery::origin(site, caller, parts).ok()?;
    Some(format!("{origin}{}", parts.uri.path()))
}

/// What a client that showed its secret proves to hold with its login.
pub(super) fn held(visit: Visit<'_>, parts: &Parts) -> Result<Held, Refused> {
    let Visit { caller, site, .. } = visit;
    let certificate = caller.certificate.as_ref().map(|certificate| certificate.sha256);
    if !parts.headers.contains_key(PROOF) {
        return Ok(Held { certificate, key: None });
    }
    let OwnBinding { senders, proofs, .. } = &site.binding;
    // the secret may have had to wait for other processes' changes
    let (entropy, now) = (&*caller.worker.ports.entropy, caller.worker.began().now.wall);
    let sent = |address| Sent { method: parts.method.as_str(), address, headers: &parts.headers, token: None, now };
    // the endpoint as the metadata call it, or as the request does: an application inside may have another name for it
    let named = site.issuer.authority().and_then(|authority| kh_verify::dpop::origin(authority.issuer.as_str()));
    let named = named.map(|origin| format!("{origin}{}", parts.uri.path()));
    let mut examined = Err(Reason::ProofUri);
    for address in [named, address(site, caller, parts)].into_iter().flatten() {
        examined = senders.examine(&sent(Some(address)), proofs, entropy);
        if !matches!(examined, Err(Reason::ProofUri)) {
            break;
        }
    }
    let remembered = examined.and_then(|proof| senders.remember(proof, now));
    remembered.map(|(key, _next)| Held { certificate, key: Some(key) }).map_err(|reason| {
        tracing::debug!(reason = reason.as_str(), "the DPoP proof of a login is not valid");
        let nonce = (reason == Reason::ProofNonce).then(|| senders.nonce(proofs, now, entropy)).flatten();
        let Refused(error, refusal) = not_proven(reason);
        Refused(error, Refusal { nonce, ..refusal })
    })
}

/// RFC 9449 sections 5 and 8.
fn not_proven(reason: Reason) -> Refused {
    let (error, detail) = match reason {
        Reason::ProofUnremembered => {
            let refusal = Refusal::new(Code::OVERLOADED, "the DPoP proof cannot be remembered at the moment");
            return Refused(OauthError::TemporarilyUnavailable, refusal.after(PROOF_PATIENCE));
        }
        Reason::ProofNonce => (OauthError::UseDpopNonce, "the DPoP proof needs the nonce of this answer"),
        _ => (OauthError::InvalidDpopProof, "the DPoP proof is not valid for this request"),
    };
    let refusal = Refusal::new(Code::CALLER_PROOF_INVALID, detail);
    Refused(error, Refusal { status: StatusCode::BAD_REQUEST, ..refusal })
}

/// What an answer calls a token that is bound like this (RFC 6749 section 7.1, RFC 9449 section 5).
pub(super) fn token_type(bound: Option<&Confirmation>) -> &'static str {
    if matches!(bound, Some(Confirmation::Jkt(_))) { "DPoP" } else { "Bearer" }
}
