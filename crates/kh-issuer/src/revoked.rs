//! Which tokens of this issuer are revoked by a record: JWTs, which are not in the table of sessions, and sessions of a
//! client, a subject or everything up to a moment. The verifiers of inbound calls read the same records.
//!
//! Invariants: a revocation is on disk before anybody is told of it; while there is no room to remember them all, every
//! token counts as revoked; none is forgotten by a wall clock that jumped, and what a clock that ran ahead at the start
//! took for ended is read again once the clock is set right.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::{
    ClientId, Now, Sha256, Steadiness, UnixMillis,
    audit::AuditEvent,
    port::{RevocationStore, StateError},
    revocation::{RevocationRecord, RevocationTarget, keys},
};
use parking_lot::{Mutex, RwLock};

use crate::{access_token::OwnJwt, signing::JWT_TTL_MAX};

/// Records read at once.
const PAGE: u32 = 4096;

/// Records in memory: some 100 bytes each. Writers widen their own long before.
const RECORDS_MAX: usize = 500_000;

/// Where there was no room, all records are read again once this part of it is free: less would soon be full again, and
/// each time everything is read.
const FREE_PART: usize = 8;

/// How long a record outlives the last token that it can hit: leeway of verification elsewhere.
const MARGIN: Duration = Duration::from_hours(1);

/// How long a record stays in memory after its end, and is still read: a wall clock that runs ahead by less than this
/// brings no token back. Those who verify inbound calls keep theirs as long.
const KEPT_AFTER_END: Duration = Duration::from_hours(24);

#[derive(Clone, Copy)]
struct Seen {
    /// Tokens issued then or earlier are hit; none for a single token, which is hit whenever it was issued.
    before: Option<UnixMillis>,
    expires_at: UnixMillis,
}

/// How far the store was read.
#[derive(Default)]
struct Reading {
    position: u64,
    /// The latest wall time at which an ended record was passed over.
    passed_over_at: UnixMillis,
    /// While everything is read again: how many records had found no room before.
    again: Option<u64>,
}

/// The records that were read, by the key of their target.
pub(crate) struct Revoked {
    store: Arc<dyn RevocationStore>,
    /// Held while reading the store.
    reading: tokio::sync::Mutex<Reading>,
    seen: RwLock<HashMap<Sha256, Seen>>,
    records_max: usize,
    /// Whether a record found no room and is not in `seen`. Written only by whoever holds `seen` for writing.
    overflowed: AtomicBool,
    /// How many times a record found no room. Written only by whoever holds `seen` for writing.
    lacking: AtomicU64,
    /// Whether everything is to be read again, because there may be room for it now.
    has_room_again: AtomicBool,
    /// Whether a record in `seen` hits more than a single token, or there may be one that found no room: where not, a
    /// session costs no look. Written only by whoever holds `seen` for writing.
    has_classes: AtomicBool,
    wall: Mutex<Steadiness>,
}

impl Revoked {
    pub(crate) fn new(store: Arc<dyn RevocationStore>, now: Now) -> Self {
        Self::with_room(store, now, RECORDS_MAX)
    }

    fn with_room(store: Arc<dyn RevocationStore>, now: Now, records_max: usize) -> Self {
        Self {
            store,
            reading: tokio::sync::Mutex::default(),
            seen: RwLock::default(),
            records_max,
            overflowed: AtomicBool::new(false),
            lacking: AtomicU64::new(0),
            has_room_again: AtomicBool::new(false),
            has_classes: AtomicBool::new(false),
            wall: Mutex::new(Steadiness::new(now)),
        }
    }

    /// Reads what was written since the last time, by whomever. What ended long ago stays in the store for a while and
    /// takes no room here: it is passed over, unless the wall clock cannot be believed.
    pub(crate) async fn follow(&self, now: Now) -> Result<(), StateError> {
        let believed = self.wall.lock().holds(now);
        let mut reading = self.reading.lock().await;
        // at the first look nothing tells that the clock runs ahead; when it is set right, this does
        let ran_ahead = now.wall.plus(KEPT_AFTER_END) < reading.passed_over_at;
        if self.has_room_again.swap(false, Ordering::AcqRel) || ran_ahead {
            let again = Some(self.lacking.load(Ordering::Acquire));
            *reading = Reading { again, ..Reading::default() };
        }
        loop {
            let page = self.store.revocations_after(reading.position, PAGE).await?;
            let full = page.len() >= PAGE as usize;
            for placed in page {
                if believed && !is_kept(placed.record.expires_at, now.wall) {
                    reading.passed_over_at = reading.passed_over_at.max(now.wall);
                } else {
                    self.remember(&placed.record);
                }
                reading.position = placed.position;
            }
            if !full {
                break;
            }
        }
        if let Some(lacking) = reading.again.take() {
            self.end_overflow(lacking);
        }
        Ok(())
    }

