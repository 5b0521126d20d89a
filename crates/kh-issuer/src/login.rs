//! Logging in with a client id and secret, and giving an opaque token back.
//!
//! A login is refused in one way only, whether the client is unknown or the secret wrong, after the same work. When
//! a client is at its limit of live tokens, its longest idle token makes room, provided nobody used it for
//! [`EVICT_IDLE`]: an application that logs in at every start is never locked out, and a token in use is never taken
//! away, because official SDKs do not log in again on a 401.

use std::{net::IpAddr, sync::Arc, time::Duration};

use kh_core::{
    ClientId, Confirmation, Now, SecretString, Sha256, UnixMillis,
    environment::EnvironmentRefused,
    issued::{self, IssuedKind},
    port::{ClientRecord, StateError, TokenBinding, TokenFormat, TokenRecord},
};

use crate::{
    Client, Issuer, LoginError, access_token,
    ledger::Room,
    reload::POLL_EVERY,
    scope,
    table::{Entry, Life, Lookup, Slot},
    throttle::Wait,
};

/// Live tokens of one client: one login every nine seconds, day and night, at the default life of 24 hours. About
/// 2 MB of memory.
pub const CLIENT_TOKENS_MAX: usize = 10_000;

/// How long a token must have been idle before it makes room for a new one. After a restart every token counts as
/// just used.
pub const EVICT_IDLE: Duration = Duration::from_hours(1);

/// Compared where no secret is, so that every login does the same work. Not the digest of anything known.
const NO_SECRET: Sha256 = Sha256([0; 32]);

/// How often a login looks, [`POLL_EVERY`], whether the moment of a revocation is over: for two seconds.
const REVOKED_LOOKS: u32 = 8;

/// What a token request asks for besides its client.
#[derive(Clone, Copy, Default, Debug)]
pub struct Asked<'a> {
    /// What the client proved to hold beside its secret.
    pub held: Held,
    /// The `scope` parameter; none: all that the client has.
    pub scope: Option<&'a str>,
}

/// A successful login (RFC 6749 section 5.1). An opaque token is already durable.
#[derive(Debug)]
pub struct Login {
    /// The opaque token `kht_...`, or a JWT; told once.
    pub access_token: SecretString,
    /// Its life from now.
    pub expires_in: Duration,
    /// Its scopes; empty for a client without any.
    pub scopes: Vec<String>,
    /// What it is bound to; none: it is a bearer token.
    pub bound: Option<Confirmation>,
    /// Who logged in.
    pub client: Arc<Client>,
}

kh_core::assert_closed!(Login);

/// What a client proved to hold when it logged in, beside its secret.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Held {
    /// SHA-256 of the DER of its connection's certificate.
    pub certificate: Option<Sha256>,
    /// The thumbprint (RFC 7638) of the key that signed the request's `DPoP` proof.
    pub key: Option<Sha256>,
}

impl Held {
    /// What the client's token will be bound to: what the client must be, else the key if there is one.
    pub fn confirmation(self, record: &ClientRecord) -> Result<Option<Confirmation>, LoginError> {
        let name = || record.name.clone();
        match (record.token_binding, self.certificate, self.key) {
            (TokenBinding::Certificate, _, Some(_)) => Err(LoginError::TwoBindings(name())),
            (TokenBinding::Certificate, None, None) => Err(LoginError::CertificateNeeded(name())),
            (TokenBinding::Certificate, Some(digest), None) => Ok(Some(Confirmation::X5tS256(digest.0))),
            (TokenBinding::Dpop, _, None) => Err(LoginError::ProofNeeded(name())),
            (TokenBinding::Dpop | TokenBinding::None, _, Some(key)) => Ok(Some(Confirmation::Jkt(key.0))),
            (TokenBinding::None, _, None) => Ok(None),
        }
    }
}

impl Issuer {
    /// Client credentials login (RFC 6749 section 4.4). An opaque token is durable before it is returned. Dropping the
    /// future may leave an issued token behind that nobody knows; it expires like any other.
    pub async fn login(&self, client_id: &str, secret: &SecretString) -> Result<Login, LoginError> {
        self.login_if(client_id, secret, Asked::default(), |_| Ok(())).await
    }

    /// The same for a caller that knows the request and the client's credential: `admit` is asked once the client is
    /// authenticated, and nothing is issued if it refuses. Wrong logins are neither counted nor held up here: that is
    /// [`Issuer::admit_login`].
    pub async fn login_if(
        &self,
        client_id: &str,
        secret: &SecretString,
        asked: Asked<'_>,
        admit: impl Fn(&ClientRecord) -> Result<(), EnvironmentRefused> + Send + Sync,
    ) -> Result<Login, LoginError> {
        let (slot, client) = self.authenticate(client_id, secret).await?;
        admit(&client.record)?;
        match self.issue(&slot, &client, asked).await {
            // removed or disabled in another process since it was read here
            Err(LoginError::State(StateError::NoSuchClient(_))) => {
                self.reload().await?;
                let (slot, client) = self.verify(client_id, secret)?;
                admit(&client.record)?;
                self.issue(&slot, &client, asked).await
            }
            other => other,
        }
    }

