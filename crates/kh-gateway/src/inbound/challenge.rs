//! What a caller is told when it is not let in: RFC 6750 section 3 and RFC 9457.
//!
//! Invariant: a token that is unknown, expired, revoked or forged gets the same answer letter by letter. Why it was not
//! taken is for the log and the metrics.

use std::time::Duration;

use http::StatusCode;
use kh_core::Code;
use kh_verify::Reason;

use crate::{
    answer::Refusal,
    sender::{NextNonce, PROOF_PATIENCE, ProofRules, Scheme, algorithms},
};

/// A refusal with its reason code, which goes into the log and the metrics and not to the caller.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) reason: &'static str,
    pub(super) refusal: Refusal,
}

/// By which scheme a caller is challenged: that by which it showed its token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Challenge<'a> {
    pub(super) realm: &'a str,
    pub(super) scheme: Scheme,
    /// The algorithms of proofs.
    pub(super) proofs: &'a ProofRules,
}

impl Challenge<'_> {
    /// `WWW-Authenticate`: the realm, and after a token was shown what is wrong with it (RFC 6750 section 3, RFC 9449
    /// section 7.1).
    fn told(self, error: Option<(&str, &str)>, scope: Option<&str>) -> Box<str> {
        let Self { realm, scheme, proofs } = self;
        let (scheme, algorithms) = match scheme {
            Scheme::Bearer => ("Bearer", None),
            Scheme::DPoP => ("DPoP", Some(algorithms(proofs).join(" "))),
        };
        let error = error.map(|(error, description)| [("error", error), ("error_description", description)]);
        let more = error.into_iter().flatten().chain(scope.map(|scope| ("scope", scope)));
        let more = more.chain(algorithms.as_deref().map(|algorithms| ("algs", algorithms)));
        let text = more
            .fold(format!(r#"{scheme} realm="{realm}""#), |text, (name, value)| format!(r#"{text}, {name}="{value}""#));
        text.into()
    }
}

fn unauthenticated(code: Code, detail: &'static str, told: Box<str>) -> Refusal {
    Refusal { told: Some(told), ..Refusal::new(code, detail) }
}

impl Denial {
    /// The request has no token. No error code: nothing was wrong with what was shown (RFC 6750 section 3.1). Where
    /// tokens must be bound both schemes are told: a token that is bound to a certificate is shown as a bearer's.
    pub(super) fn missing(
        challenge: Challenge<'_>,
        must_be_bound: bool,
        reason: &'static str,
        detail: &'static str,
    ) -> Self {
        let by = |scheme| Challenge { scheme, ..challenge }.told(None, None);
        let bearer = by(Scheme::Bearer);
        let told = if must_be_bound { format!("{bearer}, {}", by(Scheme::DPoP)).into() } else { bearer };
        Self { reason, refusal: unauthenticated(Code::INBOUND_TOKEN_MISSING, detail, told) }
    }

    /// What follows the scheme is no token.
    pub(super) fn malformed(challenge: Challenge<'_>) -> Self {
        let description = "the Authorization header does not have the form of a bearer token";
        let told = challenge.told(Some(("invalid_request", description)), None);
        let refusal = unauthenticated(Code::INBOUND_AUTHORIZATION_MALFORMED, description, told);
        Self { reason: "authorization_malformed", refusal }
    }

    /// The token is not valid here, for whatever reason.
    pub(super) fn invalid(challenge: Challenge<'_>, reason: &'static str) -> Self {
        let description = "the access token is not valid";
        let told = challenge.told(Some(("invalid_token", description)), None);
        Self { reason, refusal: unauthenticated(Code::INBOUND_TOKEN_INVALID, description, told) }
    }

    /// The token is valid and does not suffice. `scope` is what would.
    pub(super) fn insufficient(challenge: Challenge<'_>, reason: &'static str, scope: Option<&str>) -> Self {
        let description = "the access token does not allow this request";
        let told = challenge.told(Some(("insufficient_scope", description)), scope);
        Self { reason, refusal: unauthenticated(Code::INBOUND_NOT_ALLOWED, description, told) }
    }

    /// The token is valid, and who sent it is not who it was issued to, or did not show it. `nonce` is for the next proof.
    pub(super) fn sender(challenge: Challenge<'_>, reason: Reason, nonce: NextNonce) -> Self {
        let (error, description) = match reason {
            // RFC 9449 section 9
            Reason::ProofNonce => ("use_dpop_nonce", "the DPoP proof needs the nonce of this answer"),
            // bound to somebody else, or not at all, or shown as what it is not: told like any bad token
            Reason::ProofKeyMismatch
            | Reason::ProofUnbound
            | Reason::CertificateMissing
            | Reason::CertificateMismatch => return Self::invalid(challenge, reason.as_str()),
            Reason::ProofMissing if challenge.scheme == Scheme::Bearer => {
                return Self::invalid(challenge, reason.as_str());
            }
            // there is no room: somebody sends more proofs than any client has a use for
            Reason::ProofUnremembered => {
                let refusal = Refusal::new(Code::OVERLOADED, "the DPoP proof cannot be remembered at the moment");
                return Self { reason: reason.as_str(), refusal: refusal.after(PROOF_PATIENCE) };
            }
            _ => ("invalid_dpop_proof", "the DPoP proof is not valid for this request"),
        };
        let told = challenge.told(Some((error, description)), None);
        let refusal = unauthenticated(Code::INBOUND_PROOF_INVALID, description, told);
        Self { reason: reason.as_str(), refusal: Refusal { nonce, ..refusal } }
    }

    /// Nobody can say now whether the token is valid.
    pub(super) fn unknown(reason: &'static str, retry_after: Duration) -> Self {
        let detail = "the access token cannot be verified at the moment";
        Self { reason, refusal: Refusal::new(Code::INBOUND_ISSUER_UNAVAILABLE, detail).after(retry_after) }
    }

    /// Too many failures came before. The same answer whatever was shown, which was not looked at.
    pub(super) fn throttled(wait: Duration) -> Self {
        let detail = "too many requests came before whose credentials were not valid";
        Self { reason: "throttled", refusal: Refusal::new(Code::INBOUND_THROTTLED, detail).after(wait) }
    }

    /// No route takes such a request.
    pub(super) fn no_route() -> Self {
        Self { reason: "no_route", refusal: Refusal::new(Code::NOT_FOUND, "there is no such resource") }
    }

    /// The path has routes for these methods alone, and takes HEAD wherever it takes GET.
    pub(super) fn no_method<'a>(allowed: impl Iterator<Item = &'a str>) -> Self {
        let mut allowed: Vec<&str> = allowed.collect();
        if let Some(at) = allowed.iter().position(|name| *name == "GET")
            && !allowed.contains(&"HEAD")
        {
            allowed.insert(at + 1, "HEAD");
        }
        let refusal = Refusal::new(Code::METHOD_NOT_ALLOWED, "this resource does not answer this method");
        let refusal = Refusal { told: Some(allowed.join(", ").into()), ..refusal };
        Self { reason: "method_not_allowed", refusal }
    }

    /// The API gave no answer. What went wrong is for the log: the caller is outside.
    pub(super) fn no_answer(kind: &'static str) -> Self {
        let refusal = Refusal::new(Code::INBOUND_UPSTREAM_FAILED, "the API behind the gateway did not answer");
        let status = if kind == "timeout" { StatusCode::GATEWAY_TIMEOUT } else { refusal.status };
        Self { reason: "upstream_failed", refusal: Refusal { status, ..refusal } }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use kh_verify::{Algorithm, Algorithms, dpop::ProofPolicy};

    use super::*;
    use crate::sender::Nonce;

    #[test]
    fn challenges_are_those_of_the_rfc() {
        let proofs = ProofRules {
            policy: ProofPolicy {
                algorithms: Algorithms::of(&[Algorithm::Es256, Algorithm::Ps256]),
                ..Default::default()
            },
            nonce: false,
        };
        let api = Challenge { realm: "api", scheme: Scheme::Bearer, proofs: &proofs };
        let by_key = Challenge { scheme: Scheme::DPoP, ..api };
        for (denial, status, told) in [
            (Denial::missing(api, false, "token_missing", ""), 401, r#"Bearer realm="api""#),
            (
                Denial::missing(api, true, "token_missing", ""),
                401,
                r#"Bearer realm="api", DPoP realm="api", algs="PS256 ES256""#,
            ),
            (
                Denial::sender(by_key, Reason::ProofUri, None),
                401,
                r#"DPoP realm="api", error="invalid_dpop_proof", error_description="the DPoP proof is not valid for this request", algs="PS256 ES256""#,
            ),
            (
                Denial::sender(by_key, Reason::ProofKeyMismatch, None),
                401,
                r#"DPoP realm="api", error="invalid_token", error_description="the access token is not valid", algs="PS256 ES256""#,
            ),
            (
                Denial::sender(api, Reason::ProofMissing, None),
                401,
                r#"Bearer realm="api", error="invalid_token", error_description="the access token is not valid""#,
            ),
            (
                Denial::malformed(api),
                400,
                r#"Bearer realm="api", error="invalid_request", error_description="the Authorization header does not have the form of a bearer token""#,
            ),
            (
                Denial::invalid(api, "expired"),
                401,
                r#"Bearer realm="api", error="invalid_token", error_description="the access token is not valid""#,
            ),
            (
                Denial::insufficient(api, "insufficient_scope", Some("a b")),
                403,
                r#"Bearer realm="api", error="insufficient_scope", error_description="the access token does not allow this request", scope="a b""#,
            ),
            (Denial::no_method(["GET", "PUT"].into_iter()), 405, "GET, HEAD, PUT"),
            (Denial::no_method(["DELETE", "GET", "HEAD"].into_iter()), 405, "DELETE, GET, HEAD"),
            (Denial::no_method(["POST"].into_iter()), 405, "POST"),
        ] {
            assert_eq!((denial.refusal.status.as_u16(), denial.refusal.told.as_deref()), (status, Some(told)));
        }
        let nonce = Denial::sender(by_key, Reason::ProofNonce, Some(Box::new(Nonce("n".into())))).refusal;
        assert!(nonce.told.is_some_and(|told| told.contains(r#"error="use_dpop_nonce""#)));
        assert_eq!(nonce.nonce, Some(Box::new(Nonce("n".into()))));
        let full = Denial::sender(by_key, Reason::ProofUnremembered, None).refusal;
        assert_eq!((full.status.as_u16(), full.retry_after_s.map(NonZeroU32::get)), (503, Some(5)));
        let unknown = Denial::unknown("issuer_unavailable", Duration::from_millis(1_001));
        assert_eq!(
            (unknown.refusal.status.as_u16(), unknown.refusal.retry_after_s.map(NonZeroU32::get)),
            (503, Some(2))
        );
        let throttled = Denial::throttled(Duration::from_millis(4_001)).refusal;
        let told = (throttled.status.as_u16(), throttled.retry_after_s.map(NonZeroU32::get), throttled.told);
        assert_eq!(told, (429, Some(5), None));
        assert_eq!(Denial::no_answer("timeout").refusal.status.as_u16(), 504);
        assert_eq!(Denial::no_answer("connect").refusal.status.as_u16(), 502);
    }
}
