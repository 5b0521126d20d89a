//! What is done beside the calls: tokens of ended sessions are given back, sessions whose time is over end, times of use
//! are written, and memory is freed.
//!
//! Invariants: one look per second and bounded work in each; a session's tokens are wiped once the platform has them
//! back or they are dead; a wall clock that jumps ends nobody's session before it has stood for a while.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kh_core::{
    CredentialName, Now, Sha256, Steadiness, UnixMillis,
    port::{SessionRecord, StateError},
    session::{SessionEnd, SessionName},
};
use tokio_util::sync::CancellationToken;

use super::{UserSessions, ending::tell, live::Live, sealed::Tokens};

/// How often ended sessions are looked for: the longest time that the platform's token outlives its session, and that a
/// session goes on which another process has ended.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// Tokens given back in one look, and overdue sessions ended.
const BATCH: u32 = 64;

/// Ended sessions looked at at once. More than are given back, so that those of a platform that is down leave room for
/// the others.
const CLOSING_MAX: u32 = 1000;

/// Pause after a token that could not be given back: the platform may be down.
const GIVE_BACK_PAUSE: Duration = Duration::from_secs(10);

/// How exact the stored time of use is: a busy session writes once in this time.
const USE_GRAIN: Duration = Duration::from_mins(1);

/// Times of use in one write.
const USES_MAX: usize = 1000;

/// How long an unused session stays in memory.
const MEMORY_IDLE: Duration = Duration::from_hours(1);

/// How long a closed session is remembered after its end, so that its caller hears what became of it.
const REMEMBERED: Duration = Duration::from_hours(1);

/// What one look hands to the next.
pub(super) struct Tended {
    /// Nothing is ended by a clock that cannot be believed.
    wall: Steadiness,
    /// By credential, whose platform may be down.
    give_back_after: BTreeMap<CredentialName, Duration>,
    failing: bool,
}

impl UserSessions {
    /// Tends the sessions until `cancel`: their one background task.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(TEND_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tended = self.tending();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.closing.notified() => {}
                _ = ticks.tick() => {}
            }
            // platforms may take their time; what was not given back is at the next start
            let Some(outcome) = cancel.run_until_cancelled(self.tend(&mut tended)).await else { break };
            match &outcome {
                Ok(()) if tended.failing => tracing::info!("the sessions can be tended again"),
                Err(error) if !tended.failing => {
                    tracing::warn!("the sessions cannot be tended, because the state is not available: {error}");
                }
                _ => {}
            }
            tended.failing = outcome.is_err();
        }
        // a short stop does not count as idle time
        if let Err(error) = self.store_uses(Duration::ZERO).await {
            tracing::debug!("the last times of use were not written: {error}");
        }
    }

    pub(super) fn tending(&self) -> Tended {
        let wall = Steadiness::new(self.broker.ports().clock.now());
        Tended { wall, give_back_after: BTreeMap::new(), failing: false }
    }

    /// One look.
    pub(super) async fn tend(&self, tended: &mut Tended) -> Result<(), StateError> {
        let now = self.broker.ports().clock.now();
        let believed = tended.wall.holds(now);
        self.store_uses(USE_GRAIN).await?;
        if believed {
            self.end_overdue(now.wall).await?;
        }
        self.close_ended(tended, now).await?;
        self.store.forget_sessions(now.wall.minus(REMEMBERED), BATCH).await?;
        self.live.write().retain(|_, live| {
            let inner = live.inner.lock();
            inner.end.is_none() && (inner.flying || live.unasked(now) < MEMORY_IDLE)
        });
        Ok(())
    }

    /// Writes when sessions were used, those that are behind by `grain`.
    async fn store_uses(&self, grain: Duration) -> Result<(), StateError> {
        let used: Vec<(Arc<Live>, UnixMillis)> = {
            let live = self.live.read();
            let behind = live.values().filter_map(|live| Some((Arc::clone(live), live.unstored_use(grain)?)));
            behind.take(USES_MAX).collect()
        };
        if used.is_empty() {
            return Ok(());
        }
        self.store.touch_sessions(used.iter().map(|(live, at)| (live.token, *at)).collect()).await?;
        for (live, at) in used {
            live.stored_use.fetch_max(at.0, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn end_overdue(&self, now: UnixMillis) -> Result<(), StateError> {
        for record in self.store.overdue_sessions(now, BATCH).await? {
            let end = if now >= record.expires_at { SessionEnd::Expired } else { SessionEnd::Idle };
            self.forget(record.token, end);
            self.ended(record.token, &record.client, &record.credential, end).await;
        }
        Ok(())
    }

    /// Takes a session out of memory.
    pub(super) fn forget(&self, token: Sha256, end: SessionEnd) {
        let live = self.live.write().remove(&token);
        if let Some(live) = live {
            live.inner.lock().end.get_or_insert(end);
            live.lease.store(None);
            live.wake(false);
        }
    }

    async fn close_ended(&self, tended: &mut Tended, now: Now) -> Result<(), StateError> {
        let mut calls = 0;
        for record in self.store.sessions_to_close(CLOSING_MAX).await? {
            let Some(end) = record.end else { continue };
            self.forget(record.token, end);
            if let Some(tokens) = self.open(&record).filter(|tokens| is_alive(tokens, now)) {
                let paused = tended.give_back_after.get(&record.credential).is_some_and(|after| now.mono < *after);
                if paused || calls >= BATCH {
                    continue;
                }
                calls += 1;
                if let Err(error) = self.returned(&record, &tokens).await {
                    let after = now.mono.saturating_add(GIVE_BACK_PAUSE);
                    tended.give_back_after.insert(record.credential.clone(), after);
                    tracing::warn!(
                        client.id = %record.client,
                        session.id = %SessionName::of(record.token),
                        "the platform's token of an ended session could not be given back; trying again: {error}"
                    );
                    continue;
                }
            }
            self.store.close_session(record.token).await?;
            if matches!(end, SessionEnd::TokenRevoked | SessionEnd::ClientDisabled | SessionEnd::Operator) {
                // ended by a statement of whichever process; the one that closes it counts it
                self.count_end(end);
                tell(&SessionName::of(record.token).to_string(), &record.client, &record.credential, end);
            }
        }
        tended.give_back_after.retain(|_, after| now.mono < *after);
        Ok(())
    }

    /// Gives the token of a session back; done as well where the platform has no call for that, or its credential is
    /// not configured any more.
    async fn returned(&self, record: &SessionRecord, tokens: &Tokens) -> Result<(), kh_core::port::FetchError> {
        let Some(credential) = self.broker.credential(&record.credential) else { return Ok(()) };
        credential.spec().endpoint.give_back(&tokens.api_base, &tokens.access).await.map(drop)
    }
}

fn is_alive(tokens: &Tokens, now: Now) -> bool {
    now.wall < tokens.asked_at.plus(tokens.life)
}