    /// Authenticates a client that wants no token: for introspection and revocation.
    pub async fn authenticated(&self, client_id: &str, secret: &SecretString) -> Result<Arc<Client>, LoginError> {
        Ok(self.authenticate(client_id, secret).await?.1)
    }

    /// Whether a login of `client_id` from `address` may be tried now, before its secret is looked at. Say with
    /// [`Issuer::login_ended`] how it ended.
    pub fn admit_login(&self, client_id: &str, address: Option<IpAddr>) -> Result<(), LoginError> {
        self.throttle.lock().admit(client_id, address, self.now()).map_err(LoginError::Throttled)
    }

    /// Counts a login that was tried; answers who has to wait because of it.
    pub fn login_ended(&self, client_id: &str, address: Option<IpAddr>, wrong: bool) -> Option<Wait> {
        let now = self.now();
        let mut throttle = self.throttle.lock();
        if wrong {
            return throttle.wrong(client_id, address, now);
        }
        throttle.right(client_id, address, now);
        None
    }

    /// Verifies against memory, and before refusing once more against what other processes may have changed.
    async fn authenticate(&self, client_id: &str, secret: &SecretString) -> Result<(Slot, Arc<Client>), LoginError> {
        if let Ok(found) = self.verify(client_id, secret) {
            return Ok(found);
        }
        self.refresh().await?;
        self.verify(client_id, secret)
    }

    fn verify(&self, client_id: &str, secret: &SecretString) -> Result<(Slot, Arc<Client>), LoginError> {
        let given = secret.sha256();
        let found = self.registry.by_id(client_id);
        let secrets = found.as_ref().map_or([None; 2], |(_, client)| client.live_secrets(self.now().wall));
        let matches = is_one_of(secrets, |secret| secret.ct_eq(&given));
        match found {
            Some((_, client)) if matches && !client.record.enabled => {
                Err(LoginError::Disabled(client.record.name.clone()))
            }
            Some(found) if matches => Ok(found),
            _ => Err(LoginError::Rejected),
        }
    }

    async fn issue(&self, slot: &Slot, client: &Arc<Client>, asked: Asked<'_>) -> Result<Login, LoginError> {
        let record = &client.record;
        let narrowed = scope::narrowed(record, asked.scope).map_err(|_| LoginError::Scope(record.name.clone()))?;
        let bound = asked.held.confirmation(record)?;
        let scopes = narrowed.clone().unwrap_or_else(|| record.scopes.clone());
        match record.token_format {
            TokenFormat::Jwt => {
                let authority = self.authority.as_ref().ok_or(LoginError::NoIssuer)?;
                self.past_revocations(authority.issuer.as_str(), &record.id).await;
                let made = access_token::issue(authority, record, &scopes, bound, (self.now().wall, &*self.entropy));
                let (access_token, expires_in) = made?;
                Ok(Login { access_token, expires_in, scopes, bound, client: Arc::clone(client) })
            }
            TokenFormat::Opaque => self.issue_opaque(slot, client, (narrowed, scopes), bound).await,
        }
    }

