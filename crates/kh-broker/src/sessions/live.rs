//! One session in memory: its tokens, what its refresh token has been through, and who waits for it.
//!
//! Invariant: `lease` is written only under the lock, so that it never disagrees with the rest for longer than a reader
//! needs to look.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use kh_core::{
    ClientId, CredentialName, Now, Sha256, UnixMillis,
    port::{Instances, SessionRecord},
    session::{RefreshJournal, RefreshPhase, SessionEnd},
};
use kh_resilience::Share;
use kh_token::{
    Lifetime, TokenPolicy,
    session::{Access, RenewalPolicy, Sender, SessionDecision, View, decide},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::sealed::{SealedFor, Tokens};
use crate::{Lease, TokenError, lease};

/// What waiters watch.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tide {
    /// Grows whenever somebody should ask again.
    pub(crate) changes: u64,
    /// Grows whenever a renewal fails.
    pub(crate) failures: u64,
}

pub(crate) struct Inner {
    /// The stored version that `journal` and `tokens` are of.
    pub(crate) version: u64,
    pub(crate) journal: RefreshJournal,
    pub(crate) tokens: Arc<Tokens>,
    /// A task of this process renews it.
    pub(crate) flying: bool,
    /// Monotonic time before which it is not renewed.
    pub(crate) paused_until: Option<Duration>,
    /// Renewals that failed one after the other.
    pub(crate) failures: u32,
    pub(crate) last_error: Option<TokenError>,
    pub(crate) end: Option<SessionEnd>,
    /// The age at which the access token is renewed early.
    refresh_age: Duration,
    generation: u64,
}

/// One session.
pub(crate) struct Live {
    pub(crate) token: Sha256,
    pub(crate) client: ClientId,
    pub(crate) credential: CredentialName,
    pub(crate) lease: ArcSwapOption<Lease>,
    pub(crate) inner: Mutex<Inner>,
    pub(crate) tide: watch::Sender<Tide>,
    /// Monotonic milliseconds of the last look at it.
    asked: AtomicU64,
    /// Wall milliseconds of the last use that is stored.
    pub(crate) stored_use: AtomicU64,
    /// A token that the platform refused and a fresh one after it, and when.
    doubt: Mutex<Option<(Sha256, Duration)>>,
}

/// What to do for a caller.
pub(crate) enum Step {
    Ready(Arc<Lease>),
    /// A task of this process renews it, or is to begin.
    Wait,
    /// Another process renews it: look at the state again soon.
    Look,
    Hold(Duration),
    Ended(SessionEnd),
}

fn mono_ms(now: Now) -> u64 {
    u64::try_from(now.mono.as_millis()).unwrap_or(u64::MAX)
}

impl Live {
    /// A session as it is stored, with its tokens opened.
    pub(crate) fn new(record: &SessionRecord, tokens: Tokens, policy: &TokenPolicy, now: Now, share: Share) -> Self {
        let inner = Inner {
            version: record.version,
            journal: record.journal,
            tokens: Arc::new(tokens),
            flying: false,
            paused_until: None,
            failures: 0,
            last_error: None,
            end: record.end,
            refresh_age: Duration::ZERO,
            generation: 0,
        };
        let live = Self {
            token: record.token,
            client: record.client.clone(),
            credential: record.credential.clone(),
            lease: ArcSwapOption::empty(),
            inner: Mutex::new(inner),
            tide: watch::Sender::new(Tide::default()),
            asked: AtomicU64::new(mono_ms(now)),
            stored_use: AtomicU64::new(record.used_at.0),
            doubt: Mutex::new(None),
        };
        live.hand_out(&mut live.inner.lock(), policy, now, share);
        live
    }

