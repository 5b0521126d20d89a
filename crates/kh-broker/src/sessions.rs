//! The sessions of users at platforms: begun by an authorization code, renewed here, ended together with the keyholder
//! token that speaks for them.
//!
//! Invariants: a session's tokens leave this crate in calls to the platform alone, and never to a caller; while any
//! process may be renewing a session, no other begins; a request waits for a renewal only when there is no good token.

mod ending;
mod error;
mod gate;
mod live;
mod renewal;
mod sealed;
mod tending;

use std::{collections::HashMap, sync::Arc, time::Duration};

use kh_core::{
    ClientId, CredentialName, Now, SecretBytes, Sha256,
    credential::CredentialDocument,
    port::{Grant, Instances, SessionLimits, SessionRecord, SessionStore, StateError},
    session::{RefreshJournal, SessionEnd, SessionName},
};
use kh_resilience::Share;
use kh_token::{TokenPolicy, policy::PATIENCE, session::RenewalPolicy};
use parking_lot::RwLock;
use tokio::sync::Notify;

pub(crate) use self::gate::Gate;
use self::{
    ending::Counters,
    live::{Live, Step},
    renewal::{RECORD_MAX, Renewal},
    sealed::{SealedFor, SessionKey, Tokens},
};
pub use self::{ending::SessionCounts, error::SessionError};
use crate::{Broker, Credential, Lease, TokenError, lease::Bases, status::count};

/// Sessions at once, in all: each takes some 3 KiB of memory while it is used, and as much on disk.
pub const SESSIONS_MAX: u32 = 100_000;

/// How often one caller asks at most, as for credentials; looks at what another process does are counted apart.
const ROUNDS_MAX: u32 = 64;

/// How many failed renewals one caller sits through.
const FAILURES_MAX: u64 = 3;

/// How long a caller waits for a renewal before it asks again; the renewal has its own, shorter deadline.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How often a session that another process renews is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a 401 to a fresh token keeps the session's token from being replaced again.
const DOUBT_HOLDS: Duration = kh_token::policy::YOUNG;

/// What can be set about the sessions of a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionPolicy {
    /// Their longest life. The keyholder token that speaks for one ends it before that if it ends itself.
    pub life: Duration,
    /// How long one may go unused.
    pub idle_life: Duration,
    /// How many a client may have.
    pub per_client: u32,
    /// Whether a refresh token whose answer was lost is sent once more.
    pub retry_lost: bool,
}

impl SessionPolicy {
    fn renewal(self) -> RenewalPolicy {
        RenewalPolicy { retry_lost: self.retry_lost }
    }
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            life: Duration::from_hours(30 * 24),
            idle_life: Duration::from_hours(7 * 24),
            per_client: 10_000,
            retry_lost: RenewalPolicy::default().retry_lost,
        }
    }
}

/// What an authorization code brought; its session begins with [`UserSessions::begin`].
#[derive(Debug)]
pub struct Granted {
    tokens: Tokens,
    credential: CredentialName,
    policy: SessionPolicy,
}

kh_core::assert_closed!(Granted);

impl Granted {
    /// How long the session may live at most.
    pub fn life(&self) -> Duration {
        self.policy.life
    }
}

/// The sessions of users.
pub struct UserSessions {
    broker: Arc<Broker>,
    store: Arc<dyn SessionStore>,
    instances: Arc<dyn Instances>,
    key: SessionKey,
    live: RwLock<HashMap<Sha256, Arc<Live>>>,
    counters: Counters,
    /// Something has ended: look what is to be given back.
    closing: Notify,
}

