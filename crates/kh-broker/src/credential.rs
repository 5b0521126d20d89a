//! One credential: its current token for the hot path, its core for everything else.
//!
//! Invariants: `current` is written only under the core's lock, so that it never disagrees with the core for longer
//! than a reader needs to look; waiters mark what they have seen before they ask the core, so that no wake-up is lost.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use kh_core::{ClientId, CredentialName, Now, SecretString, Sha256};
use kh_resilience::{RETRY_AFTER_FAIL_FAST, Share};
use kh_token::{
    Cause, Decision, FetchKind, FetchOrder, Fetched, Invalidation, Outcome, Permit, Refusal, TokenCore, Want,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    CredentialSpec, CredentialState, CredentialStatus, Lease, TokenError,
    broker::Ports,
    flight::{Arrival, FetchFailure, Flight, Landing},
    lease::Bases,
    sessions::Gate,
    status::{Counters, count},
};

/// How many failed fetches one caller sits through before it gets the error. Three ride out a dropped connection and
/// a restart behind a load balancer.
const FAILURES_MAX: u64 = 3;

/// How often one caller asks the core at most: a caller that is woken more often than this without getting a token
/// or an error meets clocks that disagree, and must not spin.
const ROUNDS_MAX: u32 = 64;

/// How long a caller waits for a fetch in flight before it asks again. A fetch has its own, shorter deadline; this one
/// only bounds the wait for a runtime that stands still.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How long a client's 401 says nothing about a token (see [`Credential::doubt`]): a second invalidation is then no
/// longer one of a young token, so that no storm comes of it.
const DOUBT_HOLDS: Duration = kh_token::policy::YOUNG;

/// Clients remembered at most; one more than this is not remembered, which is what was before.
const DOUBTS_MAX: usize = 4096;

/// What waiters watch.
#[derive(Clone, Copy, Default)]
struct Tide {
    /// Grows whenever the core should be asked again.
    changes: u64,
    /// Grows whenever a fetch fails.
    failures: u64,
}

struct State {
    core: TokenCore,
    refresh: Option<Arc<SecretString>>,
    last_failure: Option<FetchFailure>,
    /// Outlives a token: a document that was refused before it may come back.
    last_rejection: Option<FetchFailure>,
    /// Version of the document of the last login that brought a token; 0 before the first.
    proven: u64,
}

enum Step {
    Ready(Arc<Lease>),
    Wait,
    Hold(Duration),
}

/// One credential and its token.
pub struct Credential {
    spec: CredentialSpec,
    ports: Arc<Ports>,
    /// Ends with the broker, or before it when the credential is removed.
    cancel: CancellationToken,
    current: ArcSwapOption<Lease>,
    state: Mutex<State>,
    tide: watch::Sender<Tide>,
    counters: Counters,
    /// Clients whose last 401 was not the token's fault, with the token and the monotonic time.
    doubts: Mutex<HashMap<ClientId, (Sha256, Duration)>>,
    /// What its sessions' renewals have met.
    pub(crate) gate: Mutex<Gate>,
    /// A task looks for a newer document, see [`crate::lookout`].
    pub(crate) is_looking: AtomicBool,
    /// It looks at once.
    pub(crate) look_now: Notify,
    /// It was told that the issuer replaces the document's own refresh token.
    pub(crate) has_told_replaced: AtomicBool,
    /// Itself, for tasks that outlive a caller.
    own: Weak<Self>,
}

impl Credential {
    pub(crate) fn new(spec: CredentialSpec, ports: Arc<Ports>) -> Arc<Self> {
        let state = State {
            core: TokenCore::new(spec.policy),
            refresh: None,
            last_failure: None,
            last_rejection: None,
            proven: 0,
        };
        let cancel = ports.cancel.child_token();
        Arc::new_cyclic(|own| Self {
            spec,
            ports,
            cancel,
            current: ArcSwapOption::empty(),
            state: Mutex::new(state),
            tide: watch::Sender::new(Tide::default()),
            counters: Counters::default(),
            doubts: Mutex::default(),
            gate: Mutex::default(),
            is_looking: AtomicBool::new(false),
            look_now: Notify::new(),
            has_told_replaced: AtomicBool::new(false),
            own: Weak::clone(own),
        })
    }

    /// Its name.
    pub fn name(&self) -> &CredentialName {
        &self.spec.name
    }

    /// What it was configured with.
    pub fn spec(&self) -> &CredentialSpec {
        &self.spec
    }

    /// Itself, for a task of its own.
    pub(crate) fn shared(&self) -> Option<Arc<Self>> {
        self.own.upgrade()
    }