    /// After everything was read again: nothing is missing, unless a record has found no room since `lacking` had.
    fn end_overflow(&self, lacking: u64) {
        let _seen = self.seen.write();
        if self.lacking.load(Ordering::Acquire) == lacking && self.overflowed.swap(false, Ordering::AcqRel) {
            tracing::info!("there is room for all revocations again; tokens are good unless they are revoked");
        }
    }

    fn remember(&self, record: &RevocationRecord) {
        if matches!(record.target, RevocationTarget::Answers { .. }) {
            return;
        }
        let mut seen = self.seen.write();
        let key = record.target.key();
        if seen.len() >= self.records_max && !seen.contains_key(&key) {
            self.has_classes.store(true, Ordering::Release);
            self.lacking.fetch_add(1, Ordering::AcqRel);
            if !self.overflowed.swap(true, Ordering::AcqRel) {
                tracing::error!("there are more revocations than can be remembered; every token counts as revoked");
            }
            return;
        }
        let before = (!record.target.is_token()).then_some(record.before);
        let new = Seen { before, expires_at: record.expires_at };
        seen.entry(key)
            .and_modify(|old| {
                old.before = old.before.max(new.before);
                old.expires_at = old.expires_at.max(new.expires_at);
            })
            .or_insert(new);
        if before.is_some() {
            self.has_classes.store(true, Ordering::Release);
        }
    }

    /// Forgets what can hit no living token any more; nothing while the wall clock cannot be believed. Where a record had
    /// found no room and there is some now, the next [`Revoked::follow`] reads everything again.
    pub(crate) fn sweep(&self, now: Now) {
        if self.wall.lock().holds(now) {
            let mut seen = self.seen.write();
            seen.retain(|_, seen| is_kept(seen.expires_at, now.wall));
            let overflowed = self.overflowed.load(Ordering::Acquire);
            let left = seen.values().any(|seen| seen.before.is_some());
            self.has_classes.store(left || overflowed, Ordering::Release);
            if overflowed && seen.len() <= self.records_max - self.records_max / FREE_PART {
                self.has_room_again.store(true, Ordering::Release);
            }
        }
    }

    /// Whether the token was revoked, by itself or with others.
    pub(crate) fn hits(&self, issuer: &str, token: &OwnJwt, bytes: &[u8]) -> bool {
        if self.overflowed.load(Ordering::Acquire) {
            return true;
        }
        let seen = self.seen.read();
        if seen.is_empty() {
            return false;
        }
        let client = token.client.as_str();
        let single = [keys::token_id(issuer, &token.id), keys::issued(issuer, client, token.issued_at)];
        let whole = [keys::token(&Sha256::of(bytes)), keys::signed(&Sha256::of(signed_part(bytes)))];
        if single.iter().chain(&whole).any(|key| seen.contains_key(key)) {
            return true;
        }
        hits_class(&seen, &[None, Some(issuer)], client, token.issued_at)
    }

    /// Whether what a client was issued then was revoked with all that it, or everybody, had. `issuer` is the name that
    /// the tokens have as an authorization server's.
    pub(crate) fn hits_session(&self, issuer: Option<&str>, client: &ClientId, issued_at: UnixMillis) -> bool {
        if !self.has_classes.load(Ordering::Acquire) {
            return false;
        }
        if self.overflowed.load(Ordering::Acquire) {
            return true;
        }
        let issuers: &[Option<&str>] = if issuer.is_some() { &[None, issuer] } else { &[None] };
        hits_class(&self.seen.read(), issuers, client.as_str(), issued_at)
    }

    /// Revokes one token; on disk when it returns.
    pub(crate) async fn revoke(&self, issuer: &str, token: &OwnJwt, now: UnixMillis) -> Result<(), StateError> {
        let target = RevocationTarget::TokenId { issuer: issuer.to_owned(), id: token.id.clone() };
        let client = token.client.to_string();
        self.add(
            RevocationRecord {
                target,
                before: now,
                revoked_at: now,
                expires_at: token.expires_at.plus(MARGIN),
                issuer: Some(issuer.to_owned()),
                client: Some(client.clone()),
                subject: Some(client),
            },
            None,
        )
        .await
    }

    /// Revokes every JWT that a client was issued up to a moment; on disk when it returns. Whoever issued it: an id is
    /// no other client's.
    pub(crate) async fn revoke_client(
        &self,
        client: &ClientId,
        before: UnixMillis,
        event: Option<AuditEvent>,
    ) -> Result<(), StateError> {
        let target = RevocationTarget::Client { issuer: None, client: client.to_string() };
        let expires_at = before.plus(JWT_TTL_MAX).plus(MARGIN);
        let (issuer, subject) = (None, None);
        let record = RevocationRecord { target, before, revoked_at: before, expires_at, issuer, client: None, subject };
        self.add(record, event).await
    }

