//! The proofs that were seen, for all workers: who sends one again is found out on every thread.
//!
//! Invariants: bounded in bytes; a proof is forgotten only when it is no longer good; where there is no room, nothing is
//! taken: a proof that nobody remembers could be sent again.

use std::collections::HashMap;

use kh_core::{Sha256, UnixMillis};
use kh_verify::dpop::{ProofId, Remembered, ReplayMemory};
use parking_lot::Mutex;

/// More shards than cores of any machine this runs on, so that workers seldom meet.
const SHARDS: usize = 32;

/// What one proof takes at most, in bytes: digest and time in a table that is kept between 7/16 and 7/8 full.
const PROOF_BYTES: usize = 96;

/// Usual room, in bytes: 174,000 proofs, that is 1,400 new ones per second for the two minutes that one can be good.
pub const PROOF_MEMORY_BYTES: usize = 16 * 1024 * 1024;

type Shard = HashMap<Sha256, UnixMillis>;

/// Remembers proofs until they are no longer good.
#[derive(Debug)]
pub struct ProofMemory {
    shards: Box<[Mutex<Shard>]>,
    /// Most proofs of one shard.
    room: usize,
}

impl Default for ProofMemory {
    fn default() -> Self {
        Self::new(PROOF_MEMORY_BYTES)
    }
}

impl ProofMemory {
    /// With room for this many bytes.
    pub fn new(bytes: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, room: (bytes / PROOF_BYTES / SHARDS).max(1) }
    }

    /// How many proofs it can hold.
    pub fn room(&self) -> usize {
        self.room * SHARDS
    }

    /// How many it holds; those that are no longer good count until their room is needed.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory at this moment.
    pub(super) fn at(&self, now: UnixMillis) -> At<'_> {
        At { memory: self, now }
    }
}

/// See [`ProofMemory::at`].
pub(super) struct At<'a> {
    memory: &'a ProofMemory,
    now: UnixMillis,
}

impl ReplayMemory for At<'_> {
    fn remember(&self, ProofId(id): ProofId, until: UnixMillis) -> Remembered {
        let [first, ..] = id.0;
        let shards = &self.memory.shards;
        let mut shard =
            shards.get(usize::from(first) % SHARDS).expect("the remainder is below the number of shards").lock();
        if let Some(known) = shard.get_mut(&id) {
            // the longer of the two: the same name may be signed again with a later time
            *known = (*known).max(until);
            return Remembered::Again;
        }
        if shard.len() >= self.memory.room {
            shard.retain(|_, until| *until > self.now);
            if shard.len() >= self.memory.room {
                return Remembered::NoRoom;
            }
        }
        shard.insert(id, until);
        Remembered::New
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    fn id(number: u64) -> ProofId {
        ProofId(Sha256::of(&number.to_le_bytes()))
    }

    #[test]
    fn room_is_bounded_and_given_back_when_proofs_end_and_not_before() {
        let memory = ProofMemory::new(64 * 1024);
        let (now, end) = (UnixMillis(1_000), UnixMillis(2_000));
        let mut refused = 0;
        for number in 0..10_000 {
            match memory.at(now).remember(id(number), end) {
                Remembered::New => {}
                Remembered::NoRoom => refused += 1,
                Remembered::Again => panic!("{number} is new"),
            }
        }
        assert!(memory.len() <= memory.room() && memory.room() * PROOF_BYTES <= 64 * 1024);
        assert!(refused > 10_000 - memory.room() - 1, "{refused}");
        // none was pushed out by the others
        assert_eq!(memory.at(now).remember(id(0), end), Remembered::Again);
        assert_eq!(memory.at(UnixMillis(1_999)).remember(id(20_000), end), Remembered::NoRoom);
        assert_eq!(memory.at(end).remember(id(20_000), UnixMillis(3_000)), Remembered::New);
        assert!(memory.len() < memory.room());
    }

    #[test]
    fn of_many_threads_with_one_proof_one_is_first() {
        let memory = ProofMemory::default();
        let first = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..1_000 {
                        if memory.at(UnixMillis(0)).remember(id(number), UnixMillis(10)) == Remembered::New {
                            first.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!((first.load(Ordering::Relaxed), memory.len()), (1_000, 1_000));
    }

    #[test]
    fn a_name_that_is_signed_again_is_remembered_as_long_as_the_later_one() {
        let memory = ProofMemory::new(1);
        assert_eq!(memory.at(UnixMillis(0)).remember(id(1), UnixMillis(10)), Remembered::New);
        assert_eq!(memory.at(UnixMillis(5)).remember(id(1), UnixMillis(20)), Remembered::Again);
        assert_eq!(memory.at(UnixMillis(15)).remember(id(1), UnixMillis(20)), Remembered::Again);
    }
}