    pub(crate) fn sealed_for(&self) -> SealedFor<'_> {
        SealedFor { session: self.token, client: &self.client, credential: &self.credential }
    }

    /// What is stored by now, by whomever.
    pub(crate) fn adopt(
        &self,
        record: &SessionRecord,
        tokens: Option<Tokens>,
        policy: &TokenPolicy,
        now: Now,
        share: Share,
    ) {
        let mut inner = self.inner.lock();
        // a renewal of this process has written since the record was read
        if record.version >= inner.version || record.end.is_some() {
            (inner.version, inner.journal, inner.end) = (record.version, record.journal, record.end);
            if let Some(tokens) = tokens.filter(|tokens| tokens.access != inner.tokens.access) {
                inner.tokens = Arc::new(tokens);
                self.hand_out(&mut inner, policy, now, share);
            }
        }
        if inner.end.is_some() {
            self.lease.store(None);
        }
        drop(inner);
        self.wake(false);
    }

    /// Hands the tokens in `inner` out from now on.
    pub(crate) fn hand_out(&self, inner: &mut Inner, policy: &TokenPolicy, now: Now, share: Share) {
        let tokens = &inner.tokens;
        // Counted from now by both clocks. After a restart the wall clock alone says what has passed; set back, it
        // never gives more than a whole life.
        let passed = now.wall.since(tokens.asked_at);
        let life = Lifetime { began: now, life: tokens.life.saturating_sub(passed) };
        inner.refresh_age = policy.refresh_age(tokens.life, share).saturating_sub(passed);
        inner.generation += 1;
        let made = lease::bearer(&tokens.access).map(|authorization| {
            let part = lease::OfSession { life, refresh_age: inner.refresh_age, generation: inner.generation };
            Arc::new(Lease::of_session(&tokens.access, authorization, &part, policy.idle_limit(), tokens.bases(), now))
        });
        self.lease.store(made);
    }

    /// The token if it is good, and whether the caller is the one that looks after its early renewal.
    pub(crate) fn current(&self, now: Now) -> Option<(Arc<Lease>, bool)> {
        let lease = self.lease.load_full()?;
        if !lease.is_usable(now) {
            return None;
        }
        self.asked.store(mono_ms(now), Ordering::Relaxed);
        let claims = lease.claims_refresh(now);
        Some((lease, claims))
    }

    /// Asks the core; `begin` says that the caller must start a renewal, which `inner.flying` already counts.
    pub(crate) fn step(&self, policy: RenewalPolicy, instances: &dyn Instances, now: Now) -> (Step, bool) {
        self.asked.store(mono_ms(now), Ordering::Relaxed);
        let mut inner = self.inner.lock();
        if let Some(end) = inner.end {
            return (Step::Ended(end), false);
        }
        let lease = self.lease.load_full().filter(|lease| lease.is_usable(now));
        let access = match &lease {
            None => Access::Dead,
            Some(lease) if lease.age(now) >= inner.refresh_age => Access::Due,
            Some(_) => Access::Fresh,
        };
        let pause = inner.paused_until.and_then(|until| until.checked_sub(now.mono)).filter(|left| !left.is_zero());
        let view = View { access, sender: inner.sender(instances), paused: pause.is_some() };
        let decision = match decide(&inner.journal, view, policy) {
            // what the task does, or has to tell, is not in the journal yet
            SessionDecision::Renew | SessionDecision::End(_) if inner.flying => SessionDecision::Wait,
            SessionDecision::ServeAndRenew if inner.flying => SessionDecision::Serve,
            decision => decision,
        };
        let begin = matches!(decision, SessionDecision::Renew | SessionDecision::ServeAndRenew);
        inner.flying |= begin;
        let step = match (decision, lease) {
            (SessionDecision::Serve | SessionDecision::ServeAndRenew, Some(lease)) => Step::Ready(lease),
            (SessionDecision::End(end), _) => Step::Ended(end),
            (SessionDecision::Hold, _) => Step::Hold(pause.unwrap_or_default()),
            (SessionDecision::Wait, _) if !inner.flying => Step::Look,
            _ => Step::Wait,
        };
        (step, begin)
    }

    /// The platform answered 401 to the token named by `sha256`. Whether it was the one that is handed out.
    pub(crate) fn take_out(&self, sha256: Sha256) -> bool {
        let _inner = self.inner.lock();
        let current = self.lease.load_full().is_some_and(|lease| lease.sha256() == sha256);
        if current {
            self.lease.store(None);
        }
        current
    }

    pub(crate) fn doubt(&self, sha256: Sha256, now: Now) {
        *self.doubt.lock() = Some((sha256, now.mono));
    }

    pub(crate) fn is_doubted(&self, sha256: Sha256, now: Now, holds: Duration) -> bool {
        self.doubt.lock().is_some_and(|(of, since)| of == sha256 && now.mono.saturating_sub(since) < holds)
    }

    pub(crate) fn wake(&self, has_failed: bool) {
        self.tide.send_modify(|tide| {
            tide.changes = tide.changes.wrapping_add(1);
            tide.failures = tide.failures.wrapping_add(u64::from(has_failed));
        });
    }

    /// The last use that is not stored yet, if it is later than the stored one by `grain`.
    pub(crate) fn unstored_use(&self, grain: Duration) -> Option<UnixMillis> {
        let used = self.lease.load_full()?.last_used().wall;
        let stored = UnixMillis(self.stored_use.load(Ordering::Relaxed));
        (used.since(stored) >= grain).then_some(used)
    }

    /// How long nobody asked for it.
    pub(crate) fn unasked(&self, now: Now) -> Duration {
        Duration::from_millis(mono_ms(now).saturating_sub(self.asked.load(Ordering::Relaxed)))
    }
}

impl Inner {
    /// The same for the task that is about to write the journal: whatever an earlier task of this process left there is
    /// over.
    pub(crate) fn sender_before(&self, instances: &dyn Instances) -> Sender {
        match self.journal.phase {
            RefreshPhase::Sent { by } if by == instances.own() => Sender::Gone,
            RefreshPhase::Sent { .. } | RefreshPhase::Idle => self.sender(instances),
        }
    }

    /// Whether whoever the journal names may still be sending.
    pub(crate) fn sender(&self, instances: &dyn Instances) -> Sender {
        match self.journal.phase {
            RefreshPhase::Sent { by } if by == instances.own() && !self.flying => Sender::Gone,
            RefreshPhase::Sent { by } if instances.is_gone(by) => Sender::Gone,
            RefreshPhase::Sent { .. } | RefreshPhase::Idle => Sender::There,
        }
    }
}
