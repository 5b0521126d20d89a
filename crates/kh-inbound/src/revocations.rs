//! Revocations: in memory for every request, on disk for the next start and for other processes.
//!
//! Invariants: when [`Revocations::revoke`] returns, no request that begins later sees the token as valid, in this
//! process, and after a restart in any; other processes see it when they look next ([`POLL_EVERY`]). A revocation
//! whose record could not be written works in this process all the same. None is forgotten by a wall clock that jumped,
//! and what a clock that ran ahead at the start took for ended is read again once the clock is set right: an entry leaves,
//! or is passed over, only when no token that it can hit may be alive.

mod index;
mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use kh_core::{
    Now, Sha256, Steadiness, UnixMillis,
    audit::AuditEvent,
    identity::Identity,
    port::{BoxFuture, RevocationStore, StateError, inbound::PlacedRevocation},
    revocation::{RevocationRecord, RevocationTarget},
};
use parking_lot::RwLock;
use tokio::sync::Mutex;

pub use index::Caps;
pub(crate) use index::Named;

use index::{Added, Index, KEPT_AFTER_END, is_kept};

/// How often other processes' revocations are looked for: the longest time that a token revoked by one still works
/// here. One look is one indexed query that finds nothing.
pub const POLL_EVERY: Duration = Duration::from_millis(250);

/// Records read at once.
const PAGE: u32 = 4096;

/// Expired records deleted from the store in one sweep.
const FORGET_MAX: u32 = 4096;

/// How long expired records stay in the store: longer than in memory, for the same reason. None of them takes room in
/// memory meanwhile, see [`Revocations::refresh`].
const FORGET_AFTER: Duration = Duration::from_hours(7 * 24);

/// How long a revocation stays beyond the last moment at which its token could be accepted: leeway of verification.
const END_MARGIN: Duration = Duration::from_hours(1);

/// How far the store was read.
#[derive(Default)]
struct Reading {
    position: u64,
    /// The latest wall time at which an ended record was passed over.
    passed_over_at: UnixMillis,
}

/// How many revocations had to be widened, told at once and then at most once a minute.
#[derive(Debug, Default)]
struct Widened {
    /// Those of which nobody was told; none while the next one is to be told at once.
    untold: Option<usize>,
}

impl Widened {
    /// As many more. How many are to be told now.
    fn add(&mut self, more: usize) -> Option<usize> {
        let Some(untold) = &mut self.untold else {
            self.untold = Some(0);
            return Some(more);
        };
        *untold = untold.saturating_add(more);
        None
    }

    /// A minute went by. How many are to be told now.
    fn pass(&mut self) -> Option<usize> {
        let untold = self.untold.take().filter(|untold| *untold > 0)?;
        self.untold = Some(0);
        Some(untold)
    }
}

/// The revocations of one installation.
pub struct Revocations {
    index: RwLock<Index>,
    /// Moves after the index has changed, so that what was checked under the present number was checked against all of it.
    epoch: AtomicU32,
    /// Held while reading the store.
    reading: Mutex<Reading>,
    /// Of the clocks that all who sweep read; none before the first look.
    wall: parking_lot::Mutex<Option<Steadiness>>,
    widened: parking_lot::Mutex<Widened>,
    store: Arc<dyn RevocationStore>,
}

impl Revocations {
    /// Nothing read yet: [`Revocations::refresh`] comes before the first request.
    pub fn new(store: Arc<dyn RevocationStore>, caps: Caps) -> Self {
        let index = RwLock::new(Index::new(caps));
        let (wall, widened) = (parking_lot::Mutex::default(), parking_lot::Mutex::default());
        Self { index, epoch: AtomicU32::new(0), reading: Mutex::default(), wall, widened, store }
    }

    /// Reads what was written since the last time, by whomever. How many records there were. What ended long ago and is
    /// still in the store takes no room here, or a start would widen what has none: it is passed over, unless the wall
    /// clock cannot be believed.
    pub async fn refresh(&self, now: Now) -> Result<usize, StateError> {
        let believed = self.is_steady(now);
        let mut reading = self.reading.lock().await;
        // at the first look nothing tells that the clock runs ahead; when it is set right, this does
        if now.wall.plus(KEPT_AFTER_END) < reading.passed_over_at {
            *reading = Reading::default();
        }
        let mut read = 0;
        loop {
            let page = self.store.revocations_after(reading.position, PAGE).await?;
            let full = page.len() >= PAGE as usize;
            read += page.len();
            let last = page.last().map(|placed| placed.position);
            let (kept, ended): (Vec<_>, Vec<_>) = page
                .into_iter()
                .map(|placed| placed.record)
                .partition(|record| !believed || is_kept(record.expires_at, now.wall));
            if !ended.is_empty() {
                reading.passed_over_at = reading.passed_over_at.max(now.wall);
            }
            self.take_in(kept.into_iter());
            // only now: what was read is in force, also when the next page cannot be read
            reading.position = last.unwrap_or(reading.position);
            if !full {
                return Ok(read);
            }
        }
    }

    /// Revokes: first in memory, then on disk with the audit `event`. After an error the revocation holds in this
    /// process until it ends; whoever called is to try again.
    pub async fn revoke(&self, records: Vec<RevocationRecord>, event: Option<AuditEvent>) -> Result<(), StateError> {
        let fitting = {
            let index = self.index.read();
            records.into_iter().map(|record| index.fitting(record)).collect::<Vec<_>>()
        };
        self.take_in(fitting.iter().cloned());
        self.store.add_revocations(fitting, event).await
    }

