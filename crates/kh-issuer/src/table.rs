//! The sessions in memory: a sharded map from token digest to session, read by every request. A lookup takes one
//! shared lock of one shard, allocates nothing and waits for nobody but a writer of the same shard.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use kh_core::{Confirmation, Now, Sha256, UnixMillis, port::TokenRecord};
use parking_lot::RwLock;

use crate::{Client, Session};

/// More shards than cores of any machine this runs on, so that a login seldom meets a lookup.
const SHARDS: usize = 64;

/// How exact "last used" is: a hot token writes its cache line once in this time, not once a request.
const USE_GRAIN: Duration = Duration::from_secs(30);

/// Where all sessions of one client look it up: swapping it changes them all at once, emptying it ends them all.
pub(crate) type Slot = Arc<ArcSwapOption<Client>>;

/// One token in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) slot: Slot,
    /// What the login asked for; none: all scopes of the client.
    scopes: Option<Arc<[String]>>,
    confirmation: Option<Arc<Confirmation>>,
    issued_at: UnixMillis,
    expires_at: UnixMillis,
    /// The same end on the monotonic clock, so that setting the wall clock back lengthens no token's life.
    mono_end: Duration,
    /// The ledger's sequence number when it came in.
    pub(crate) born: u64,
    /// Monotonic milliseconds of the last use that was noted.
    used: AtomicU64,
}

/// What the table knows about a digest.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// A valid session.
    Live(Session),
    /// Known, and not valid: expired, or not bound as it must be, or its client is disabled or removed.
    Dead,
    /// Never heard of.
    Unknown,
}

/// How an entry's life ended, or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// Unexpired by both clocks.
    Valid,
    /// Past its end on the wall clock.
    Expired,
    /// Past its end on the monotonic clock only: the wall clock was set back.
    Outlived,
}

impl Entry {
    /// An entry that counts as used now. Its monotonic end is never further away than its whole life, whatever the
    /// wall clock says.
    pub(crate) fn new(token: &TokenRecord, slot: Slot, now: Now, born: u64) -> Self {
        let life = token.expires_at.since(token.issued_at);
        let left = token.expires_at.since(now.wall).min(life);
        Self {
            slot,
            scopes: token.scopes.as_ref().map(|scopes| scopes.as_slice().into()),
            confirmation: token.confirmation.map(Arc::new),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            mono_end: now.mono.saturating_add(left),
            born,
            used: AtomicU64::new(mono_ms(now)),
        }
    }

    pub(crate) fn life(&self, now: Now) -> Life {
        if now.wall >= self.expires_at {
            return Life::Expired;
        }
        if now.mono >= self.mono_end { Life::Outlived } else { Life::Valid }
    }

    /// How long nobody used it, as far as this process knows.
    pub(crate) fn idle(&self, now: Now) -> Duration {
        Duration::from_millis(mono_ms(now).saturating_sub(self.used.load(Ordering::Relaxed)))
    }

    fn note_use(&self, now: Now) {
        if self.idle(now) >= USE_GRAIN {
            self.used.store(mono_ms(now), Ordering::Relaxed);
        }
    }
}

fn mono_ms(now: Now) -> u64 {
    u64::try_from(now.mono.as_millis()).unwrap_or(u64::MAX)
}

/// A SHA-256 digest is its own hash. Safe because only digests of tokens made here are ever inserted: nobody can
/// choose them to collide.
#[derive(Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // the length prefix of an array is shorter and no part of the hash; byte 0 chooses the shard
        if let Some(word) = bytes.get(8..16).and_then(|word| word.try_into().ok()) {
            self.0 = u64::from_le_bytes(word);
        }
    }
}

type Shard = RwLock<HashMap<Sha256, Entry, BuildHasherDefault<DigestHasher>>>;

/// All sessions in memory.
pub(crate) struct Table {
    shards: Vec<Shard>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }

    fn shard(&self, digest: &Sha256) -> &Shard {
        let [first, ..] = digest.0;
        self.shards.get(usize::from(first) % SHARDS).expect("the remainder is below the number of shards")
    }

    /// The hot path.
    pub(crate) fn lookup(&self, digest: Sha256, now: Now) -> Lookup {
        let shard = self.shard(&digest).read();
        let Some(entry) = shard.get(&digest) else { return Lookup::Unknown };
        if entry.life(now) != Life::Valid {
            return Lookup::Dead;
        }
        let may = |client: &Arc<Client>| {
            client.record.enabled && client.record.token_binding.is_met(entry.confirmation.as_deref())
        };
        let Some(client) = entry.slot.load_full().filter(may) else { return Lookup::Dead };
        entry.note_use(now);
        let (issued_at, expires_at) = (entry.issued_at, entry.expires_at);
        let (scopes, confirmation) = (entry.scopes.clone(), entry.confirmation.clone());
        Lookup::Live(Session { client, scopes, issued_at, expires_at, confirmation, digest })
    }

    /// What `look` says about one entry.
    pub(crate) fn peek<T>(&self, digest: &Sha256, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.shard(digest).read().get(digest).map(look)
    }

    pub(crate) fn insert(&self, digest: Sha256, entry: Entry) {
        self.shard(&digest).write().insert(digest, entry);
    }

    pub(crate) fn remove(&self, digest: &Sha256) -> Option<Entry> {
        self.shard(digest).write().remove(digest)
    }

    /// The digests of the entries that `wanted` picks.
    pub(crate) fn pick(&self, mut wanted: impl FnMut(&Sha256, &Entry) -> bool) -> Vec<Sha256> {
        let mut picked = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            picked.extend(shard.iter().filter(|(digest, entry)| wanted(digest, entry)).map(|(digest, _)| *digest));
        }
        picked
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}
