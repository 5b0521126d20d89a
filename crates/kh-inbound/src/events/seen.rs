//! Deliveries that were taken.
//!
//! Invariants: what was taken is known until its time is out of the window; there are never more than [`SEEN_MAX`], and
//! where there is no room nothing is taken.

use std::collections::{BTreeSet, HashSet};

use kh_core::{Sha256, UnixMillis};

use super::{DeliveryError, WINDOW};

/// Deliveries that are remembered: 330 a second for as long as the window is open on both sides, some 10 MB.
pub(super) const SEEN_MAX: usize = 200_000;

#[derive(Default)]
pub(super) struct Seen {
    tags: HashSet<Sha256>,
    /// By the end of their window.
    ends: BTreeSet<(UnixMillis, [u8; 32])>,
}

impl Seen {
    /// Takes a delivery of the time `at`, if it is new.
    pub(super) fn insert(&mut self, tag: Sha256, at: UnixMillis, now: UnixMillis) -> Result<(), DeliveryError> {
        while let Some((end, old)) = self.ends.first().copied().filter(|(end, _)| *end < now) {
            self.ends.remove(&(end, old));
            self.tags.remove(&Sha256(old));
        }
        if self.tags.contains(&tag) {
            return Err(DeliveryError::Replayed);
        }
        if self.tags.len() >= SEEN_MAX {
            return Err(DeliveryError::Full);
        }
        self.tags.insert(tag);
        self.ends.insert((at.plus(WINDOW), tag.0));
        Ok(())
    }

    /// As if it had never been taken.
    pub(super) fn remove(&mut self, tag: Sha256, at: UnixMillis) {
        self.tags.remove(&tag);
        self.ends.remove(&(at.plus(WINDOW), tag.0));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.tags.len(), self.ends.len());
        self.tags.len()
    }
}
