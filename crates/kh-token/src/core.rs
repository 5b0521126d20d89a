//! The state machine of one credential's token.
//!
//! Invariants, each held by a property test and by a bounded exhaustive exploration:
//! a token whose life has passed by either clock is never served; at most one fetch is in flight; a document that the
//! platform refused is not sent again before its pause has passed; a served token has at least `min_ttl` left; an
//! invalidation removes only the token that it names.

use std::time::Duration;

use kh_core::{Now, Sha256, UnixMillis};
use kh_resilience::{RETRY_AFTER_FAIL_FAST, Share};

use crate::{
    event::{Cause, Decision, Failure, FetchKind, FetchOrder, Fetched, Invalidation, Outcome, Permit, Refusal, Want},
    life::{Lifetime, elapsed},
    pause::pause_after,
    policy::{
        LIFE_MAX, PATIENCE, REPLACED_AGAIN, REPLACED_PATIENCE, REPLACED_TRIES, STORM_BACKOFF, STORM_FREE, TTL_MEMORY,
        TokenPolicy, YOUNG,
    },
    rejections::Rejections,
};

/// The token that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its digest.
    pub sha256: Sha256,
    /// Its number, from 1, growing.
    pub generation: u64,
    /// Its life.
    pub life: Lifetime,
    /// The age at which it is refreshed early.
    pub refresh_age: Duration,
    /// Version of the document that it was fetched with.
    pub version: u64,
    /// When it was last used, or fetched.
    last_used: Now,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    Fetching { began: Now, document: Option<(Sha256, u64)>, kind: FetchKind, known_bad: Option<Sha256> },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pause {
    /// Monotonic, so that a jump of the wall clock does not end it early.
    until: Duration,
    cause: Cause,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FreshLife {
    life: Duration,
    learned_at: Duration,
}

/// The state of one credential's token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenCore {
    policy: TokenPolicy,
    token: Option<Held>,
    phase: Phase,
    attempts: u64,
    generation: u64,
    /// Newest version known to be in the store; 0 before the first reading.
    newest_version: u64,
    /// The version that a refresh was begun for because it is newer than the token's; 0 when that came to nothing.
    version_tried: u64,
    /// Version of the document whose login gave the refresh token that is held.
    refresh_held: Option<u64>,
    fresh_life: Option<FreshLife>,
    failures: u32,
    young_deaths: u32,
    pause: Option<Pause>,
    rejections: Rejections,
    /// The document that brought the newest token, as long as the platform did not refuse it.
    worked: Option<Sha256>,
    /// Until when callers wait for another document because the platform refuses the one that had worked. Monotonic.
    replaced_until: Option<Duration>,
    /// Refusals of documents that took its place.
    too_new: u32,
}

impl TokenCore {
    /// No token, nothing known.
    pub fn new(policy: TokenPolicy) -> Self {
        Self {
            policy,
            token: None,
            phase: Phase::Idle,
            attempts: 0,
            generation: 0,
            newest_version: 0,
            version_tried: 0,
            refresh_held: None,
            fresh_life: None,
            failures: 0,
            young_deaths: 0,
            pause: None,
            rejections: Rejections::default(),
            worked: None,
            replaced_until: None,
            too_new: 0,
        }
    }

    /// What to do for a caller who asks now. [`Decision::Serve`] is about the token that [`TokenCore::token`] tells.
    pub fn decide(&mut self, now: Now, want: Want) -> Decision {
        self.bury(now);
        if let Some(token) = self.token
            && token.life.remaining(now) >= want.min_ttl
        {
            let fetch = self.phase == Phase::Idle && self.is_due(&token, now) && self.gate(now).is_none();
            return if fetch { Decision::ServeAndFetch(self.begin(now)) } else { Decision::Serve };
        }
        if let Some(longest) = self.unsatisfiable(now, want) {
            return Decision::Refuse(Refusal::TtlUnsatisfiable { longest });
        }
        if self.phase != Phase::Idle {
            return Decision::Wait;
        }
        match self.gate(now) {
            None => Decision::Fetch(self.begin(now)),
            Some(Gate::Paused(cause, rest)) => hold_or_refuse(cause, rest),
            Some(Gate::Blocked(retry_in)) => match self.replaced(now) {
                Some(rest) => Decision::Hold(rest.min(retry_in)),
                None => Decision::Refuse(Refusal::Rejected { retry_in }),
            },
        }
    }

