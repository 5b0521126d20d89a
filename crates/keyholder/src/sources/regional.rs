//! One store with those that stand in for it: read from the quickest that answers, and for a bounded time from memory
//! when none does.
//!
//! Invariants: a document from memory was confirmed by a store at most `stale_max` ago, on a clock that does not jump,
//! and only failures to reach a store let it out: a store that says that the document is gone, or that keyholder may not
//! read it, is believed; one that does not take keyholder's login lets another store answer, and no memory. A store that lags behind another one (an older generation in the document's marker) does not
//! take a newer document back. A number is used for one document alone, also when the store's configuration changed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::{
    Clock, SecretBytes, SecretReference, Sha256, StoreName,
    credential::CredentialDocument,
    port::{BoxFuture, SecretSource, SecretTarget, SourceError, StoredSecret, TargetError, secret_target::LiveSecret},
    rotation::{SecretPath, VersionId},
};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Longest that one store is waited for: another one may answer meanwhile, and a caller waits for all of it.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// A store is asked for a version at most this often per document: the broker asks each second, and the stores of the
/// clouds are paid by the call.
const VERSION_EVERY: Duration = Duration::from_secs(10);

/// A store that failed is asked last for this long.
const REST: Duration = Duration::from_secs(30);

/// A store that is not the first choice is measured this often, so that it is known when it became the quicker one.
const MEASURE_EVERY: Duration = Duration::from_mins(5);

/// Documents kept in memory of one store: as many credentials as a configuration of the largest size holds.
const DOCUMENTS_MAX: usize = 4096;

const READS: &str = "keyholder_secret_source_reads";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    store: String,
    result: &'static str,
}

/// What the stores outside have in common, with those that take their place later: counts of reads, and the numbers of
/// documents. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    counts: Family<Labels, Counter>,
    /// The number that was given last.
    numbers: Arc<AtomicU64>,
}

impl Reads {
    /// Shows the counts.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(READS, kh_core::metric::help(READS), self.counts.clone());
    }

    fn count(&self, store: &StoreName, result: &'static str) {
        self.counts.get_or_create(&Labels { store: store.to_string(), result }).inc();
    }

    /// Numbers are not used twice: not after a document was forgotten, and not after its store was replaced.
    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A store as one of several.
#[derive(Clone)]
pub(crate) struct Region {
    /// Its name in the configuration.
    pub(crate) name: StoreName,
    /// How it is reached.
    pub(crate) target: Arc<dyn SecretTarget>,
}

/// What was measured of a region.
#[derive(Clone, Copy, Default)]
struct Pace {
    /// Smoothed time of an answer.
    usual: Option<Duration>,
    measured_at: Option<Duration>,
    failed_at: Option<Duration>,
}

/// A document as it was read last.
struct Known {
    document: SecretBytes,
    digest: Sha256,
    number: u64,
    generation: Option<u64>,
    region: usize,
    version: VersionId,
    /// When a store told it or its version, on the monotonic clock.
    confirmed_at: Duration,
}

/// A store with its fallbacks.
pub(crate) struct Regional {
    regions: Vec<Region>,
    stale_max: Duration,
    clock: Arc<dyn Clock>,
    reads: Reads,
    digest: Sha256,
    paces: Mutex<Vec<Pace>>,
    known: Mutex<BTreeMap<SecretPath, Known>>,
    /// The documents as the store before this one read them last, with their numbers, until they are read here.
    followed: Mutex<BTreeMap<SecretPath, (Sha256, u64)>>,
}

impl Regional {
    /// Over `regions`, the first choice first; `digest` names the configuration that they were made from.
    pub(crate) fn new(
        regions: Vec<Region>,
        stale_max: Duration,
        clock: Arc<dyn Clock>,
        reads: Reads,
        digest: Sha256,
    ) -> Arc<Self> {
        let paces = Mutex::new(vec![Pace::default(); regions.len()]);
        let (known, followed) = (Mutex::default(), Mutex::default());
        Arc::new(Self { regions, stale_max, clock, reads, digest, paces, known, followed })
    }

    /// Takes the place of `before`: a document that did not change keeps its number, so that nobody logs in again.
    pub(super) fn follow(&self, before: &Self) {
        let mut documents = before.followed.lock().clone();
        let known = before.known.lock();
        documents.extend(known.iter().map(|(path, known)| (path.clone(), (known.digest, known.number))));
        drop(known);
        *self.followed.lock() = documents;
    }

