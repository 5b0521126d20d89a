//! What the platform has against every renewal of a credential's sessions: the secret that they share, or how many they are.
//!
//! Invariants: a document that the platform refused is not sent again before its pause has passed, and then by one
//! renewal alone, so that a thousand users lock no account; nothing is sent while a rate limit is waited out; pauses run on
//! the monotonic clock.

use std::{sync::Arc, time::Duration};

use kh_core::{Sha256, port::FetchError};
use kh_resilience::Share;
use kh_token::{
    Cause, Rejections, pause_after,
    policy::{REPLACED_AGAIN, REPLACED_TRIES},
};

use crate::TokenError;

/// The longest wait after a rate limit, whatever the platform asks for: one wrong answer must not shut all users out for a
/// day. A platform that means it refuses again, which costs a request.
const LIMIT_MAX: Duration = Duration::from_hours(1);

/// A renewal that may be sent.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    document: Sha256,
    sent_at: Duration,
}

/// The last refusal of a document that counted.
struct Refused {
    document: Sha256,
    at: Duration,
    error: Arc<FetchError>,
}

struct Limited {
    until: Duration,
    error: Arc<FetchError>,
}

/// What holds for all sessions of one credential.
#[derive(Default)]
pub(crate) struct Gate {
    rejections: Rejections,
    refused: Option<Refused>,
    /// The document that the platform took last.
    taken: Option<Sha256>,
    /// Refusals of documents that came in its place.
    too_new: u32,
    limited: Option<Limited>,
    /// Rate limits one after the other.
    limits: u32,
}

impl Gate {
    /// Whether `document` may be sent at `mono`, to be answered within `deadline`; else what the platform said.
    pub(crate) fn permit(&mut self, document: Sha256, mono: Duration, deadline: Duration) -> Result<Pass, TokenError> {
        let told = |error: &Arc<FetchError>, until: Duration| TokenError::Endpoint {
            source: Arc::clone(error),
            retry_in: until.saturating_sub(mono),
        };
        if let Some(limited) = self.limited.as_ref().filter(|limited| mono < limited.until) {
            return Err(told(&limited.error, limited.until));
        }
        let rejected = self.rejections.refused_until(document, mono);
        if let Some((end, refused)) = rejected.zip(self.refused.as_ref()) {
            return Err(told(&refused.error, end));
        }
        self.rejections.try_alone(document, mono, deadline);
        Ok(Pass { document, sent_at: mono })
    }

    /// A renewal brought a token.
    pub(crate) fn worked(&mut self, pass: Pass) {
        self.accepted(pass.document, pass.sent_at);
        if self.is_after_limit(pass) {
            (self.limited, self.limits) = (None, 0);
        }
    }

    /// A renewal ended with a refusal of its refresh token alone (`invalid_grant`): a platform looks at the client first
    /// (RFC 6749 sections 3.2.1 and 6), and so took it.
    pub(crate) fn refused_the_grant(&mut self, pass: Pass) {
        self.accepted(pass.document, pass.sent_at);
    }

    /// The platform took `document`, which was sent at `sent_at`. A later refusal stands.
    pub(crate) fn accepted(&mut self, document: Sha256, sent_at: Duration) {
        if self.is_refused_since(document, sent_at) {
            return;
        }
        (self.taken, self.too_new) = (Some(document), 0);
        self.rejections.forgive(document);
    }

    /// A renewal failed at `mono`. Returns for how long no other is sent; nothing where the failure is its own.
    pub(crate) fn failed(&mut self, pass: Pass, mono: Duration, error: &Arc<FetchError>, share: Share) -> Duration {
        let until = match error.as_ref() {
            FetchError::Rejected { platform_code, .. } if is_about_the_client(platform_code) => {
                self.refused(pass, mono, error)
            }
            FetchError::RateLimited { retry_after, .. } => {
                let before = if self.is_after_limit(pass) { self.limits } else { self.limits.saturating_sub(1) };
                let pause = pause_after(Cause::RateLimited, before, *retry_after, share).min(LIMIT_MAX);
                self.limits = before.saturating_add(1);
                self.limited(mono.saturating_add(pause), error)
            }
            FetchError::Rejected { .. } | FetchError::Transient { .. } | FetchError::Unusable(_) => mono,
        };
        until.saturating_sub(mono)
    }

    fn refused(&mut self, pass: Pass, mono: Duration, error: &Arc<FetchError>) -> Duration {
        let Pass { document, sent_at } = pass;
        // those that were under way when the first one was refused are the same try
        if !self.is_refused_since(document, sent_at) {
            // not every server of a platform knows a new secret at once
            if self.taken.is_some_and(|taken| taken != document) && self.too_new < REPLACED_TRIES {
                self.too_new += 1;
                self.rejections.leave_alone(document, mono, REPLACED_AGAIN);
            } else {
                self.rejections.strike(document, mono);
            }
            self.refused = Some(Refused { document, at: mono, error: Arc::clone(error) });
        }
        self.rejections.refused_until(document, mono).unwrap_or(mono)
    }

    /// Whether the last refusal is of `document`, and not from before `sent_at`.
    fn is_refused_since(&self, document: Sha256, sent_at: Duration) -> bool {
        self.refused.as_ref().is_some_and(|last| last.document == document && last.at >= sent_at)
    }

    fn limited(&mut self, until: Duration, error: &Arc<FetchError>) -> Duration {
        let longest = self.limited.as_ref().map_or(until, |limited| limited.until.max(until));
        self.limited = Some(Limited { until: longest, error: Arc::clone(error) });
        longest
    }

    /// Whether a renewal was sent when no limit was known, or after the last one had been waited out.
    fn is_after_limit(&self, pass: Pass) -> bool {
        self.limited.as_ref().is_none_or(|limited| limited.until <= pass.sent_at)
    }
}

/// Whether a refusal is about the client, and so about every session. A bare 401 and the like may be about one user's
/// refresh token, which must not stop the others.
fn is_about_the_client(platform_code: &str) -> bool {
    matches!(
        platform_code,
        "invalid_client" | "unauthorized_client" | "unsupported_grant_type" | "client.disabled" | "bad.credentials"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_success_that_was_sent_before_a_refusal_does_not_lift_it() {
        let (mut gate, document) = (Gate::default(), Sha256([1; 32]));
        let platform_code = "invalid_client".to_owned();
        let error = Arc::new(FetchError::Rejected { platform_code, correlation_id: None });
        let slow = gate.permit(document, SECOND, SECOND).unwrap();
        let quick = gate.permit(document, 2 * SECOND, SECOND).unwrap();
        let pause = gate.failed(quick, 3 * SECOND, &error, Share::NONE);
        gate.worked(slow);
        gate.refused_the_grant(slow);
        gate.accepted(document, 3 * SECOND);
        assert!(gate.permit(document, 4 * SECOND, SECOND).is_err());
        gate.accepted(document, 4 * SECOND);
        assert!(gate.permit(document, 4 * SECOND, SECOND).is_ok(), "it was sent after the refusal");
        assert!(pause > 100 * SECOND);
    }
}
