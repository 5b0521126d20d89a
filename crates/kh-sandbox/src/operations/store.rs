//! What was created in one sandbox organisation. Invariant: bounded in entities and bytes; an entity that was deleted
//! stays gone; every method is one short critical section, never held across anything else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::Value;

use super::mix::{mix, mix_text, uuid};

/// Bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Entities in one collection.
    pub per_collection: usize,
    /// Entities in the whole store (changed documents and remembered deletions count too).
    pub total: usize,
    /// Bytes of all their states, as JSON.
    pub bytes: usize,
}

impl Default for StoreLimits {
    /// Room for a load test of 10,000s of entities within some hundred MB.
    fn default() -> Self {
        Self { per_collection: 20_000, total: 100_000, bytes: 64 * 1024 * 1024 }
    }
}

/// Why the store did not take an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The collection already has an entity with that id.
    #[error("an entity with this id exists")]
    Exists,
    /// A bound was met.
    #[error("the sandbox's entity store is full")]
    Full,
}

/// The entities of one organisation. Shared by reference; locks inside.
#[derive(Debug)]
pub struct EntityStore {
    seed: u64,
    limits: StoreLimits,
    drawn: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    collections: HashMap<String, Collection>,
    deleted: HashSet<(String, String)>,
    entities: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Collection {
    numbers: HashMap<String, u64>,
    entities: BTreeMap<u64, Stored>,
    next: u64,
}

#[derive(Debug)]
struct Stored {
    state: Arc<Value>,
    bytes: usize,
}

/// What the store knows about an id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Known {
    /// It is there.
    Here(Arc<Value>),
    /// It was deleted.
    Gone,
    /// Never heard of.
    Never,
}

impl EntityStore {
    /// An empty store; `seed` decides all made-up ids and values.
    pub fn new(seed: u64, limits: StoreLimits) -> Self {
        Self { seed, limits, drawn: AtomicU64::new(0), inner: Mutex::default() }
    }

    /// How many entities, changed documents and remembered deletions it holds.
    pub fn len(&self) -> usize {
        let inner = self.inner.lock();
        inner.entities + inner.deleted.len()
    }

    /// Whether nothing was stored or deleted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The seed for everything about `path`.
    pub(crate) fn seed_of(&self, path: &str) -> u64 {
        mix_text(self.seed, path)
    }

    /// A new id: whole numbers count up from 1 in their collection, others are UUIDs.
    pub(crate) fn draw_id(&self, collection: &str, integer: bool) -> String {
        if integer {
            let inner = self.inner.lock();
            // Of one more candidate than there are entities, at least one is free.
            let Some(known) = inner.collections.get(collection) else { return "1".to_owned() };
            let mut candidates = (known.next + 1..).take(known.numbers.len() + 1).map(|id| id.to_string());
            return candidates.find(|id| !known.numbers.contains_key(id)).unwrap_or_default();
        }
        uuid(mix(self.seed_of(collection), self.drawn.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn find(&self, collection: &str, id: &str) -> Known {
        let inner = self.inner.lock();
        if let Some(state) = inner.collections.get(collection).and_then(|known| known.find(id)) {
            return Known::Here(state);
        }
        // A tuple of owned strings is the set's key; this is the rare path of an id that is not stored.
        let gone = !inner.deleted.is_empty() && inner.deleted.contains(&(collection.to_owned(), id.to_owned()));
        if gone { Known::Gone } else { Known::Never }
    }

    /// All entities of a collection in the order of their creation.
    pub(crate) fn list(&self, collection: &str) -> Vec<Arc<Value>> {
        let inner = self.inner.lock();
        let known = inner.collections.get(collection);
        known.map(|known| known.entities.values().map(|stored| Arc::clone(&stored.state)).collect()).unwrap_or_default()
    }

    /// Adds an entity.
    pub(crate) fn insert(&self, collection: &str, id: &str, state: Value) -> Result<(), StoreError> {
        let bytes = state.to_string().len();
        let mut inner = self.inner.lock();
        if inner.collections.get(collection).is_some_and(|known| known.numbers.contains_key(id)) {
            return Err(StoreError::Exists);
        }
        let count = inner.collections.get(collection).map_or(0, |known| known.numbers.len());
        inner.check_room(&self.limits, bytes)?;
        if count >= self.limits.per_collection {
            return Err(StoreError::Full);
        }
        inner.deleted.remove(&(collection.to_owned(), id.to_owned()));
        inner.add(collection, id, state, bytes);
        Ok(())
    }

    /// Changes an entity, or adds it when `change` is handed `None`. `change` must be quick and must not call back.
    pub(crate) fn upsert(
        &self,
        collection: &str,
        id: &str,
        change: impl FnOnce(Option<&Value>) -> Value,
    ) -> Result<Arc<Value>, StoreError> {
        let mut inner = self.inner.lock();
        let old = inner.collections.get(collection).and_then(|known| known.find(id));
        let state = change(old.as_deref());
        let bytes = state.to_string().len();
        inner.check_room(&self.limits, bytes)?;
        Ok(inner.add(collection, id, state, bytes))
    }

    /// Removes an entity and everything below it; whether it was there.
    pub(crate) fn remove(&self, collection: &str, id: &str) -> bool {
        let mut inner = self.inner.lock();
        let removed = inner.take(collection, id);
        let below = format!("{collection}/{id}/");
        let inner = &mut *inner;
        inner.collections.retain(|path, known| {
            let goes = path.starts_with(&below);
            if goes {
                inner.entities -= known.entities.len();
                inner.bytes -= known.entities.values().map(|stored| stored.bytes).sum::<usize>();
            }
            !goes
        });
        removed
    }

    /// Remembers that an id which was never created is gone.
    pub(crate) fn bury(&self, collection: &str, id: &str) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        inner.check_room(&self.limits, 0)?;
        inner.deleted.insert((collection.to_owned(), id.to_owned()));
        Ok(())
    }
}

impl Collection {
    fn find(&self, id: &str) -> Option<Arc<Value>> {
        let stored = self.entities.get(self.numbers.get(id)?)?;
        Some(Arc::clone(&stored.state))
    }
}

impl Inner {
    fn check_room(&self, limits: &StoreLimits, bytes: usize) -> Result<(), StoreError> {
        let full =
            self.entities + self.deleted.len() >= limits.total || self.bytes.saturating_add(bytes) > limits.bytes;
        if full { Err(StoreError::Full) } else { Ok(()) }
    }

    /// Puts a state in place of the old one, which keeps its rank in the listing.
    fn add(&mut self, collection: &str, id: &str, state: Value, bytes: usize) -> Arc<Value> {
        let known = self.collections.entry(collection.to_owned()).or_default();
        let number = known.numbers.get(id).copied().unwrap_or_else(|| {
            known.next += 1;
            known.numbers.insert(id.to_owned(), known.next);
            known.next
        });
        let state = Arc::new(state);
        match known.entities.insert(number, Stored { state: Arc::clone(&state), bytes }) {
            Some(old) => self.bytes -= old.bytes,
            None => self.entities += 1,
        }
        self.bytes += bytes;
        state
    }

    fn take(&mut self, collection: &str, id: &str) -> bool {
        let Some(known) = self.collections.get_mut(collection) else { return false };
        let Some(number) = known.numbers.remove(id) else { return false };
        if let Some(stored) = known.entities.remove(&number) {
            self.entities -= 1;
            self.bytes -= stored.bytes;
        }
        true
    }
}

#[cfg(test)]
mod tests;