    pub(super) fn digest(&self) -> Sha256 {
        self.digest
    }

    fn now(&self) -> Duration {
        self.clock.now().mono
    }

    /// The regions, the best first: those that answered before those that just failed, quicker before slower where the
    /// difference is a factor of two, and else as configured.
    fn order(&self) -> Vec<usize> {
        let now = self.now();
        let paces = self.paces.lock();
        // what is not measured yet counts as quick as the quickest, so that the configured order decides
        let quickest = paces.iter().filter_map(|pace| pace.usual).min().unwrap_or_default();
        let key = |(index, pace): (usize, &Pace)| {
            let rests = pace.failed_at.is_some_and(|at| now.saturating_sub(at) < REST);
            let usual = pace.usual.unwrap_or(quickest).max(Duration::from_millis(1));
            // whole powers of two, from the millisecond upward
            (rests, usual.as_millis().ilog2(), index)
        };
        let mut keyed: Vec<_> = paces.iter().enumerate().map(key).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(.., index)| index).collect()
    }

    /// One question to one region, within the time that one may take.
    async fn ask<T>(&self, index: usize, question: BoxFuture<'_, Result<T, TargetError>>) -> Result<T, TargetError> {
        let began = self.now();
        let answer = tokio::time::timeout(ATTEMPT_MAX, question).await;
        let answer =
            answer.unwrap_or_else(|_| Err(TargetError::Unavailable(format!("no answer within {ATTEMPT_MAX:?}"))));
        let now = self.now();
        if let Some(pace) = self.paces.lock().get_mut(index) {
            pace.measured_at = Some(now);
            if answer.as_ref().is_err_and(is_out_of_reach) {
                pace.failed_at = Some(now);
            } else {
                let took = now.saturating_sub(began);
                pace.usual = Some(pace.usual.map_or(took, |usual| (usual * 3 + took) / 4));
                pace.failed_at = None;
            }
        }
        answer
    }

    /// Takes a document in; none when a newer one is known from another region, which this one lags behind.
    fn take_in(&self, path: &SecretPath, index: usize, live: &LiveSecret) -> Option<StoredSecret> {
        let digest = Sha256::of(live.value.expose());
        let parsed = CredentialDocument::parse(&live.value).ok();
        let generation = parsed.and_then(|document| document.marker).map(|marker| marker.generation);
        let now = self.now();
        let mut known = self.known.lock();
        let before = known.get(path);
        let lags = before.is_some_and(|before| {
            before.region != index && before.generation > generation && self.is_fresh(before, now)
        });
        if lags {
            return None;
        }
        let followed = self.followed.lock().remove(path);
        let last = before.map(|before| (before.digest, before.number)).or(followed);
        let number = match last {
            Some((of, number)) if of == digest => number,
            _ => self.reads.next_number(),
        };
        if known.len() >= DOCUMENTS_MAX && !known.contains_key(path) {
            known.pop_first();
        }
        let (document, version) = (live.value.duplicate(), live.version.clone());
        let entry = Known { document, digest, number, generation, region: index, version, confirmed_at: now };
        known.insert(path.clone(), entry);
        Some(StoredSecret { value: live.value.duplicate(), version: number })
    }

    fn is_fresh(&self, known: &Known, now: Duration) -> bool {
        now.saturating_sub(known.confirmed_at) <= self.stale_max
    }

    /// What is in memory and may still be used.
    fn remembered(&self, path: &SecretPath) -> Option<StoredSecret> {
        let now = self.now();
        let known = self.known.lock();
        let found = known.get(path).filter(|known| self.is_fresh(known, now))?;
        Some(StoredSecret { value: found.document.duplicate(), version: found.number })
    }

    async fn read_path(&self, reference: &SecretReference) -> Result<StoredSecret, SourceError> {
        let path = reference.path();
        let (mut failed, mut lagging) = (Vec::new(), None);
        let mut is_shut_out = false;
        for index in self.order() {
            let Some(region) = self.regions.get(index) else { continue };
            match self.ask(index, region.target.live(&path)).await {
                Ok(live) => match self.take_in(&path, index, &live) {
                    Some(stored) => {
                        self.reads.count(&region.name, "ok");
                        return Ok(stored);
                    }
                    None => lagging = Some((index, live)),
                },
                Err(error) => {
                    self.reads.count(&region.name, "failed");
                    tracing::debug!(store.name = %region.name, "a secret store did not answer: {error}");
                    // the first choice knows what is gone and who may read; a copy may only lag behind
                    if index == 0 && !is_out_of_reach(&error) {
                        // a login that is not taken says nothing of the document; another store has its own logins
                        is_shut_out = matches!(error, TargetError::Unauthenticated(_));
                        if !is_shut_out {
                            self.known.lock().remove(&path);
                            return Err(failure(reference, region, error));
                        }
                    }
                    failed.push((index, error));
                }
            }
        }
        if is_shut_out {
            self.known.lock().remove(&path);
        }
        if let Some(stored) = self.remembered(&path) {
            self.tell_stale(reference);
            return Ok(stored);
        }
        if let Some((index, live)) = lagging {
            // nothing newer may be used any more
            self.known.lock().remove(&path);
            let stored = self.take_in(&path, index, &live);
            return stored.ok_or_else(|| SourceError::NoStore(reference.clone()));
        }
        failed.sort_by_key(|(index, _)| *index);
        let first = failed.into_iter().next();
        let told = first.and_then(|(index, error)| Some(failure(reference, self.regions.get(index)?, error)));
        Err(told.unwrap_or_else(|| SourceError::NoStore(reference.clone())))
    }

    fn tell_stale(&self, reference: &SecretReference) {
        if let Some(first) = self.regions.first() {
            self.reads.count(&first.name, "stale");
        }
        tracing::warn!(
            secret.name = %reference,
            "no secret store answers; the document that was read last is used for a limited time"
        );
    }

    async fn version_of(&self, reference: &SecretReference) -> Result<u64, SourceError> {
        let path = reference.path();
        let now = self.now();
        let recent = self
            .known
            .lock()
            .get(&path)
            .and_then(|known| (now.saturating_sub(known.confirmed_at) < VERSION_EVERY).then_some(known.number));
        if let Some(number) = recent {
            return Ok(number);
        }
        self.measure(&path).await;
        let order = self.order();
        for index in order {
            let Some(region) = self.regions.get(index) else { continue };
            let Ok(version) = self.ask(index, region.target.live_version(&path)).await else { continue };
            let now = self.now();
            let mut known = self.known.lock();
            if let Some(known) = known.get_mut(&path).filter(|known| known.region == index && known.version == version)
            {
                known.confirmed_at = now;
                return Ok(known.number);
            }
            break;
        }
        // Something is new, or nobody told. Versions of two stores cannot be compared: the document decides.
        Ok(self.read_path(reference).await?.version)
    }

    /// Asks one region that was not measured for long, so that the order stays true. What it answers is not used.
    async fn measure(&self, path: &SecretPath) {
        if self.regions.len() < 2 {
            return;
        }
        let now = self.now();
        let due = |pace: &Pace| pace.measured_at.is_none_or(|at| now.saturating_sub(at) >= MEASURE_EVERY);
        let index = {
            let paces = self.paces.lock();
            let due = paces.iter().enumerate().filter(|(_, pace)| due(pace));
            // the one that was measured longest ago, or never
            due.min_by_key(|(_, pace)| pace.measured_at).map(|(index, _)| index)
        };
        if let Some((index, region)) = index.and_then(|index| Some((index, self.regions.get(index)?))) {
            drop(self.ask(index, region.target.live_version(path)).await);
        }
    }
}

/// Whether nobody can tell from it what the store holds.
fn is_out_of_reach(error: &TargetError) -> bool {
    match error {
        TargetError::Unavailable(_) | TargetError::Throttled(_) | TargetError::Unknown(_) => true,
        TargetError::NotFound(_)
        | TargetError::Conflict { .. }
        | TargetError::TokenReused { .. }
        | TargetError::TooLarge { .. }
        | TargetError::Unauthenticated(_)
        | TargetError::Denied(_)
        | TargetError::Unusable(_) => false,
    }
}

fn failure(reference: &SecretReference, region: &Region, source: TargetError) -> SourceError {
    SourceError::Stored { reference: reference.clone(), store: region.name.clone(), source }
}

impl SecretSource for Regional {
    fn read<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>> {
        Box::pin(self.read_path(reference))
    }

    fn version<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(self.version_of(reference))
    }
}

#[cfg(test)]
mod tests;