    async fn add(&self, record: RevocationRecord, event: Option<AuditEvent>) -> Result<(), StateError> {
        self.store.add_revocations(vec![record.clone()], event).await?;
        self.remember(&record);
        Ok(())
    }
}

/// Whether a record that ends then is in memory at `now`.
fn is_kept(expires_at: UnixMillis, now: UnixMillis) -> bool {
    now < expires_at.plus(KEPT_AFTER_END)
}

fn hits_class(seen: &HashMap<Sha256, Seen>, issuers: &[Option<&str>], client: &str, issued_at: UnixMillis) -> bool {
    let hit = |key: Sha256| {
        let before = seen.get(&key).and_then(|seen| seen.before);
        before.is_some_and(|before| issued_at <= before)
    };
    issuers.iter().any(|issuer| {
        // `sub` is the client as well (RFC 9068 section 2.2)
        hit(keys::client(*issuer, client)) || hit(keys::subject(*issuer, client)) || hit(keys::everything(*issuer))
    })
}

/// What the signature of a compact JWS covers.
fn signed_part(token: &[u8]) -> &[u8] {
    let end = token.iter().rposition(|byte| *byte == b'.').unwrap_or(token.len());
    token.get(..end).unwrap_or(token)
}

#[cfg(test)]
mod tests {
    use kh_core::port::{BoxFuture, inbound::PlacedRevocation};

    use super::*;

    const START: Now = Now { wall: UnixMillis(1_790_000_000_000), mono: Duration::ZERO };

    /// A store that takes everything and forgets nothing.
    struct Shelf(Mutex<Vec<RevocationRecord>>);

    impl Shelf {
        fn holding(records: impl IntoIterator<Item = RevocationRecord>) -> Arc<Self> {
            Arc::new(Self(Mutex::new(records.into_iter().collect())))
        }
    }

    impl RevocationStore for Shelf {
        fn add_revocations(
            &self,
            records: Vec<RevocationRecord>,
            _event: Option<AuditEvent>,
        ) -> BoxFuture<'_, Result<(), StateError>> {
            self.0.lock().extend(records);
            Box::pin(async { Ok(()) })
        }

