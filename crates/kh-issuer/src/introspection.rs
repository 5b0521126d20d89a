//! What a token is (RFC 7662), and giving one back (RFC 7009), for a client that was authenticated.
//!
//! Invariants: a client revokes its own tokens alone; who may not know a token hears what one hears of a token that does
//! not exist; a token of a client that is disabled or gone is not active, whatever its form.

use kh_core::{
    ClientId, Confirmation, UnixMillis,
    port::{ClientRecord, StateError},
};

use crate::{
    Client, Issuer, Session,
    access_token::{self, OwnJwt},
};

/// An active token as it may be told (RFC 7662 section 2.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActiveToken {
    /// Whose it is: `client_id`, and `sub` as well.
    pub client: ClientId,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Whom it is for.
    pub audience: Vec<String>,
    /// When it was issued.
    pub issued_at: UnixMillis,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// `jti` of a JWT.
    pub id: Option<String>,
    /// What it is bound to (`cnf`, RFC 8705 section 3.2, RFC 9449 section 6.2).
    pub bound: Option<Confirmation>,
}

/// Why a token was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// It is another client's (RFC 7009 section 2.1).
    #[error("the token was issued to another client")]
    NotYours,
    /// It is a JWT, and there is nowhere to write down that it is revoked (RFC 7009 section 2.2.1).
    #[error("a JWT cannot be revoked: it ends by itself")]
    Unsupported,
    /// The state refused or failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Issuer {
    /// The token as `asking` may know it; none: it is not active, or not for `asking` to know.
    pub async fn introspect(&self, asking: &ClientRecord, token: &[u8]) -> Result<Option<ActiveToken>, StateError> {
        if !asking.may_introspect {
            return Ok(None);
        }
        let found = match self.session_or_load(token).await? {
            Some(session) => Some(of_session(&session)),
            None => self.of_jwt(token),
        };
        Ok(found.filter(|token| concerns(asking, token)))
    }

    /// A token of this issuer, opaque or JWT, that is presented at one of its own endpoints: none unless it is active. A
    /// JWT must be meant for this issuer (`aud` names it), so that no API that takes such tokens can use its callers'.
    pub async fn presented(&self, token: &[u8]) -> Result<Option<ActiveToken>, StateError> {
        if let Some(session) = self.session_or_load(token).await? {
            return Ok(Some(of_session(&session)));
        }
        let Some(authority) = &self.authority else { return Ok(None) };
        let is_meant = |token: &ActiveToken| token.audience.iter().any(|one| one == authority.issuer.as_str());
        Ok(self.of_jwt(token).filter(is_meant))
    }

    /// Revokes a token of `client`; durable when it returns. Nothing is said about whether there was one.
    pub async fn revoke_own(&self, client: &ClientId, token: &[u8]) -> Result<(), RevokeError> {
        if let Some(session) = self.session_or_load(token).await? {
            if session.client.record.id != *client {
                return Err(RevokeError::NotYours);
            }
            self.revoke_digest(session.digest).await?;
            return Ok(());
        }
        let (Some(authority), Some(found)) = (&self.authority, self.own_jwt(token)) else { return Ok(()) };
        if found.client != *client {
            return Err(RevokeError::NotYours);
        }
        let revoked = self.revoked.as_ref().ok_or(RevokeError::Unsupported)?;
        Ok(revoked.revoke(authority.issuer.as_str(), &found, self.now().wall).await?)
    }

    /// A JWT of this issuer that has neither expired nor been revoked.
    fn own_jwt(&self, token: &[u8]) -> Option<OwnJwt> {
        let authority = self.authority.as_ref()?;
        let found = access_token::read(authority, token, self.now().wall)?;
        let issuer = authority.issuer.as_str();
        let revoked = self.revoked.as_ref().is_some_and(|revoked| revoked.hits(issuer, &found, token));
        (!revoked).then_some(found)
    }

    /// A JWT of this issuer whose client may still use it.
    fn of_jwt(&self, token: &[u8]) -> Option<ActiveToken> {
        let token = self.own_jwt(token)?;
        let client = self.registry.by_id(token.client.as_str()).map(|(_, client)| client);
        let record = &client?.record;
        if !record.enabled || !record.token_binding.is_met(token.bound.as_ref()) {
            return None;
        }
        Some(ActiveToken {
            client: token.client,
            scopes: token.scopes,
            audience: token.audience,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            id: Some(token.id),
            bound: token.bound,
        })
    }
}

fn of_session(session: &Session) -> ActiveToken {
    let Client { record, .. } = &*session.client;
    ActiveToken {
        client: record.id.clone(),
        scopes: session.scopes().to_vec(),
        audience: record.audience.clone(),
        issued_at: session.issued_at,
        expires_at: session.expires_at,
        id: None,
        bound: session.confirmation().copied(),
    }
}

/// Whether the token is for one of the APIs that `asking` speaks for; one that names none speaks for all.
fn concerns(asking: &ClientRecord, token: &ActiveToken) -> bool {
    asking.audience.is_empty() || token.audience.iter().any(|one| asking.audience.contains(one))
}