    /// Waits until what a client is issued would not be revoked already. A JWT names its time in whole seconds, and a
    /// revocation of all that a client has reaches to the end of its moment, or a little ahead of it.
    async fn past_revocations(&self, issuer: &str, client: &ClientId) {
        let Some(revoked) = &self.revoked else { return };
        for _ in 0..REVOKED_LOOKS {
            let second = UnixMillis(self.now().wall.as_secs() * 1_000);
            if !revoked.hits_session(Some(issuer), client, second) {
                return;
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    async fn issue_opaque(
        &self,
        slot: &Slot,
        client: &Arc<Client>,
        (narrowed, scopes): (Option<Vec<String>>, Vec<String>),
        bound: Option<Confirmation>,
    ) -> Result<Login, LoginError> {
        // held until the token is in the table, so that logins under way count
        let _room = self.make_room(client).await?;
        let access_token = issued::issue(IssuedKind::Token, &*self.entropy);
        let expires_in = Duration::from_secs(client.record.token_ttl_s);
        let now = self.now();
        let token = TokenRecord {
            digest: access_token.sha256(),
            client: client.record.id.clone(),
            issued_at: now.wall,
            expires_at: now.wall.plus(expires_in),
            scopes: narrowed,
            confirmation: bound,
        };
        // it can be revoked as soon as it is in the store
        let ticket = self.ledger.begin_load();
        self.store.add_token(token.clone()).await?;
        ticket.admit(&token, Arc::clone(slot), now);
        Ok(Login { access_token, expires_in, scopes, bound, client: Arc::clone(client) })
    }

    async fn make_room(&self, client: &Client) -> Result<Room<'_>, LoginError> {
        let id = &client.record.id;
        if let Some(room) = self.ledger.reserve(id, CLIENT_TOKENS_MAX) {
            return Ok(room);
        }
        let full = || LoginError::TooManyTokens { client: client.record.name.clone(), limit: CLIENT_TOKENS_MAX };
        let now = self.now();
        let evicted = self.ledger.highest(id, |entry| idle_rank(entry, now)).ok_or_else(full)?;
        self.take_away(evicted, Some(id)).await?;
        tracing::warn!(
            client.id = %id,
            client.name = %client.record.name,
            "the client is at its limit of {CLIENT_TOKENS_MAX} live tokens; its longest idle token was revoked"
        );
        self.ledger.reserve(id, CLIENT_TOKENS_MAX).ok_or_else(full)
    }

    /// Revokes a token; durable when it returns. `Ok(false)`: there was no such token. Safe to repeat. Dropping the future
    /// does not stop a revocation that has begun.
    pub async fn revoke(&self, token: &[u8]) -> Result<bool, StateError> {
        match std::str::from_utf8(token) {
            Ok(text) if issued::is_well_formed(IssuedKind::Token, text) => self.revoke_digest(Sha256::of(token)).await,
            _ => Ok(false),
        }
    }

    /// Revokes by digest, for a caller that holds the [`crate::Session`].
    pub async fn revoke_digest(&self, digest: Sha256) -> Result<bool, StateError> {
        let here = !matches!(self.ledger.table.lookup(digest, self.now()), Lookup::Unknown);
        if !here && self.store.token(digest).await?.is_none() {
            return Ok(false);
        }
        self.take_away(digest, None).await?;
        Ok(true)
    }

    /// Takes a token out of the store and then out of memory, as a task of its own: whoever asked may hang up in between,
    /// and no later look at the store tells that the token is gone from it.
    async fn take_away(&self, digest: Sha256, client: Option<&ClientId>) -> Result<(), StateError> {
        let (store, ledger, client) = (Arc::clone(&self.store), Arc::clone(&self.ledger), client.cloned());
        let task = tokio::spawn(async move {
            let removed = store.remove_token(digest).await;
            if removed.is_ok() {
                ledger.forget(&digest, client.as_ref());
            }
            removed
        });
        task.await.unwrap_or_else(|lost| {
            let reason = "whether the token was removed is not known".to_owned();
            Err(StateError::Unavailable { reason, source: Some(Box::new(lost)) })
        })
    }

    /// Revokes every token that a client has now; durable when it returns. Answers how many there were. Safe to repeat.
    ///
    /// Another process takes a secret that was removed here, or a token, for as long as it has not looked
    /// (`POLL_EVERY`): what such a login was given meanwhile goes in a second pass.
    pub async fn revoke_tokens_of(&self, client: &ClientId) -> Result<usize, StateError> {
        let first = self.revoke_present(client).await?;
        tokio::time::sleep(2 * POLL_EVERY).await;
        Ok(first + self.revoke_present(client).await?)
    }

    async fn revoke_present(&self, client: &ClientId) -> Result<usize, StateError> {
        let mut revoked = 0;
        for token in self.store.live_tokens(self.now().wall).await? {
            if token.client == *client {
                self.take_away(token.digest, Some(client)).await?;
                revoked += 1;
            }
        }
        Ok(revoked)
    }
}

/// Expired tokens go first, then the longest idle; tokens in use do not go.
fn idle_rank(entry: &Entry, now: Now) -> Option<(bool, Duration)> {
    let idle = entry.idle(now);
    let expired = entry.life(now) != Life::Valid;
    (expired || idle >= EVICT_IDLE).then_some((expired, idle))
}

/// Whether one of the live secrets is the given one. As many are compared whatever there is: of a client without a
/// second secret, and of nobody.
fn is_one_of(live: [Option<Sha256>; 2], mut is_given: impl FnMut(Sha256) -> bool) -> bool {
    live.into_iter().fold(false, |found, secret| {
        let equal = is_given(secret.unwrap_or(NO_SECRET));
        found | (equal & secret.is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_secrets_are_compared_whatever_there_is() {
        let (given, other) = (Sha256([1; 32]), Sha256([2; 32]));
        for (live, expected) in [
            ([None, None], false),
            ([Some(other), None], false),
            ([Some(other), Some(other)], false),
            ([Some(given), None], true),
            ([Some(given), Some(other)], true),
            ([Some(other), Some(given)], true),
        ] {
            let mut compared = 0;
            let found = is_one_of(live, |secret| {
                compared += 1;
                secret.ct_eq(&given)
            });
            assert_eq!((found, compared), (expected, 2), "{live:?}");
        }
    }

    #[test]
    fn the_secret_of_nobody_lets_nobody_in() {
        assert!(!is_one_of([None, None], |secret| secret.ct_eq(&NO_SECRET)));
    }
}
