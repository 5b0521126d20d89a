//! The bounded journal of requests. Invariant: an entry holds no secret, no token, no header value and no query, only
//! the SHA-256 of a token; the counts go on when old entries are dropped.

use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// One request as the sandbox saw it.
#[derive(Clone, Debug, Serialize)]
pub struct JournalEntry {
    /// Number of the request, from 1 in the order of their ends.
    pub seq: u64,
    /// The sandbox's time at the end of the request, Unix milliseconds.
    pub time_ms: i64,
    /// `genesys` or `cxone`.
    pub platform: &'static str,
    /// HTTP method.
    pub method: String,
    /// Path as sent, with a gateway's prefix, without the query.
    pub path: String,
    /// Endpoint template, such as `/api/v2/users/{userId}`; the path itself when no endpoint matches.
    pub endpoint: String,
    /// Status of the answer; absent when the connection was dropped instead.
    pub status: Option<u16>,
    /// Calling client, when known.
    pub client: Option<String>,
    /// Lower hex SHA-256 of the bearer token, when one was sent.
    pub token_sha256: Option<String>,
    /// `ININ-Correlation-Id` of the answer.
    pub correlation_id: String,
    /// Whether the request took effect (its handler ran and did not refuse).
    pub applied: bool,
    /// Whether the fault plan changed the answer.
    pub fault: bool,
}

/// Counts of one endpoint: status (`dropped` for none) to number of requests.
pub type EndpointCounts = BTreeMap<String, u64>;

/// Different endpoints that are counted one by one; the platform has 3,180 operations, so more are made-up paths.
const COUNTED_ENDPOINTS_MAX: usize = 5_000;

/// The journal of one sandbox.
#[derive(Debug)]
pub(crate) struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<JournalEntry>,
    counts: BTreeMap<String, EndpointCounts>,
    total: u64,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner::default()) }
    }

    /// Appends an entry (its `seq` is set here) and forgets the oldest ones above `keep`.
    pub(crate) fn record(&self, mut entry: JournalEntry, keep: usize) {
        let mut inner = self.inner.lock();
        inner.total += 1;
        entry.seq = inner.total;
        let mut key = format!("{} {}", entry.method, entry.endpoint);
        if inner.counts.len() >= COUNTED_ENDPOINTS_MAX && !inner.counts.contains_key(&key) {
            "other".clone_into(&mut key);
        }
        let status = entry.status.map_or_else(|| "dropped".to_owned(), |status| status.to_string());
        *inner.counts.entry(key).or_default().entry(status).or_default() += 1;
        inner.entries.push_back(entry);
        while inner.entries.len() > keep {
            inner.entries.pop_front();
        }
    }

    /// Entries after `after` that `wanted` accepts, oldest first, at most `limit` (the newest ones).
    pub(crate) fn entries(&self, wanted: impl Fn(&JournalEntry) -> bool, limit: usize) -> Vec<JournalEntry> {
        let inner = self.inner.lock();
        let mut found: Vec<JournalEntry> =
            inner.entries.iter().rev().filter(|entry| wanted(entry)).take(limit).cloned().collect();
        found.reverse();
        found
    }

    /// Counts per endpoint and the total since the last clearing.
    pub(crate) fn counts(&self) -> (BTreeMap<String, EndpointCounts>, u64) {
        let inner = self.inner.lock();
        (inner.counts.clone(), inner.total)
    }

    /// Forgets entries and counts; numbering starts again.
    pub(crate) fn clear(&self) {
        *self.inner.lock() = Inner::default();
    }
}