impl UserSessions {
    /// Sessions at the credentials of `broker`, whose tokens are sealed with `key` (32 bytes; none if it has not).
    pub fn new(
        broker: &Arc<Broker>,
        store: Arc<dyn SessionStore>,
        instances: Arc<dyn Instances>,
        key: &SecretBytes,
    ) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            broker: Arc::clone(broker),
            store,
            instances,
            key: SessionKey::new(key)?,
            live: RwLock::default(),
            counters: Counters::default(),
            closing: Notify::new(),
        }))
    }

    /// Sends the user's authorization code to the platform, as the client of `credential`. A code works once: whatever
    /// comes of it, it is not sent again.
    pub async fn exchange(&self, credential: &Credential, code: Grant<'_>) -> Result<Granted, SessionError> {
        let spec = credential.spec();
        let Some(policy) = spec.sessions else { return Err(SessionError::Token(TokenError::PerSession)) };
        let document = self.document(credential).await?;
        let asked = self.broker.ports().clock.now();
        let issued = spec.endpoint.grant(&document, code).await.map_err(SessionError::Grant)?;
        credential.gate.lock().accepted(document.sha256(), asked.mono);
        let bases = Bases { api: spec.api_base.clone(), auth: spec.auth_base.clone() };
        let tokens = Tokens::issued(issued, asked.wall, (&None, bases));
        Ok(Granted { tokens, credential: credential.name().clone(), policy })
    }

    /// Begins the session that the keyholder token of digest `token` speaks for, for at most `life`; durable when it
    /// returns. When it fails, the platform's token is given back.
    pub async fn begin(
        &self,
        granted: Granted,
        token: Sha256,
        client: &ClientId,
        life: Duration,
    ) -> Result<(), SessionError> {
        let Granted { tokens, credential, policy } = granted;
        let ports = self.broker.ports();
        let now = ports.clock.now();
        let sealed =
            self.key.seal(SealedFor { session: token, client, credential: &credential }, &tokens, &*ports.entropy);
        let record = SessionRecord {
            token,
            client: client.clone(),
            credential,
            began_at: now.wall,
            used_at: now.wall,
            expires_at: now.wall.plus(life.min(policy.life)),
            idle_life: policy.idle_life,
            version: 1,
            journal: RefreshJournal::begin(tokens.refresh.is_some()),
            sealed: Some(sealed),
            end: None,
        };
        let limits = SessionLimits { per_client: policy.per_client, total: SESSIONS_MAX };
        if let Err(error) = self.store.begin_session(record.clone(), limits).await {
            self.give_back(&record.credential, &tokens).await;
            return Err(error.into());
        }
        count(&self.counters.begun);
        tracing::info!(
            client.id = %client,
            credential.name = %record.credential,
            session.id = %SessionName::of(token),
            renewable = tokens.refresh.is_some(),
            "a user's session began"
        );
        self.keep(&record, tokens, now);
        Ok(())
    }

    /// Gives the platform's token of a code back, when its session cannot begin.
    pub async fn discard(&self, granted: Granted) {
        self.give_back(&granted.credential, &granted.tokens).await;
    }

    async fn give_back(&self, credential: &CredentialName, tokens: &Tokens) {
        let Some(credential) = self.broker.credential(credential) else { return };
        if let Err(error) = credential.spec().endpoint.give_back(&tokens.api_base, &tokens.access).await {
            tracing::warn!(
                credential.name = %credential.name(),
                "the token of a session that did not begin could not be given back: {error}"
            );
        }
    }

    fn keep(&self, record: &SessionRecord, tokens: Tokens, now: Now) -> Arc<Live> {
        let share = Share::draw(&*self.broker.ports().entropy);
        let live = Arc::new(Live::new(record, tokens, &self.token_policy(&record.credential), now, share));
        // of two that load it at once, one copy counts
        Arc::clone(self.live.write().entry(record.token).or_insert(live))
    }

    fn token_policy(&self, credential: &CredentialName) -> TokenPolicy {
        self.broker.credential(credential).map(|credential| credential.spec().policy).unwrap_or_default()
    }

    /// The session's token if memory has a good one, without waiting. Starts the early renewal in the background when it
    /// is due.
    pub fn current_at(self: &Arc<Self>, token: Sha256, now: Now) -> Option<Arc<Lease>> {
        let live = self.live.read().get(&token).map(Arc::clone)?;
        let (lease, claims) = live.current(now)?;
        if claims {
            self.step(&live, now);
        }
        Some(lease)
    }

    /// The session's token, renewed if need be. Dropping the future harms nobody.
    pub async fn lease(self: &Arc<Self>, token: Sha256) -> Result<Arc<Lease>, SessionError> {
        let live = self.load(token).await?;
        let mut tide = live.tide.subscribe();
        let failures_before = tide.borrow().failures;
        let (mut has_looked, mut rounds, mut looks) = (false, 0, self.looks_max(&live));
        while rounds < ROUNDS_MAX {
            rounds += 1;
            let failures = tide.borrow_and_update().failures.saturating_sub(failures_before);
            let pause = match self.step(&live, self.broker.ports().clock.now()) {
                Step::Ready(lease) => return Ok(lease),
                // another process may have renewed it since it was read
                Step::Ended(_) if !has_looked => {
                    has_looked = true;
                    self.look(&live).await?;
                    continue;
                }
                Step::Ended(end) => {
                    self.end(&live, end).await;
                    return Err(SessionError::Ended(end));
                }
                Step::Wait => WAIT_MAX,
                Step::Hold(pause) if pause > PATIENCE || failures >= FAILURES_MAX => {
                    return Err(SessionError::Token(last_error(&live, pause)));
                }
                Step::Hold(pause) => pause,
                Step::Look => {
                    looks = looks.checked_sub(1).ok_or(TokenError::GaveUp)?;
                    rounds -= 1;
                    tokio::select! {
                        biased;
                        () = self.broker.ports().cancel.cancelled() => return Err(TokenError::Closed.into()),
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                    self.look(&live).await?;
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = self.broker.ports().cancel.cancelled() => return Err(TokenError::Closed.into()),
                changed = tide.changed() => changed.map_err(|_closed| TokenError::Closed)?,
                () = tokio::time::sleep(pause) => {}
            }
        }
        Err(TokenError::GaveUp.into())
    }

    /// How often a renewal by another process is looked at: for as long as one takes, with its record.
    fn looks_max(&self, live: &Live) -> u128 {
        let longest = self.token_policy(&live.credential).fetch_deadline.saturating_add(RECORD_MAX);
        longest.as_millis() / LOOK_EVERY.as_millis()
    }

    fn step(self: &Arc<Self>, live: &Arc<Live>, now: Now) -> Step {
        let credential = self.broker.credential(&live.credential);
        let policy = credential.and_then(|credential| credential.spec().sessions).unwrap_or_default();
        let (step, begins) = live.step(policy.renewal(), &*self.instances, now);
        if begins {
            Renewal::launch(self, live);
        }
        step
    }

    /// The session in memory, else out of the state.
    async fn load(&self, token: Sha256) -> Result<Arc<Live>, SessionError> {
        if let Some(live) = self.live.read().get(&token).map(Arc::clone) {
            return Ok(live);
        }
        let record = self.store.session(token).await?.ok_or(SessionError::Unknown)?;
        if let Some(end) = record.end {
            return Err(SessionError::Ended(end));
        }
        let tokens = self.open(&record).ok_or(SessionError::Broken)?;
        let live = self.keep(&record, tokens, self.broker.ports().clock.now());
        // one that ended after it was read, and before it stood in memory where its end would have found it
        self.look(&live).await?;
        Ok(live)
    }

    /// Reads a session again that another process may have changed.
    async fn look(&self, live: &Live) -> Result<(), StateError> {
        let Some(record) = self.store.session(live.token).await? else {
            live.inner.lock().end.get_or_insert(SessionEnd::TokenRevoked);
            live.lease.store(None);
            live.wake(false);
            return Ok(());
        };
        let tokens = self.open(&record);
        let ports = self.broker.ports();
        let (now, share) = (ports.clock.now(), Share::draw(&*ports.entropy));
        live.adopt(&record, tokens, &self.token_policy(&record.credential), now, share);
        Ok(())
    }

    fn open(&self, record: &SessionRecord) -> Option<Tokens> {
        let of = SealedFor { session: record.token, client: &record.client, credential: &record.credential };
        self.key.open(of, record.sealed.as_deref()?)
    }

    fn seal(&self, live: &Live, tokens: &Tokens) -> Vec<u8> {
        self.key.seal(live.sealed_for(), tokens, &*self.broker.ports().entropy)
    }

    /// The platform answered 401 to the session's token named by `sha256`: the next caller renews it. Returns whether it
    /// was the one that is handed out.
    pub fn invalidate(&self, token: Sha256, sha256: Sha256) -> bool {
        let live = self.live.read().get(&token).map(Arc::clone);
        live.is_some_and(|live| live.take_out(sha256))
    }

    /// A token that was renewed because of a 401 was answered with 401 as well: for a minute no 401 renews it.
    pub fn doubt(&self, token: Sha256, sha256: Sha256) {
        if let Some(live) = self.live.read().get(&token) {
            live.doubt(sha256, self.broker.ports().clock.now());
        }
    }

    /// Whether a 401 to this token says nothing about the token.
    pub fn is_doubted(&self, token: Sha256, sha256: Sha256) -> bool {
        let now = self.broker.ports().clock.now();
        self.live.read().get(&token).is_some_and(|live| live.is_doubted(sha256, now, DOUBT_HOLDS))
    }

    /// The credential that a session is renewed by.
    fn credential_of(&self, live: &Live) -> Result<Arc<Credential>, TokenError> {
        let credential = self.broker.credential(&live.credential).ok_or(TokenError::Removed)?;
        if credential.spec().sessions.is_none() {
            return Err(TokenError::Removed);
        }
        Ok(credential)
    }

    async fn document(&self, credential: &Credential) -> Result<CredentialDocument, TokenError> {
        let retry_in = Duration::from_secs(1);
        let stored = self.broker.ports().source.read(&credential.spec().secret).await;
        let stored = stored.map_err(|error| TokenError::Store { source: Arc::new(error), retry_in })?;
        CredentialDocument::parse(&stored.value).map_err(|source| TokenError::Document { source, retry_in })
    }

    fn unavailable(&self, error: &StateError) -> TokenError {
        count(&self.counters.failed);
        tracing::warn!("a session could not be renewed, because the state is not available: {error}");
        TokenError::NoToken { reason: "the state is not available", retry_in: Duration::from_secs(1) }
    }
}

impl std::fmt::Debug for UserSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserSessions").field("in_memory", &self.in_memory()).finish_non_exhaustive()
    }
}

fn last_error(live: &Live, retry_in: Duration) -> TokenError {
    match live.inner.lock().last_error.clone() {
        Some(TokenError::Endpoint { source, .. }) => TokenError::Endpoint { source, retry_in },
        Some(error) => error,
        None => TokenError::GaveUp,
    }
}
