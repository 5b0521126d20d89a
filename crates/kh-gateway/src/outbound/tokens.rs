//! Where the tokens of one call come from: the credential's, which all its callers share, or those of the user's session
//! that the caller's token speaks for.
//!
//! Invariant: a caller whose token speaks for a session is never handed a token that others share, nor the other way
//! round.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use kh_broker::{Credential, Lease, SessionError, TokenError, UserSessions};
use kh_core::{ClientId, Code, Now, Retry, Sha256};
use kh_issuer::Session;

use super::Outbound;
use crate::answer::Refusal;

/// RFC 6750 section 3.1. What an SDK in the code flow takes for a reason to send its user to the login again.
const CHALLENGE_ENDED: &str =
    r#"Bearer realm="keyholder", error="invalid_token", error_description="the session has ended: log in again""#;

/// Where the tokens of one call come from.
pub(crate) struct Tokens {
    credential: Arc<Credential>,
    /// The sessions, and the digest of the caller's token.
    session: Option<(Arc<UserSessions>, Sha256)>,
}

/// The tokens for the calls of `session` by its client's `credential`.
pub(super) fn of(site: &Outbound, credential: Arc<Credential>, session: &Session) -> Result<Tokens, Refusal> {
    if credential.spec().sessions.is_none() {
        return Ok(Tokens::shared(credential));
    }
    let Some(sessions) = &site.sessions else {
        return Err(refusal(&TokenError::PerSession));
    };
    Ok(Tokens { credential, session: Some((Arc::clone(sessions), session.digest)) })
}

impl Tokens {
    /// Those that all callers of `credential` share.
    pub(crate) fn shared(credential: Arc<Credential>) -> Self {
        Self { credential, session: None }
    }

    /// The credential by which the call is made.
    pub(super) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// A good token out of memory.
    pub(super) fn current_at(&self, now: Now) -> Option<Arc<Lease>> {
        match &self.session {
            None => self.credential.current_at(now),
            Some((sessions, token)) => sessions.current_at(*token, now),
        }
    }

    /// A token, waiting for it if need be.
    pub(super) async fn lease(&self) -> Result<Arc<Lease>, Refusal> {
        match &self.session {
            None => self.credential.lease(Duration::ZERO).await.map_err(|error| refusal(&error)),
            Some((sessions, token)) => sessions.lease(*token).await.map_err(|error| of_session(&error)),
        }
    }

    /// The platform refused the token. Whether it was the one that is handed out.
    pub(super) fn invalidate(&self, lease: &Lease) -> bool {
        match &self.session {
            None => self.credential.invalidate(lease.sha256()),
            Some((sessions, token)) => sessions.invalidate(*token, lease.sha256()),
        }
    }

    /// A fresh token was refused as well.
    pub(super) fn doubt(&self, lease: &Lease, who: &ClientId) {
        match &self.session {
            None => self.credential.doubt(lease.sha256(), who),
            Some((sessions, token)) => sessions.doubt(*token, lease.sha256()),
        }
    }

    /// Whether a refusal of this token says nothing about the token.
    pub(super) fn is_doubted(&self, lease: &Lease, who: &ClientId) -> bool {
        match &self.session {
            None => lease.is_proven() && self.credential.is_doubted(lease.sha256(), who),
            Some((sessions, token)) => sessions.is_doubted(*token, lease.sha256()),
        }
    }
}

/// The refusal of a call for which no token could be had.
pub(super) fn refusal(error: &TokenError) -> Refusal {
    let mut refusal = Refusal::new(error.code(), error.to_string());
    // whatever went wrong, it is not the caller's token
    if refusal.status.is_client_error() {
        refusal.status = StatusCode::BAD_GATEWAY;
    }
    refusal.platform_code = error.platform_code().map(Box::from);
    refusal.correlation_id = error.correlation_id().map(Box::from);
    if let Retry::After(wait) = error.retry() {
        refusal = refusal.after(wait);
    }
    refusal
}

/// The same for a session: its end is the caller's to know, with a 401 that makes it log in again.
pub(super) fn of_session(error: &SessionError) -> Refusal {
    match error {
        SessionError::Ended(_) | SessionError::Unknown => {
            Refusal { told: Some(CHALLENGE_ENDED.into()), ..Refusal::new(Code::SESSION_ENDED, error.to_string()) }
        }
        SessionError::Token(error) => refusal(error),
        // never 401: nobody knows whether the session has ended
        SessionError::State(_) | SessionError::Broken | SessionError::Full(_) | SessionError::Grant(_) => {
            Refusal { status: StatusCode::SERVICE_UNAVAILABLE, ..Refusal::new(error.code(), error.to_string()) }
        }
    }
}
