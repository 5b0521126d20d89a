//! Which tokens of this issuer are revoked by a record: JWTs, which are not in the table of sessions, and sessions of a
//! client, a subject or everything up to a moment. The verifiers of inbound calls read the same records.
//!
//! Invariants: a revocation is on disk before anybody is told of it; where there is no room to remember them all, every
//! token counts as revoked; none is forgotten by a wall clock that jumped, because no record is read twice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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

/// How long a record outlives the last token that it can hit: leeway of verification elsewhere.
const MARGIN: Duration = Duration::from_hours(1);

#[derive(Clone, Copy)]
struct Seen {
    /// Tokens issued then or earlier are hit; none for a single token, which is hit whenever it was issued.
    before: Option<UnixMillis>,
    expires_at: UnixMillis,
}

/// The records that were read, by the key of their target.
pub(crate) struct Revoked {
    store: Arc<dyn RevocationStore>,
    /// Up to where the store was read. Held while reading it.
    position: tokio::sync::Mutex<u64>,
    seen: RwLock<HashMap<Sha256, Seen>>,
    overflowed: AtomicBool,
    /// Whether a record in `seen` hits more than a single token, or there may be one that found no room: where not, a
    /// session costs no look. Written only by whoever holds `seen` for writing.
    has_classes: AtomicBool,
    wall: Mutex<Steadiness>,
}

impl Revoked {
    pub(crate) fn new(store: Arc<dyn RevocationStore>, now: Now) -> Self {
        let position = tokio::sync::Mutex::default();
        let (overflowed, has_classes) = (AtomicBool::new(false), AtomicBool::new(false));
        let wall = Mutex::new(Steadiness::new(now));
        Self { store, position, seen: RwLock::default(), overflowed, has_classes, wall }
    }

    /// Reads what was written since the last time, by whomever.
    pub(crate) async fn follow(&self) -> Result<(), StateError> {
        let mut position = self.position.lock().await;
        loop {
            let page = self.store.revocations_after(*position, PAGE).await?;
            let full = page.len() >= PAGE as usize;
            for placed in page {
                self.remember(&placed.record);
                *position = placed.position;
            }
            if !full {
                return Ok(());
            }
        }
    }

    fn remember(&self, record: &RevocationRecord) {
        if matches!(record.target, RevocationTarget::Answers { .. }) {
            return;
        }
        let mut seen = self.seen.write();
        let key = record.target.key();
        if seen.len() >= RECORDS_MAX && !seen.contains_key(&key) {
            self.has_classes.store(true, Ordering::Release);
            if !self.overflowed.swap(true, Ordering::Release) {
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

    /// Forgets what can hit no living token any more; nothing while the wall clock cannot be believed.
    pub(crate) fn sweep(&self, now: Now) {
        if self.wall.lock().holds(now) {
            let mut seen = self.seen.write();
            seen.retain(|_, seen| now.wall < seen.expires_at);
            let left = seen.values().any(|seen| seen.before.is_some());
            self.has_classes.store(left || self.overflowed.load(Ordering::Acquire), Ordering::Release);
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

    /// A store that has nothing and takes everything.
    struct Nowhere;

    impl RevocationStore for Nowhere {
        fn add_revocations(
            &self,
            _records: Vec<RevocationRecord>,
            _event: Option<AuditEvent>,
        ) -> BoxFuture<'_, Result<(), StateError>> {
            Box::pin(async { Ok(()) })
        }

        fn revocations_after(&self, _: u64, _: u32) -> BoxFuture<'_, Result<Vec<PlacedRevocation>, StateError>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn forget_revocations(&self, _: UnixMillis, _: u32) -> BoxFuture<'_, Result<usize, StateError>> {
            Box::pin(async { Ok(0) })
        }
    }

    /// With one record, of a token that had 20 hours to live.
    fn with_one() -> Revoked {
        let revoked = Revoked::new(Arc::new(Nowhere), START);
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

    #[test]
    fn a_record_is_forgotten_at_its_end_and_not_before() {
        let revoked = with_one();
        for (hours, expected) in [(0, 1), (20, 1), (21, 0)] {
            revoked.sweep(START.plus(Duration::from_hours(hours)));
            assert_eq!(left(&revoked), expected, "after {hours} h");
        }
    }

    #[test]
    fn sessions_are_looked_up_only_while_a_record_can_hit_them() {
        let revoked = with_one();
        let looks = |revoked: &Revoked| revoked.has_classes.load(Ordering::Acquire);
        let client: ClientId = "gone".parse().unwrap();
        let is_hit = |revoked: &Revoked| revoked.hits_session(None, &client, START.wall);
        assert_eq!((looks(&revoked), is_hit(&revoked)), (false, false), "a single token's alone");
        revoked.remember(&of_client("gone", 2));
        revoked.remember(&of_client("other", 3));
        for (hours, records, expected) in [(1, 3, (true, true)), (2, 2, (true, false)), (3, 1, (false, false))] {
            revoked.sweep(START.plus(Duration::from_hours(hours)));
            assert_eq!((left(&revoked), (looks(&revoked), is_hit(&revoked))), (records, expected), "after {hours} h");
        }
        revoked.remember(&of_client("gone", 5));
        assert_eq!((looks(&revoked), is_hit(&revoked)), (true, true), "and again");
        // what found no room may be a client's, and ends by no sweep
        revoked.overflowed.store(true, Ordering::Release);
        revoked.sweep(START.plus(Duration::from_hours(30)));
        assert_eq!((left(&revoked), looks(&revoked), is_hit(&revoked)), (0, true, true), "no room");
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
}