    /// Whether the document that was read for `order` may be sent, and how. Telling no ends the fetch.
    pub fn permit(&mut self, now: Now, order: FetchOrder, digest: Sha256, version: u64) -> Permit {
        let current = self.is_current(order);
        let Phase::Fetching { document, kind, .. } = &mut self.phase else { return Permit::Stale };
        if !current {
            return Permit::Stale;
        }
        self.newest_version = version;
        if let Some(until) = self.rejections.refused_until(digest, now.mono) {
            self.rejections.block(until);
            self.phase = Phase::Idle;
            // The block keeps the next refresh away until then, and that one is due however young the held token is.
            self.version_tried = 0;
            return Permit::Rejected;
        }
        *kind = if self.refresh_held == Some(version) { FetchKind::Refresh } else { FetchKind::Login };
        *document = Some((digest, version));
        Permit::Send(*kind)
    }

    /// A fetch brought a token.
    pub fn on_fetched(&mut self, now: Now, order: FetchOrder, fetched: Fetched) -> Outcome {
        let Phase::Fetching { began, document: Some((digest, version)), known_bad, .. } = self.phase else {
            return Outcome::Stale;
        };
        if !self.is_current(order) {
            return Outcome::Stale;
        }
        self.phase = Phase::Idle;
        self.refresh_held = fetched.refresh_held.then_some(version);
        self.rejections.forgive(digest);
        if known_bad == Some(fetched.sha256) {
            // The next caller fetches again at once; it can happen only once per invalidation.
            return Outcome::KnownBad;
        }
        let life = Lifetime { began, life: fetched.life.min(LIFE_MAX) };
        if life.is_dead(now) {
            self.pause_after_failure(now, Cause::Transient, None, fetched.share);
            return Outcome::DeadOnArrival;
        }
        self.failures = 0;
        (self.worked, self.replaced_until, self.too_new) = (Some(digest), None, 0);
        // A storm's pause outlives the fetch that was in flight when it began.
        self.pause = self.pause.filter(|pause| pause.cause == Cause::Storm);
        if self.token.is_some_and(|old| old.life.elapsed(now) >= YOUNG) {
            self.young_deaths = 0;
        }
        self.fresh_life = Some(FreshLife { life: life.life, learned_at: now.mono });
        self.generation += 1;
        self.token = Some(Held {
            sha256: fetched.sha256,
            generation: self.generation,
            life,
            refresh_age: self.policy.refresh_age(life.life, fetched.share),
            version,
            last_used: now,
        });
        Outcome::Accepted { generation: self.generation }
    }

    /// A fetch brought no token. `share` is random, for the pause. Returns whether this was the current fetch.
    pub fn on_failed(&mut self, now: Now, order: FetchOrder, failure: Failure, share: Share) -> bool {
        let Phase::Fetching { document, kind, .. } = self.phase else { return false };
        if !self.is_current(order) {
            return false;
        }
        self.phase = Phase::Idle;
        self.version_tried = 0;
        match (failure, kind, document) {
            (Failure::RefreshRefused, FetchKind::Refresh, _) => self.refresh_held = None,
            (Failure::Rejected | Failure::Unusable | Failure::RefreshRefused, _, Some((digest, _))) => {
                self.refresh_held = None;
                self.refused(now, digest);
            }
            // A refresh token that is answered with nonsense may be so for ever.
            (Failure::RefreshFailed { retry_after }, ..) => {
                self.refresh_held = None;
                self.pause_after_failure(now, Cause::Transient, retry_after, share);
            }
            (Failure::RateLimited { retry_after }, ..) => {
                self.pause_after_failure(now, Cause::RateLimited, retry_after, share);
            }
            (Failure::Transient { retry_after }, ..) => {
                self.pause_after_failure(now, Cause::Transient, retry_after, share);
            }
            (Failure::Store, ..) => self.pause_after_failure(now, Cause::Store, None, share),
            // Refused before anything was read: the service is wrong, so treat it like a fetch that broke.
            (Failure::Aborted | Failure::Rejected | Failure::Unusable | Failure::RefreshRefused, ..) => {
                self.pause_after_failure(now, Cause::Aborted, None, share);
            }
        }
        true
    }