    pub(crate) fn ports(&self) -> &Arc<Ports> {
        &self.ports
    }

    /// Ends with the broker or with the credential.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The configuration does not name it any more: no token comes from it again, and its waiters are told.
    pub(crate) fn remove(&self) {
        self.cancel.cancel();
        // Under the lock, so that a fetch that lands now finds the cancellation.
        let state = self.state.lock();
        self.current.store(None);
        drop(state);
    }

    fn ended(&self) -> TokenError {
        if self.ports.cancel.is_cancelled() { TokenError::Closed } else { TokenError::Removed }
    }

    /// The current token if it is good, without waiting: one atomic load and two clock compares. Starts the early
    /// refresh in the background when it is due. `None` means: call [`Credential::lease`].
    pub fn current(&self) -> Option<Arc<Lease>> {
        self.current_at(self.ports.clock.now())
    }

    /// The same for a caller that has just read the clocks.
    pub fn current_at(&self, now: Now) -> Option<Arc<Lease>> {
        let lease = self.current.load_full()?;
        if !lease.is_usable(now) {
            return None;
        }
        if lease.claims_refresh(now) {
            self.fetch_in_background(now);
        }
        Some(lease)
    }

    /// The current token with at least `min_ttl` left, fetched if need be. Waits out short pauses, and long ones only
    /// when the platform's rate limit named them (at most 180 s in all). Dropping the future harms nobody.
    pub async fn lease(&self, min_ttl: Duration) -> Result<Arc<Lease>, TokenError> {
        let now = self.ports.clock.now();
        if let Some(lease) = self.current_at(now).filter(|lease| lease.remaining(now) >= min_ttl) {
            return Ok(lease);
        }
        let mut tide = self.tide.subscribe();
        let failures_before = tide.borrow().failures;
        let mut held = Duration::ZERO;
        for _ in 0..ROUNDS_MAX {
            let failures = tide.borrow_and_update().failures.saturating_sub(failures_before);
            let pause = match self.step(min_ttl, failures)? {
                Step::Ready(lease) => return Ok(lease),
                Step::Wait => WAIT_MAX,
                Step::Hold(pause) => {
                    held = held.saturating_add(pause);
                    pause
                }
            };
            if held > RETRY_AFTER_FAIL_FAST {
                return Err(self.last_error(Duration::from_secs(1)));
            }
            count(&self.counters.waits);
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(self.ended()),
                changed = tide.changed() => changed.map_err(|_closed| TokenError::Closed)?,
                () = tokio::time::sleep(pause) => {}
            }
        }
        Err(TokenError::GaveUp)
    }

    /// Asks the core once, for a caller who has seen `failures` fetches fail.
    fn step(&self, min_ttl: Duration, failures: u64) -> Result<Step, TokenError> {
        if self.cancel.is_cancelled() {
            return Err(self.ended());
        }
        if self.spec.sessions.is_some() {
            return Err(TokenError::PerSession);
        }
        let now = self.ports.clock.now();
        let mut state = self.state.lock();
        if failures >= FAILURES_MAX && state.core.token().is_none() {
            let retry_in = state.core.paused(now).map_or(Duration::ZERO, |(_, rest)| rest);
            return Err(error_from(state.last_failure.as_ref(), retry_in));
        }
        let decision = self.decide(&mut state, now, min_ttl);
        let (step, order) = match decision {
            Decision::Serve => (self.ready(), None),
            Decision::ServeAndFetch(order) => (self.ready(), Some(order)),
            Decision::Fetch(order) => (Ok(Step::Wait), Some(order)),
            Decision::Wait => (Ok(Step::Wait), None),
            Decision::Hold(pause) => (Ok(Step::Hold(pause)), None),
            Decision::Refuse(refusal) => (Err(explain(refusal, min_ttl, &state)), None),
        };
        drop(state);
        self.carry_out(order);
        step
    }

    fn ready(&self) -> Result<Step, TokenError> {
        // `current` is written under the lock that the caller of this holds, together with the core's token.
        self.current.load_full().map(Step::Ready).ok_or(TokenError::GaveUp)
    }

    /// Tells the core when the token was last used, asks it, and drops a lease whose token it has buried.
    fn decide(&self, state: &mut State, now: Now, min_ttl: Duration) -> Decision {
        if let Some(lease) = self.current.load().as_ref() {
            state.core.note_used(lease.generation(), lease.last_used());
        }
        let decision = state.core.decide(now, Want { min_ttl });
        if state.core.token().is_none() {
            self.current.store(None);
        }
        decision
    }

    fn carry_out(&self, order: Option<FetchOrder>) {
        if let (Some(order), Some(own)) = (order, self.own.upgrade()) {
            Flight::launch(own, order);
        }
    }

    fn fetch_in_background(&self, now: Now) {
        if self.cancel.is_cancelled() {
            return;
        }
        let decision = self.decide(&mut self.state.lock(), now, Duration::ZERO);
        match decision {
            Decision::Fetch(order) | Decision::ServeAndFetch(order) => self.carry_out(Some(order)),
            Decision::Serve | Decision::Wait | Decision::Hold(_) | Decision::Refuse(_) => {}
        }
    }

    /// The platform answered 401 to the token named by `sha256`. Removes it if it is still the current one; the next
    /// caller fetches. Returns whether it was.
    pub fn invalidate(&self, sha256: Sha256) -> bool {
        if !self.take_out(sha256) {
            count(&self.counters.stale_reports);
            return false;
        }
        count(&self.counters.invalidations);
        tracing::info!(credential.name = %self.spec.name, token.sha256 = ?sha256, "the platform refused a token; it was dropped");
        true
    }

    /// Drops the present token, because the secret that it was made with was taken away. Nobody is handed it any more;
    /// the next caller fetches. Returns whether there was one.
    pub fn drop_token(&self) -> bool {
        let current = self.current.load_full();
        let dropped = current.is_some_and(|lease| self.take_out(lease.sha256()));
        if dropped {
            tracing::info!(credential.name = %self.spec.name, "the token of a secret that was taken away was dropped");
        }
        dropped
    }

    /// Whether it was the current one.
    fn take_out(&self, sha256: Sha256) -> bool {
        let share = Share::draw(self.ports.entropy.as_ref());
        let now = self.ports.clock.now();
        let mut state = self.state.lock();
        let removed = matches!(state.core.invalidate(now, sha256, share), Invalidation::Removed);
        if removed {
            self.current.store(None);
        }
        removed
    }

    /// A token that was fetched for `who` because of a 401 was answered with 401 as well: it is not the token that the
    /// platform refuses, but what `who` asks for. Once the token is proven by anybody's call ([`Lease::is_proven`]), `who`
    /// does not invalidate it for a minute, so that a client with a call that always gets 401 cannot take the
    /// credential away from the others.
    pub fn doubt(&self, sha256: Sha256, who: &ClientId) {
        let mono = self.ports.clock.now().mono;
        let mut doubts = self.doubts.lock();
        doubts.retain(|_, (_, since)| mono.saturating_sub(*since) < DOUBT_HOLDS);
        if doubts.len() < DOUBTS_MAX {
            doubts.entry(who.clone()).insert_entry((sha256, mono));
        }
    }

    /// Whether a 401 that `who` got with this token says nothing about the token.
    pub fn is_doubted(&self, sha256: Sha256, who: &ClientId) -> bool {
        let mono = self.ports.clock.now().mono;
        let doubts = self.doubts.lock();
        doubts.get(who).is_some_and(|(of, since)| *of == sha256 && mono.saturating_sub(*since) < DOUBT_HOLDS)
    }

    /// The current token was used for a call that the platform answered. Cheap; matters only with an idle timeout.
    pub fn note_used(&self) {
        if let Some(lease) = self.current.load().as_ref() {
            lease.note_used(self.ports.clock.now());
        }
    }

    /// What is known about it now.
    pub fn status(&self) -> CredentialStatus {
        let now = self.ports.clock.now();
        let lease = self.current.load_full().filter(|lease| lease.is_usable(now));
        let state = self.state.lock();
        let (paused, rejected) = (state.core.paused(now), state.core.rejected_for(now));
        let name = match (&lease, state.core.is_fetching()) {
            (Some(_), true) => CredentialState::Refreshing,
            (Some(_), false) => CredentialState::Ready,
            (None, true) => CredentialState::Fetching,
            (None, false) if rejected.is_some() => CredentialState::Rejected,
            (None, false) if paused.is_some() => CredentialState::Waiting,
            (None, false) => CredentialState::Empty,
        };
        CredentialStatus {
            name: self.spec.name.clone(),
            platform: self.spec.platform.clone(),
            kind: self.spec.kind,
            environment: self.spec.environment.clone(),
            secret: self.spec.secret.clone(),
            secret_version: state.core.newest_version(),
            state: name,
            generation: lease.as_ref().map_or(0, |lease| lease.generation()),
            age_seconds: lease.as_ref().map(|lease| lease.age(now).as_secs()),
            expires_at: lease.as_ref().map(|lease| lease.expires_at()),
            retry_in_seconds: paused.map(|(_, rest)| rest).max(rejected).map(|rest| rest.as_secs()),
            last_error: state.last_failure.as_ref().map(FetchFailure::code),
            fetches: self.counters.snapshot(),
        }
    }

    /// The secret store's newest version. News for a credential that is in use start a fetch in the background. Answers
    /// whether it is news.
    pub(crate) fn on_version(&self, version: u64) -> bool {
        let now = self.ports.clock.now();
        let is_in_use = {
            let mut state = self.state.lock();
            let was_in_use = state.core.token().is_some() || state.core.is_rejected(now);
            if !state.core.on_secret_changed(version) {
                return false;
            }
            was_in_use
        };
        self.wake(false);
        if is_in_use {
            tracing::info!(credential.name = %self.spec.name, secret.version = version, "the secret store has a new version; logging in with it");
            self.fetch_in_background(now);
        }
        true
    }

    /// A token that is fetched now although the held one may be good for long: its secret is about to be replaced, and
    /// callers are to have one meanwhile that outlives that. Callers get it as soon as it is there.
    pub async fn renew(&self) -> Result<Arc<Lease>, TokenError> {
        let mut tide = self.tide.subscribe();
        let failures_before = tide.borrow().failures;
        let (generation, order) = {
            let now = self.ports.clock.now();
            let mut state = self.state.lock();
            let held = self.current.load().as_ref().map_or(0, |lease| lease.generation());
            state.core.renew();
            (held, self.decide(&mut state, now, Duration::ZERO))
        };
        match order {
            Decision::Fetch(order) | Decision::ServeAndFetch(order) => self.carry_out(Some(order)),
            Decision::Serve | Decision::Wait | Decision::Hold(_) | Decision::Refuse(_) => {}
        }
        loop {
            if self.cancel.is_cancelled() {
                return Err(self.ended());
            }
            let failed = tide.borrow_and_update().failures != failures_before;
            let (lease, is_fetching) = {
                let state = self.state.lock();
                (self.current.load_full(), state.core.is_fetching())
            };
            if let Some(lease) = lease.filter(|lease| lease.generation() > generation) {
                return Ok(lease);
            }
            if failed || !is_fetching {
                return Err(self.last_error(Duration::from_secs(1)));
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(self.ended()),
                changed = tide.changed() => changed.map_err(|_closed| TokenError::Closed)?,
            }
        }
    }

    /// The newest version that is known to be in the store, and how much longer callers wait for a newer one because the
    /// platform refuses what had worked.
    pub(crate) fn expected(&self) -> (u64, Option<Duration>) {
        let now = self.ports.clock.now();
        let state = self.state.lock();
        (state.core.newest_version(), state.core.replaced(now))
    }

    /// The newest document was used for a login that brought a token, or such a login is begun now although nobody
    /// asks for a token: for a rotation, which waits until its new secret is seen in use. One login for each version;
    /// one that fails is tried again at a later call, with the pauses of every other login. Answers whether the
    /// document has been used.
    pub fn use_newest(&self) -> bool {
        let newest = {
            let state = self.state.lock();
            let newest = state.core.newest_version();
            if newest == 0 || state.proven == newest {
                return newest != 0;
            }
            newest
        };
        tracing::debug!(credential.name = %self.spec.name, secret.version = newest, "a login with a new document is due");
        self.fetch_in_background(self.ports.clock.now());
        false
    }

    /// A login with the document of this version brought a token.
    pub(crate) fn note_proven(&self, version: u64) {
        self.state.lock().proven = version;
    }

    /// Whether the document `digest` may be sent, and the refresh token that is held.
    pub(crate) fn permit(
        &self,
        order: FetchOrder,
        digest: Sha256,
        version: u64,
    ) -> (Permit, Option<Arc<SecretString>>) {
        let now = self.ports.clock.now();
        let mut state = self.state.lock();
        (state.core.permit(now, order, digest, version), state.refresh.clone())
    }

    /// A fetch ended. What the core knows of a failure and what callers are told of it change under one lock.
    pub(crate) fn land(&self, order: FetchOrder, result: Result<Landing, FetchFailure>) {
        let (share, now) = (Share::draw(self.ports.entropy.as_ref()), self.ports.clock.now());
        let failure = {
            let mut state = self.state.lock();
            let failure = match result {
                Ok(Landing::Token(_)) if self.cancel.is_cancelled() => {
                    state.core.on_failed(now, order, FetchFailure::Aborted.for_core(), share);
                    Some(FetchFailure::Aborted)
                }
                Ok(Landing::KeptBack) => {
                    // a document that was refused before came back: its refusal is what callers are told
                    if state.core.is_rejected(now) {
                        let refusal = state.last_rejection.clone();
                        state.last_failure = refusal;
                    }
                    None
                }
                Ok(Landing::Token(arrival)) => self.accept(&mut state, order, *arrival, now, share).err(),
                Err(failure) => {
                    state.core.on_failed(now, order, failure.for_core(), share);
                    Some(failure)
                }
            };
            if let Some(failure) = &failure {
                state.last_failure = Some(failure.clone());
                if failure.is_rejection() {
                    state.last_rejection = Some(failure.clone());
                }
            }
            failure
        };
        if let Some(failure) = failure.as_ref().filter(|_| !self.cancel.is_cancelled()) {
            self.tell(failure);
            if self.expected().1.is_some() {
                self.look_for_newer();
            }
        }
        self.wake(failure.is_some());
    }

    fn accept(
        &self,
        state: &mut State,
        order: FetchOrder,
        arrival: Arrival,
        now: Now,
        share: Share,
    ) -> Result<(), FetchFailure> {
        let Arrival { issued, authorization, kind } = arrival;
        // RFC 6749 section 6: without a new refresh token the old one stays valid.
        let refresh_held = issued.refresh_token.is_some() || kind == FetchKind::Refresh;
        let sha256 = issued.access_token.sha256();
        let outcome =
            state.core.on_fetched(now, order, Fetched { sha256, life: issued.expires_in, refresh_held, share });
        match outcome {
            Outcome::Accepted { .. } | Outcome::KnownBad | Outcome::DeadOnArrival => {
                let fresh = issued.refresh_token.map(Arc::new);
                state.refresh = fresh.or_else(|| state.refresh.take().filter(|_| kind == FetchKind::Refresh));
            }
            Outcome::Stale => {}
        }
        match outcome {
            Outcome::Stale => return Ok(()),
            Outcome::KnownBad => return Err(FetchFailure::KnownBad),
            Outcome::DeadOnArrival => return Err(FetchFailure::DeadOnArrival),
            Outcome::Accepted { generation } => {
                count(&self.counters.ok);
                tracing::info!(
                    credential.name = %self.spec.name, token.generation = generation,
                    token.life_s = issued.expires_in.as_secs(), "a token was fetched"
                );
            }
        }
        let bases = Bases {
            api: issued.api_base.unwrap_or_else(|| self.spec.api_base.clone()),
            auth: issued.auth_base.or_else(|| self.spec.auth_base.clone()),
        };
        let lease = state.core.token().map(|held| {
            let idle_limit = self.spec.policy.idle_limit();
            Arc::new(Lease::new(issued.access_token, authorization, held, idle_limit, bases, now))
        });
        self.current.store(lease);
        state.last_failure = None;
        Ok(())
    }

    fn tell(&self, failure: &FetchFailure) {
        count(&self.counters.failed);
        let error = failure.for_caller(Duration::ZERO);
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(
            credential.name = %self.spec.name, error.code = %failure.code(), error.cause = cause,
            correlation_id = error.correlation_id(), "no token was fetched: {error}"
        );
    }

    fn wake(&self, has_failed: bool) {
        self.tide.send_modify(|tide| {
            tide.changes = tide.changes.wrapping_add(1);
            tide.failures = tide.failures.wrapping_add(u64::from(has_failed));
        });
    }

    fn last_error(&self, retry_in: Duration) -> TokenError {
        error_from(self.state.lock().last_failure.as_ref(), retry_in)
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

fn error_from(failure: Option<&FetchFailure>, retry_in: Duration) -> TokenError {
    failure.map_or(TokenError::GaveUp, |failure| failure.for_caller(retry_in))
}

fn explain(refusal: Refusal, min_ttl: Duration, state: &State) -> TokenError {
    match refusal {
        Refusal::TtlUnsatisfiable { longest } => TokenError::TtlUnsatisfiable { min_ttl, longest },
        Refusal::Rejected { retry_in } => error_from(state.last_rejection.as_ref(), retry_in),
        Refusal::Unavailable { cause: Cause::Storm, retry_in } => TokenError::Storm { retry_in },
        Refusal::RateLimited { retry_in } | Refusal::Unavailable { retry_in, .. } => {
            error_from(state.last_failure.as_ref(), retry_in)
        }
    }
}
