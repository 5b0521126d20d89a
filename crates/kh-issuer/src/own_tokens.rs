//! keyholder's own opaque tokens as the verifier of callers' tokens asks for them ([`TokenAuthority`]).
//!
//! Invariant: nothing is remembered here or to be remembered there: a look into memory costs less than a microsecond,
//! and a token that is revoked or whose client is disabled is refused with the next request.

use std::sync::Arc;

use kh_core::{
    Now, SecretString,
    identity::Identity,
    port::{BoxFuture, RemoteError, TokenAnswer, TokenAuthority},
};

use crate::{Issuer, Session};

/// The opaque tokens (`kht_...`) of one issuer.
pub struct OwnTokens {
    issuer: Arc<Issuer>,
    iss: Arc<str>,
}

impl OwnTokens {
    /// The tokens of `issuer`; their identities carry `iss`.
    pub fn new(issuer: Arc<Issuer>, iss: Arc<str>) -> Self {
        Self { issuer, iss }
    }

    /// Who a session speaks for. A client that acts for itself is its own subject (RFC 9068 section 2.2).
    fn identity(&self, session: &Session) -> Option<Identity> {
        let record = &session.client.record;
        let mut identity = Identity::builder(Arc::clone(&self.iss))
            .client(record.id.as_str())
            .subject(record.id.as_str())
            .issued_at(session.issued_at)
            .expires_at(session.expires_at);
        for audience in &record.audience {
            identity = identity.audience(audience);
        }
        for scope in session.scopes() {
            identity = identity.scope(scope);
        }
        if let Some(confirmation) = session.confirmation() {
            identity = identity.confirmation(*confirmation);
        }
        identity.build().ok()
    }
}

impl std::fmt::Debug for OwnTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnTokens").field("iss", &self.iss).finish_non_exhaustive()
    }
}

impl TokenAuthority for OwnTokens {
    fn ask<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<TokenAnswer, RemoteError>> {
        Box::pin(async move {
            let session = self.issuer.session_or_load(token.expose().as_bytes()).await;
            let session = session.map_err(|error| RemoteError::new(error.to_string()))?;
            let Some(session) = session else { return Ok(TokenAnswer::Inactive) };
            let identity =
                self.identity(&session).ok_or_else(|| RemoteError::new("a client has more scopes than fit"))?;
            Ok(TokenAnswer::Active { identity: Box::new(identity), age: std::time::Duration::ZERO })
        })
    }

    fn in_memory(&self, token: &[u8], now: Now) -> Option<Identity> {
        self.identity(&self.issuer.session_at(token, now)?)
    }
}
