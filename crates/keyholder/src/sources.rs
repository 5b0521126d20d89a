//! Documents of credentials wherever they are kept: the embedded store, and the stores that the configuration names.
//!
//! Invariants: a document goes out only as some store told it, at most `stale_max` ago; a number that stands for a
//! version is never used for two documents of one reference; what the embedded store does is passed on untouched.

mod regional;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use kh_core::{
    SecretReference, StoreName,
    port::{BoxFuture, SecretSource, SourceError, StoredSecret},
};

pub(crate) use regional::{Reads, Region, Regional};

/// The stores outside keyholder, by name.
pub(crate) type Outside = BTreeMap<StoreName, Arc<Regional>>;

/// Every source of documents.
pub(crate) struct Sources {
    embedded: Arc<dyn SecretSource>,
    outside: ArcSwap<Outside>,
}

impl Sources {
    /// The embedded store, and others.
    pub(crate) fn new(embedded: Arc<dyn SecretSource>, outside: Outside) -> Arc<Self> {
        Arc::new(Self { embedded, outside: ArcSwap::from_pointee(outside) })
    }

    /// Puts other stores in the place of those outside. One whose configuration is the same stays, with what it holds.
    pub(crate) fn replace(&self, next: Outside) {
        let before = self.outside.load();
        let kept = next.into_iter().map(|(name, store)| match before.get(&name) {
            Some(old) if old.digest() == store.digest() => (name, Arc::clone(old)),
            Some(old) => {
                store.follow(old);
                (name, store)
            }
            None => (name, store),
        });
        self.outside.store(Arc::new(kept.collect()));
    }

    fn outside(&self, reference: &SecretReference) -> Result<Option<Arc<Regional>>, SourceError> {
        let SecretReference::Stored { store, .. } = reference else { return Ok(None) };
        let found = self.outside.load().get(store).cloned();
        found.map(Some).ok_or_else(|| SourceError::NoStore(reference.clone()))
    }
}

impl SecretSource for Sources {
    fn read<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>> {
        Box::pin(async move {
            match self.outside(reference)? {
                Some(store) => store.read(reference).await,
                None => self.embedded.read(reference).await,
            }
        })
    }

    fn version<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async move {
            match self.outside(reference)? {
                Some(store) => store.version(reference).await,
                None => self.embedded.version(reference).await,
            }
        })
    }
}
