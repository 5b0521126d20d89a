//! Bounds on wrong logins: who guesses has to wait, and nobody can make the real caller wait for long.
//!
//! Three counts of wrong logins, the narrowest first:
//! - **client from an address**: after [`PAIR_FREE`] wrong ones in a row that address waits before it may try that client
//!   again, [`PAIR_FIRST`] and twice as long after each further one, up to [`PAIR_MAX`]; up to [`PAIR_TRUSTED_MAX`] where
//!   the right secret was shown from there within [`TRUST`].
//! - **address**: after [`ADDRESS_FREE`] wrong ones of any client it waits, up to [`ADDRESS_MAX`]: one machine that tries
//!   many ids. An address from which the client logged in within [`TRUST`] is not held up for that client.
//! - **client**: after [`CLIENT_FREE`] wrong ones within [`CLIENT_WINDOW`] from anywhere, addresses that it never logged
//!   in from may try one login in [`CLIENT_PACE`] between them. Addresses that it logged in from are not concerned.
//!
//! So whoever attacks from other addresses never stops a caller that logged in lately; a new address of the real caller
//! competes with the attacker for one try a second while the attack lasts. Whether a client exists is not looked at: a guess of an unknown id is counted and answered like any other.
//!
//! Invariants: pure in `now`; memory is bounded by [`PLACES`] whatever is sent; a login that has to wait is refused before
//! its secret is looked at.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    time::Duration,
};

use kh_core::Now;

/// Wrong logins of one client from one address that cost no wait: a person who mistypes, an application in a loop.
const PAIR_FREE: u32 = 5;
/// The first wait.
const PAIR_FIRST: Duration = Duration::from_secs(1);
/// The longest wait of a client's address.
const PAIR_MAX: Duration = Duration::from_mins(5);
/// The same where the right secret was shown lately: a shared address, or a rotation that went wrong.
const PAIR_TRUSTED_MAX: Duration = Duration::from_secs(10);
/// For how long an address counts as the client's after a right login.
const TRUST: Duration = Duration::from_hours(24);
/// Wrong logins of one address that cost no wait.
const ADDRESS_FREE: u32 = 50;
/// The longest wait of an address.
const ADDRESS_MAX: Duration = Duration::from_mins(5);
/// Wrong logins of one client from anywhere within [`CLIENT_WINDOW`] that change nothing.
const CLIENT_FREE: u32 = 100;
const CLIENT_WINDOW: Duration = Duration::from_mins(5);
/// After those, one login in this time from addresses that the client never logged in from.
const CLIENT_PACE: Duration = Duration::from_secs(1);
/// Counts are forgotten after this long without a wrong login.
const FORGET: Duration = Duration::from_mins(15);
/// Remembered counts and trusted addresses, each: some 1.5 MB in all.
const PLACES: usize = 16_384;
/// Places that one key may have: when all are taken the one that matters least makes room.
const WAYS: usize = 8;

/// What a login has to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// Wrong logins of this client from this address.
    Pair,
    /// Wrong logins from this address.
    Address,
    /// Wrong logins of this client from anywhere.
    Client,
}

impl Bound {
    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "client_address",
            Self::Address => "address",
            Self::Client => "client",
        }
    }
}

/// A login that may not be tried yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Why.
    pub bound: Bound,
    /// How long, at least one millisecond.
    pub left: Duration,
}

#[derive(Clone, Copy)]
struct Count {
    wrong: u32,
    /// Monotonic time of the last wrong one, or for a client of the window's start.
    at: Duration,
    /// Before this nothing is tried.
    until: Duration,
}

/// What is remembered under keyed hashes: fixed memory, and a fixed number of steps for each look-up and change.
struct Places<T>(Vec<[Option<(u64, T)>; WAYS]>);

impl<T: Copy> Places<T> {
    fn new() -> Self {
        Self(vec![[None; WAYS]; PLACES / WAYS])
    }

    fn ways(key: u64) -> usize {
        usize::try_from(key % (PLACES / WAYS) as u64).unwrap_or(0)
    }

    fn get(&self, key: u64) -> Option<&T> {
        let ways = self.0.get(Self::ways(key))?;
        ways.iter().flatten().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let at = Self::ways(key);
        let mut ways = self.0.get_mut(at)?.iter_mut().flatten();
        ways.find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Puts a value in its place, an empty one, or that of the value with the lowest `rank`.
    fn put<R: Ord>(&mut self, key: u64, value: T, rank: impl Fn(&T) -> R) {
        let at = Self::ways(key);
        let Some(ways) = self.0.get_mut(at) else { return };
        let known = ways.iter().position(|way| way.is_some_and(|(known, _)| known == key));
        let least = || (0..WAYS).min_by_key(|way| ways.get(*way).copied().flatten().map(|(_, value)| rank(&value)));
        if let Some(way) = known.or_else(least).and_then(|way| ways.get_mut(way)) {
            *way = Some((key, value));
        }
    }

    fn remove(&mut self, key: u64) {
        let at = Self::ways(key);
        let ways = self.0.get_mut(at).into_iter().flatten();
        for way in ways.filter(|way| way.is_some_and(|(known, _)| known == key)) {
            *way = None;
        }
    }
}

/// The counts. One for all workers, behind a lock that is held for less than a microsecond.
pub(crate) struct Throttle {
    hashing: RandomState,
    counts: Places<Count>,
    /// When the right secret was shown.
    trusted: Places<Duration>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { hashing: RandomState::new(), counts: Places::new(), trusted: Places::new() }
    }
}