    /// A caller's 401 says that the token named by `sha256` is bad. `share` is random, for the pause of a storm.
    pub fn invalidate(&mut self, now: Now, sha256: Sha256, share: Share) -> Invalidation {
        let Some(token) = self.token.filter(|token| token.sha256 == sha256) else { return Invalidation::NotCurrent };
        self.token = None;
        if let Phase::Fetching { known_bad, .. } = &mut self.phase {
            *known_bad = Some(sha256);
        }
        if token.life.elapsed(now) >= YOUNG {
            self.young_deaths = 0;
            return Invalidation::Removed;
        }
        self.young_deaths = self.young_deaths.saturating_add(1);
        if let Some(over) = self.young_deaths.checked_sub(STORM_FREE) {
            let ceiling = STORM_BACKOFF.ceiling(over);
            // Half fixed, half random: a storm must not draw a pause of nothing.
            let until = now.mono.saturating_add(ceiling / 2 + share.of(ceiling / 2));
            self.lengthen_pause(Pause { until, cause: Cause::Storm });
        }
        Invalidation::Removed
    }

    /// The store's newest version of the document is `version`. Returns whether that is news: then a caller (or the
    /// service itself) should ask [`TokenCore::decide`] soon.
    pub fn on_secret_changed(&mut self, version: u64) -> bool {
        if version == self.newest_version {
            return false;
        }
        self.newest_version = version;
        self.rejections.unblock();
        self.pause = self.pause.filter(|pause| pause.cause != Cause::Store);
        // What a fresh token's life was under the old document says nothing about the new one.
        self.fresh_life = None;
        true
    }

    /// The token of `generation` was used at `at`, which resets the platform's inactivity timer.
    pub fn note_used(&mut self, generation: u64, at: Now) {
        let held = self.token.as_mut().filter(|token| token.generation == generation);
        // The later use by the monotonic clock counts with its own wall time: a larger wall time may come from before
        // a jump back, and would hide how long the token was idle.
        if let Some(token) = held.filter(|token| token.last_used.mono <= at.mono) {
            token.last_used = at;
        }
    }

    /// The token that is held; ask [`TokenCore::decide`] first, which removes a dead one.
    pub fn token(&self) -> Option<&Held> {
        self.token.as_ref()
    }

    /// Whether a fetch is in flight.
    pub fn is_fetching(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// Whether the newest document in the store is one that the platform refused.
    pub fn is_rejected(&self, now: Now) -> bool {
        self.rejected_for(now).is_some()
    }

    /// Until the newest document in the store is tried once more, when it is one that the platform refused.
    pub fn rejected_for(&self, now: Now) -> Option<Duration> {
        self.rejections.blocked_for(now.mono)
    }

    /// How much longer callers wait for another document, when the platform refuses one that had worked before.
    pub fn replaced(&self, now: Now) -> Option<Duration> {
        let rest = self.replaced_until?.saturating_sub(now.mono);
        (!rest.is_zero()).then_some(rest)
    }

    /// The held token is due now, whatever its age: its secret is about to be replaced, and a fresh one is to outlive that.
    /// A caller (or the service itself) should ask [`TokenCore::decide`] then.
    pub fn renew(&mut self) {
        if let Some(token) = &mut self.token {
            token.refresh_age = Duration::ZERO;
        }
    }

    /// What the next fetch waits for, if it has to wait.
    pub fn paused(&self, now: Now) -> Option<(Cause, Duration)> {
        let pause = self.pause?;
        let rest = pause.until.saturating_sub(now.mono);
        (!rest.is_zero()).then_some((pause.cause, rest))
    }

    /// Newest version known to be in the store; 0 before the first reading.
    pub fn newest_version(&self) -> u64 {
        self.newest_version
    }

    /// When the held token expires by the wall clock.
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.token.map(|token| token.life.expires_at())
    }