        fn revocations_after(
            &self,
            position: u64,
            limit: u32,
        ) -> BoxFuture<'_, Result<Vec<PlacedRevocation>, StateError>> {
            let records = self.0.lock();
            let placed = (1..).zip(records.iter().cloned());
            let placed = placed.map(|(position, record)| PlacedRevocation { position, record });
            let page: Vec<_> = placed.filter(|placed| placed.position > position).take(limit as usize).collect();
            Box::pin(async move { Ok(page) })
        }

        fn forget_revocations(&self, _: UnixMillis, _: u32) -> BoxFuture<'_, Result<usize, StateError>> {
            Box::pin(async { Ok(0) })
        }
    }

    /// With one record, of a token that had 20 hours to live.
    fn with_one() -> Revoked {
        let revoked = Revoked::new(Shelf::holding([]), START);
        let target = RevocationTarget::TokenId { issuer: "i".to_owned(), id: "a".to_owned() };
        let (before, expires_at) = (START.wall, START.wall.plus(Duration::from_hours(20)).plus(MARGIN));
        let (issuer, client, subject) = (None, None, None);
        let record = RevocationRecord { target, before, revoked_at: before, expires_at, issuer, client, subject };
        revoked.remember(&record);
        revoked
    }

    /// The record of a client that was disabled at `START`.
    fn of_client(client: &str, hours: u64) -> RevocationRecord {
        let target = RevocationTarget::Client { issuer: None, client: client.to_owned() };
        let (before, expires_at) = (START.wall, START.wall.plus(Duration::from_hours(hours)));
        let (issuer, client, subject) = (None, None, None);
        RevocationRecord { target, before, revoked_at: before, expires_at, issuer, client, subject }
    }

    fn left(revoked: &Revoked) -> usize {
        revoked.seen.read().len()
    }

    fn is_overflowed(revoked: &Revoked) -> bool {
        revoked.overflowed.load(Ordering::Acquire)
    }

    /// Whether what the client was issued at `START` is revoked.
    fn is_hit(revoked: &Revoked, client: &str) -> bool {
        revoked.hits_session(None, &client.parse().unwrap(), START.wall)
    }

    #[test]
    fn a_record_is_forgotten_a_day_after_its_end_and_not_before() {
        let revoked = with_one();
        for (hours, expected) in [(0, 1), (44, 1), (45, 0)] {
            revoked.sweep(START.plus(Duration::from_hours(hours)));
            assert_eq!(left(&revoked), expected, "after {hours} h");
        }
    }

    #[test]
    fn sessions_are_looked_up_only_while_a_record_can_hit_them() {
        let revoked = with_one();
        let looks = |revoked: &Revoked| revoked.has_classes.load(Ordering::Acquire);
        assert_eq!((looks(&revoked), is_hit(&revoked, "gone")), (false, false), "a single token's alone");
        revoked.remember(&of_client("gone", 2));
        revoked.remember(&of_client("other", 3));
        for (hours, records, expected) in [(25, 3, (true, true)), (26, 2, (true, false)), (27, 1, (false, false))] {
            revoked.sweep(START.plus(Duration::from_hours(hours)));
            assert_eq!(
                (left(&revoked), (looks(&revoked), is_hit(&revoked, "gone"))),
                (records, expected),
                "after {hours} h"
            );
        }
        revoked.remember(&of_client("gone", 5));
        assert_eq!((looks(&revoked), is_hit(&revoked, "gone")), (true, true), "and again");
        // what found no room may be a client's, and ends by no sweep alone
        revoked.overflowed.store(true, Ordering::Release);
        revoked.sweep(START.plus(Duration::from_hours(54)));
        assert_eq!((left(&revoked), looks(&revoked), is_hit(&revoked, "gone")), (0, true, true), "no room");
    }

    #[test]
    fn nothing_is_forgotten_while_the_wall_clock_cannot_be_believed() {
        let revoked = with_one();
        let month = Duration::from_hours(30 * 24);
        for minutes in 1..=10 {
            let now = START.plus(Duration::from_mins(minutes));
            revoked.sweep(Now { wall: now.wall.plus(month), ..now });
            assert_eq!(left(&revoked), 1, "minute {minutes} of a month too early");
        }
        revoked.sweep(START.plus(Duration::from_mins(11)));
        assert_eq!(left(&revoked), 1, "set right");
        revoked.sweep(START.plus(month));
        assert_eq!(left(&revoked), 0, "a month that went by");
    }

    /// The state keeps records for a week after their end: a restart reads them all.
    #[tokio::test]
    async fn what_ended_long_ago_takes_no_room_when_it_is_read() {
        let old = (0..100).map(|number| of_client(&format!("old-{number}"), 1));
        let shelf = Shelf::holding(old.chain([of_client("today", 2), of_client("gone", 100)]));
        let now = START.plus(Duration::from_hours(25));
        let revoked = Revoked::with_room(shelf, now, 2);
        revoked.follow(now).await.unwrap();
        assert_eq!((left(&revoked), is_overflowed(&revoked)), (2, false));
        let hits = ["old-0", "today", "gone", "nobody"].map(|client| is_hit(&revoked, client));
        assert_eq!(hits, [false, true, true, false], "within a day after its end one is read");
    }

    #[tokio::test]
    async fn where_there_is_room_again_every_token_counts_by_itself_again() {
        let old = (0..8).map(|number| of_client(&format!("old-{number}"), 1));
        let late = (0..8).map(|number| of_client(&format!("late-{number}"), 100));
        let shelf = Shelf::holding(old.chain(late));
        let revoked = Revoked::with_room(Arc::<Shelf>::clone(&shelf), START, 8);
        let look = async |hours: u64| {
            let now = START.plus(Duration::from_hours(hours));
            revoked.sweep(now);
            revoked.follow(now).await.unwrap();
            (left(&revoked), is_overflowed(&revoked), is_hit(&revoked, "late-7"), is_hit(&revoked, "nobody"))
        };
        assert_eq!(look(0).await, (8, true, true, true));
        assert_eq!(look(1).await, (8, true, true, true), "nothing has left yet");
        assert_eq!(look(25).await, (8, false, true, false), "the second half has the room of the first");
        shelf.0.lock().push(of_client("ninth", 200));
        assert_eq!(look(26).await, (8, true, true, true), "and it is full again");
        shelf.0.lock().extend((0..8).map(|number| of_client(&format!("more-{number}"), 200)));
        assert_eq!(look(124).await, (8, true, true, true), "there is room, and not for all");
        assert_eq!(look(224).await, (0, false, false, false));
    }

    /// At the first look nothing tells that the clock runs ahead.
    #[tokio::test]
    async fn what_a_clock_that_ran_ahead_passed_over_is_read_when_it_is_set_right() {
        let ahead = Now { wall: START.wall.plus(Duration::from_hours(30 * 24)), ..START };
        let revoked = Revoked::with_room(Shelf::holding([of_client("gone", 2)]), ahead, 8);
        revoked.follow(ahead).await.unwrap();
        assert_eq!(left(&revoked), 0);
        revoked.follow(START.plus(Duration::from_mins(1))).await.unwrap();
        assert_eq!((left(&revoked), is_hit(&revoked, "gone")), (1, true));
    }
}