/// Where a login comes from; a whole IPv6 network of 64 bits counts as one address, because one machine has it all.
fn place_of(address: Option<IpAddr>) -> [u8; 17] {
    let mut place = [0; 17];
    match address.map(|address| address.to_canonical()) {
        None => {}
        Some(IpAddr::V4(v4)) => {
            place[0] = 4;
            place[1..5].copy_from_slice(&v4.octets());
        }
        Some(IpAddr::V6(v6)) => {
            place[0] = 6;
            place[1..9].copy_from_slice(v6.octets().first_chunk::<8>().expect("an IPv6 address has 16 bytes"));
        }
    }
    place
}

struct Keys {
    pair: u64,
    address: u64,
    client: u64,
}

impl Throttle {
    /// The keys are hashed with random numbers of this process: nobody can choose ids that meet another's count.
    fn keys(&self, client: &str, address: Option<IpAddr>) -> Keys {
        let place = place_of(address);
        let hash = |kind: u8, client: &str, place: Option<[u8; 17]>| self.hashing.hash_one((kind, client, place));
        Keys { pair: hash(0, client, Some(place)), address: hash(1, "", Some(place)), client: hash(2, client, None) }
    }

    fn count(&self, key: u64, now: Now) -> Option<&Count> {
        self.counts.get(key).filter(|count| now.mono.saturating_sub(count.at) < FORGET || now.mono < count.until)
    }

    fn is_trusted(&self, keys: &Keys, now: Now) -> bool {
        self.trusted.get(keys.pair).is_some_and(|since| now.mono.saturating_sub(*since) < TRUST)
    }

    /// Whether a login may be tried at `now`. To be followed by [`Throttle::wrong`] or [`Throttle::right`].
    pub(crate) fn admit(&mut self, client: &str, address: Option<IpAddr>, now: Now) -> Result<(), Wait> {
        let keys = self.keys(client, address);
        let wait = |key, bound| {
            let until = self.count(key, now).map_or(Duration::ZERO, |count| count.until);
            let left = until.saturating_sub(now.mono);
            if left.is_zero() { Ok(()) } else { Err(Wait { bound, left }) }
        };
        wait(keys.pair, Bound::Pair)?;
        if self.is_trusted(&keys, now) {
            return Ok(());
        }
        wait(keys.address, Bound::Address)?;
        wait(keys.client, Bound::Client)?;
        if let Some(count) = self.counts.get_mut(keys.client)
            && is_paced(count, now)
        {
            // this one may; the next has to wait, whoever sends it
            count.until = now.mono.saturating_add(CLIENT_PACE);
        }
        Ok(())
    }

    /// Notes a wrong login; answers what begins to wait because of it.
    pub(crate) fn wrong(&mut self, client: &str, address: Option<IpAddr>, now: Now) -> Option<Wait> {
        let keys = self.keys(client, address);
        let longest = if self.is_trusted(&keys, now) { PAIR_TRUSTED_MAX } else { PAIR_MAX };
        let pair = self.add(keys.pair, now, |count| back_off(count.wrong, PAIR_FREE, longest));
        let address = self.add(keys.address, now, |count| back_off(count.wrong, ADDRESS_FREE, ADDRESS_MAX));
        let paced = self.note_client(keys.client, now);
        let begun = |left: Duration, bound| (!left.is_zero()).then_some(Wait { bound, left });
        let paced = paced.then_some(Wait { bound: Bound::Client, left: CLIENT_PACE });
        begun(pair, Bound::Pair).or_else(|| begun(address, Bound::Address)).or(paced)
    }

    /// Notes a right login.
    pub(crate) fn right(&mut self, client: &str, address: Option<IpAddr>, now: Now) {
        let keys = self.keys(client, address);
        self.counts.remove(keys.pair);
        self.trusted.put(keys.pair, now.mono, |since| *since);
    }

    fn add(&mut self, key: u64, now: Now, wait: impl Fn(&Count) -> Duration) -> Duration {
        let fresh = Count { wrong: 0, at: now.mono, until: Duration::ZERO };
        let mut count = self.count(key, now).copied().unwrap_or(fresh);
        count.wrong = count.wrong.saturating_add(1);
        count.at = now.mono;
        let left = wait(&count);
        count.until = count.until.max(now.mono.saturating_add(left));
        self.keep(key, count);
        left
    }

    /// Counts within a window that starts anew; answers whether this one began the pacing.
    fn note_client(&mut self, key: u64, now: Now) -> bool {
        let fresh = Count { wrong: 0, at: now.mono, until: Duration::ZERO };
        let old = self.counts.get(key).copied();
        let mut count = old.filter(|count| now.mono.saturating_sub(count.at) < CLIENT_WINDOW).unwrap_or(fresh);
        count.wrong = count.wrong.saturating_add(1);
        self.keep(key, count);
        count.wrong == CLIENT_FREE
    }

    /// Whose wait ends last keeps it, whatever else comes.
    fn keep(&mut self, key: u64, count: Count) {
        self.counts.put(key, count, |one| (one.until, one.at));
    }
}

fn is_paced(count: &Count, now: Now) -> bool {
    count.wrong >= CLIENT_FREE && now.mono.saturating_sub(count.at) < CLIENT_WINDOW
}

/// Nothing for the free ones, then 1, 2, 4, ... seconds.
fn back_off(wrong: u32, free: u32, longest: Duration) -> Duration {
    let Some(over) = wrong.checked_sub(free).filter(|over| *over > 0) else { return Duration::ZERO };
    let doubled = PAIR_FIRST.checked_mul(1_u32.checked_shl(over - 1).unwrap_or(u32::MAX)).unwrap_or(longest);
    doubled.min(longest)
}

#[cfg(test)]
mod tests;