    fn is_current(&self, order: FetchOrder) -> bool {
        order.attempt == self.attempts && self.phase != Phase::Idle
    }

    fn begin(&mut self, now: Now) -> FetchOrder {
        self.attempts += 1;
        self.version_tried = self.newest_version;
        self.phase = Phase::Fetching { began: now, document: None, kind: FetchKind::Login, known_bad: None };
        FetchOrder { attempt: self.attempts }
    }

    /// Removes a token that is dead by its life or presumed dead by inactivity. Death is final: a clock that goes
    /// back afterwards does not bring it back.
    fn bury(&mut self, now: Now) {
        let Some(token) = self.token else { return };
        let idle = self.policy.idle_limit().is_some_and(|limit| elapsed(token.last_used, now) >= limit);
        if idle || token.life.is_dead(now) {
            self.token = None;
            self.young_deaths = 0;
        }
    }

    fn is_due(&self, token: &Held, now: Now) -> bool {
        let newer_document = token.version < self.newest_version && self.version_tried != self.newest_version;
        newer_document || token.life.elapsed(now) >= token.refresh_age
    }

    fn gate(&self, now: Now) -> Option<Gate> {
        if let Some(rest) = self.rejections.blocked_for(now.mono) {
            return Some(Gate::Blocked(rest));
        }
        self.paused(now).map(|(cause, rest)| Gate::Paused(cause, rest))
    }

    /// The largest `min_ttl` that can be had, when `want` is known to ask for more.
    fn unsatisfiable(&self, now: Now, want: Want) -> Option<Duration> {
        let fresh = self.fresh_life?;
        let remembered = self.token.is_some() || now.mono.saturating_sub(fresh.learned_at) < TTL_MEMORY;
        let longest = TokenPolicy::longest_min_ttl(fresh.life);
        (remembered && want.min_ttl > longest).then_some(longest)
    }

    /// The platform refused a document. One that had worked was replaced there; one that takes its place may not be known
    /// everywhere yet; any other one is wrong.
    fn refused(&mut self, now: Now, digest: Sha256) {
        let worked = self.worked.take();
        let until = now.mono.saturating_add(REPLACED_PATIENCE);
        if worked == Some(digest) {
            self.replaced_until = Some(until);
            return self.rejections.strike(digest, now.mono);
        }
        let is_new = worked.is_some() || self.replaced(now).is_some();
        if is_new && self.too_new < REPLACED_TRIES {
            self.replaced_until.get_or_insert(until);
            self.too_new += 1;
            return self.rejections.leave_alone(digest, now.mono, REPLACED_AGAIN);
        }
        self.replaced_until = None;
        self.rejections.strike(digest, now.mono);
    }

    fn pause_after_failure(&mut self, now: Now, cause: Cause, retry_after: Option<Duration>, share: Share) {
        let span = pause_after(cause, self.failures, retry_after, share);
        self.failures = self.failures.saturating_add(1);
        self.lengthen_pause(Pause { until: now.mono.saturating_add(span), cause });
    }

    fn lengthen_pause(&mut self, pause: Pause) {
        if self.pause.is_none_or(|old| old.until <= pause.until) {
            self.pause = Some(pause);
        }
    }
}

enum Gate {
    Paused(Cause, Duration),
    Blocked(Duration),
}

fn hold_or_refuse(cause: Cause, rest: Duration) -> Decision {
    let (patience, refusal) = match cause {
        Cause::RateLimited => (RETRY_AFTER_FAIL_FAST, Refusal::RateLimited { retry_in: rest }),
        Cause::Transient | Cause::Store | Cause::Aborted | Cause::Storm => {
            (PATIENCE, Refusal::Unavailable { cause, retry_in: rest })
        }
    };
    if rest <= patience { Decision::Hold(rest) } else { Decision::Refuse(refusal) }
}

#[cfg(test)]
mod explore;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
