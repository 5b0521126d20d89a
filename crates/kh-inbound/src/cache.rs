//! Verified tokens in memory.
//!
//! Invariants: the key is the SHA-256 of the whole token, for writing and for reading the same; an entry says who the
//! token speaks for and never what it may do; it is worth nothing after its end by either clock, after its issuer's
//! key set has changed, or after a revocation that it was not checked against; the bytes of all entries are bounded.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use kh_core::{Now, Sha256, UnixMillis, identity::Identity};
use quick_cache::{OptionsBuilder, Weighter, sync};

use crate::refresh::Until;

/// The SHA-256 of a token. Hashed by its first eight bytes, compared by all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TokenKey(pub(crate) Sha256);

#[cfg(test)]
impl TokenKey {
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(Sha256::of(token))
    }
}

impl Hash for TokenKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let first = self.0.0.first_chunk().expect("a digest is longer than eight bytes");
        state.write_u64(u64::from_le_bytes(*first));
    }
}

/// A digest is as good a hash as any: nothing is left to do.
#[derive(Clone, Copy, Debug, Default)]
struct Digested(u64);

impl BuildHasher for Digested {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, digest: u64) {
        self.0 ^= digest;
    }
}

/// One verified token. Times in whole seconds, rounded down: 100,000 of these are kept.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub(crate) identity: Arc<Identity>,
    until_wall_s: u32,
    until_mono_s: u32,
    /// When its issuer was asked about it, where somebody was asked.
    asked_s: u32,
    /// Of the issuer's key set.
    pub(crate) generation: u32,
    /// Of the revocations that it was checked against.
    pub(crate) epoch: u32,
    /// Which issuer, by its place.
    pub(crate) issuer: u16,
}

impl Verified {
    pub(crate) fn new(identity: Arc<Identity>, issuer: u16, generation: u32, epoch: u32, until: Until) -> Self {
        let seconds = |of: u64| u32::try_from(of).unwrap_or(u32::MAX);
        Self {
            identity,
            until_wall_s: seconds(until.wall.as_secs()),
            until_mono_s: seconds(until.mono.as_secs()),
            asked_s: 0,
            generation,
            epoch,
            issuer,
        }
    }

    /// The same, by an answer to a question of `asked`.
    pub(crate) fn asked_at(self, asked: UnixMillis) -> Self {
        Self { asked_s: u32::try_from(asked.as_secs()).unwrap_or(u32::MAX), ..self }
    }

    /// The second in which its issuer was asked.
    pub(crate) fn asked_s(&self) -> u64 {
        u64::from(self.asked_s)
    }

    /// The same, checked against the revocations of `epoch`.
    pub(crate) fn checked_at(self, epoch: u32) -> Self {
        Self { epoch, ..self }
    }

    /// Whether its end has come by either clock.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        now.wall.as_secs() >= u64::from(self.until_wall_s) || now.mono.as_secs() >= u64::from(self.until_mono_s)
    }
}

/// What an entry takes beside its identity: key and value in the table, which is at most twice as large as it is full.
const ENTRY_BYTES: usize = 2 * (size_of::<TokenKey>() + size_of::<Verified>() + 21);

/// What the allocator adds to the two or three blocks of an identity.
const ALLOCATOR_BYTES: usize = 48;

/// A typical entry, for the size of the tables.
const TYPICAL_BYTES: u64 = 512;

#[derive(Clone, Copy, Debug)]
struct Bytes;

impl Weighter<TokenKey, Verified> for Bytes {
    fn weight(&self, _key: &TokenKey, value: &Verified) -> u64 {
        (ENTRY_BYTES + ALLOCATOR_BYTES + value.identity.weight()) as u64
    }
}

/// Verified tokens.
pub(crate) struct Cache(sync::Cache<TokenKey, Verified, Bytes, Digested>);

impl Cache {
    /// At most `bytes` in all.
    pub(crate) fn new(bytes: u64) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(usize::try_from(bytes / TYPICAL_BYTES).unwrap_or(usize::MAX))
            .weight_capacity(bytes)
            .ghost_allocation(0.1)
            .build()
            .expect("the capacities are set");
        Self(sync::Cache::with_options(options, Bytes, Digested::default(), sync::DefaultLifecycle::default()))
    }

    pub(crate) fn get(&self, key: &TokenKey) -> Option<Verified> {
        self.0.get(key)
    }

    pub(crate) fn put(&self, key: TokenKey, verified: Verified) {
        self.0.insert(key, verified);
    }

    pub(crate) fn remove(&self, key: &TokenKey) {
        self.0.remove(key);
    }

    /// Takes over what `from` holds, each entry with the place that its issuer has here; without one it is left.
    pub(crate) fn take_over(&self, from: &Self, place: impl Fn(u16) -> Option<u16>) {
        for (key, verified) in from.0.iter() {
            if let Some(issuer) = place(verified.issuer) {
                self.put(key, Verified { issuer, ..verified });
            }
        }
    }

    /// Entries, and their bytes.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.0.len(), self.0.weight())
    }
}

/// Tokens that their authority does not know, for a moment.
pub(crate) struct Refused(sync::Cache<TokenKey, Duration, One, Digested>);

#[derive(Clone, Copy, Debug)]
struct One;

impl Weighter<TokenKey, Duration> for One {
    fn weight(&self, _key: &TokenKey, _value: &Duration) -> u64 {
        1
    }
}

/// Refused tokens that are remembered: a client with a dead token asks again at once, and there are not many clients.
const REFUSED_MAX: u64 = 8192;

impl Refused {
    pub(crate) fn new() -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(REFUSED_MAX as usize)
            .weight_capacity(REFUSED_MAX)
            .build()
            .expect("the capacities are set");
        Self(sync::Cache::with_options(options, One, Digested::default(), sync::DefaultLifecycle::default()))
    }

    pub(crate) fn holds(&self, key: &TokenKey, now: Now) -> bool {
        self.0.get(key).is_some_and(|until| now.mono < until)
    }

    pub(crate) fn put(&self, key: TokenKey, until: Duration) {
        self.0.insert(key, until);
    }
}

/// When an entry ends: at the token's end, at `max` from now, at the key set's end, whichever is first.
pub(crate) fn end(now: Now, token_ends: Option<UnixMillis>, max: Option<Duration>) -> Until {
    let by_token = token_ends.map_or(Until::NEVER, |end| Until::after(now, end.since(now.wall)));
    let by_max = max.map_or(Until::NEVER, |max| Until::after(now, max));
    Until { wall: by_token.wall.min(by_max.wall), mono: by_token.mono.min(by_max.mono) }
}

#[cfg(test)]
mod tests;