    fn take_in(&self, records: impl Iterator<Item = RevocationRecord>) {
        let mut records = records.peekable();
        if records.peek().is_none() {
            return;
        }
        let (mut widened, mut changed) = (0_usize, false);
        {
            let mut index = self.index.write();
            for record in records {
                let added = index.add(record);
                widened += usize::from(added == Added::Widened);
                changed |= added != Added::Known;
            }
        }
        if changed {
            self.epoch.fetch_add(1, Ordering::Release);
        }
        if widened > 0 {
            let told = self.widened.lock().add(widened);
            tell_widened(told);
        }
    }

    /// Moves whenever something more is revoked.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether the token is revoked; `signed` is the digest of what a JWT's signature covers.
    pub(crate) fn hits(&self, token: Named<'_>, signed: impl FnOnce() -> Option<Sha256>) -> bool {
        self.index.read().hits(token, signed)
    }

    /// The earliest moment at which a token can have been issued that is alive at `now` and lives for `life_max` at most;
    /// a day earlier, for a wall clock that runs ahead. Any moment while the wall clock cannot be believed.
    pub(crate) fn issued_from(&self, now: Now, life_max: Duration) -> UnixMillis {
        if self.is_steady(now) { now.wall.minus(life_max).minus(KEPT_AFTER_END) } else { UnixMillis(0) }
    }

    /// Whether what an issuer said of `identity` in that second may still be believed.
    pub(crate) fn believes(&self, identity: &Identity, answered_s: u64) -> bool {
        self.index.read().believes(identity, answered_s)
    }

    /// How often something more was revoked: taken before a question, it tells what came after it.
    pub(crate) fn changes(&self) -> u64 {
        self.index.read().changes()
    }

    /// Whether an order to ask about `identity` anew came after so many changes.
    pub(crate) fn overtakes(&self, identity: &Identity, changes: u64) -> bool {
        self.index.read().overtakes(identity, changes)
    }

    /// How many are in memory: of single tokens, and of clients, subjects and issuers.
    pub fn sizes(&self) -> (usize, usize) {
        self.index.read().sizes()
    }

    /// Whether the wall clock can be believed at `now`; the first look finds that it can.
    fn is_steady(&self, now: Now) -> bool {
        self.wall.lock().get_or_insert_with(|| Steadiness::new(now)).holds(now)
    }

    /// Forgets what ended long ago, here and in the store: nothing while the wall clock cannot be believed, because what
    /// is forgotten is not read again when it is set right. Called once a minute.
    pub async fn sweep(&self, now: Now) -> Result<(), StateError> {
        let told = self.widened.lock().pass();
        tell_widened(told);
        if !self.is_steady(now) {
            return Ok(());
        }
        self.index.write().sweep(now.wall);
        self.store.forget_revocations(now.wall.minus(FORGET_AFTER), FORGET_MAX).await.map(drop)
    }
}

/// A store that is in force: what is added through it holds in this process when it returns, also for whoever reads
/// the same revocations by [`Verifier::over`](crate::Verifier::over).
impl RevocationStore for Revocations {
    fn add_revocations(
        &self,
        records: Vec<RevocationRecord>,
        event: Option<AuditEvent>,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.revoke(records, event))
    }

    fn revocations_after(&self, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<PlacedRevocation>, StateError>> {
        self.store.revocations_after(position, limit)
    }

    fn forget_revocations(&self, cutoff: UnixMillis, limit: u32) -> BoxFuture<'_, Result<usize, StateError>> {
        self.store.forget_revocations(cutoff, limit)
    }
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations")
            .field("sizes", &self.sizes())
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

/// A revocation of everything that a client, a subject or an issuer was issued at `before` or earlier. `life_max` is
/// the longest that a token of that issuer lives (of any, where no issuer is named); `None`: nobody can tell.
pub(crate) fn class_record(
    target: RevocationTarget,
    before: UnixMillis,
    now: UnixMillis,
    life_max: Option<Duration>,
) -> RevocationRecord {
    let last = before.max(now);
    let expires_at = life_max.map_or(RevocationRecord::FOR_EVER, |life| last.plus(life).plus(END_MARGIN));
    RevocationRecord { target, before, revoked_at: now, expires_at, issuer: None, client: None, subject: None }
}

/// A revocation of one token that is not accepted from `ends_at` on; `None`: nobody can tell.
pub(crate) fn token_record(target: RevocationTarget, now: UnixMillis, ends_at: Option<UnixMillis>) -> RevocationRecord {
    let expires_at = ends_at.map_or(RevocationRecord::FOR_EVER, |end| end.max(now).plus(END_MARGIN));
    RevocationRecord { target, before: now, revoked_at: now, expires_at, issuer: None, client: None, subject: None }
}

fn tell_widened(told: Option<usize>) {
    if let Some(widened) = told {
        tracing::warn!(
            revocations = widened,
            "there is no room for more revocations of single tokens; they now hit everything that their client, \
             subject or issuer was issued before"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A busy client widens with each call.
    #[test]
    fn what_is_widened_is_told_at_once_and_then_once_a_minute() {
        let mut widened = Widened::default();
        assert_eq!((widened.pass(), widened.add(1)), (None, Some(1)));
        assert_eq!((widened.add(1), widened.add(2)), (None, None));
        assert_eq!((widened.pass(), widened.add(1)), (Some(3), None));
        assert_eq!((widened.pass(), widened.pass()), (Some(1), None), "a minute without");
        assert_eq!((widened.add(4), widened.add(1)), (Some(4), None));
    }
}
