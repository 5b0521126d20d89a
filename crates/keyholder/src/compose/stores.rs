//! The secret stores that a configuration names, made into what reads and writes them.
//!
//! Invariant: a store of a kind that this keyholder was built without is told by the name of the feature; nothing is
//! sent to a store here.

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "vault")]
mod vault;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[cfg(any(feature = "vault", feature = "aws", feature = "azure"))]
use crate::config::SecretStoreDetail;

use kh_core::{Clock, Code, Sha256, StoreName, port::SecretTarget};
use kh_net::{Egress, SystemRoots};

use super::egress::{read_named, store_egress};
use crate::{
    cli::Loaded,
    config::SecretStoreConfig,
    output::Failure,
    sources::{Outside, Reads, Region, Regional},
};

/// How long a document that was read may be used while no store answers, unless the store says otherwise: longer than
/// most outages of a region's control plane take to be noticed, shorter than any rotation's overlap.
const STALE_MAX: Duration = Duration::from_mins(15);

/// The kinds, with whether this keyholder was built with them.
const KINDS: [(&str, bool); 4] = [
    ("vault", cfg!(feature = "vault")),
    ("aws", cfg!(feature = "aws")),
    ("azure", cfg!(feature = "azure")),
    ("google", false),
];

/// What a store is made from.
#[cfg_attr(
    not(any(feature = "vault", feature = "aws", feature = "azure")),
    expect(dead_code, reason = "a lean build has no kind that looks at it")
)]
pub(super) struct Parts<'a> {
    pub(super) name: &'a StoreName,
    pub(super) loaded: &'a Loaded,
    pub(super) egress: Arc<Egress>,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// Every store by its name, as rotation writes it.
pub(crate) type Targets = BTreeMap<StoreName, Arc<dyn SecretTarget>>;

/// Makes every store of the configuration. Reads their files.
pub(crate) fn targets(loaded: &Loaded, clock: &Arc<dyn Clock>) -> Result<Targets, Failure> {
    each(loaded, clock).map(|(name, target)| Ok((name, target?))).collect()
}

/// What is wrong with the stores, all of it.
pub(crate) fn broken_stores(loaded: &Loaded, clock: &Arc<dyn Clock>) -> Vec<(StoreName, Failure)> {
    each(loaded, clock).filter_map(|(name, target)| Some((name, target.err()?))).collect()
}

fn each(
    loaded: &Loaded,
    clock: &Arc<dyn Clock>,
) -> impl Iterator<Item = (StoreName, Result<Arc<dyn SecretTarget>, Failure>)> {
    let system = SystemRoots::load();
    let stores = &loaded.config.secret_stores;
    stores.iter().map(move |(name, store)| (name.clone(), one(name, store, loaded, clock, &system)))
}

fn one(
    name: &StoreName,
    store: &SecretStoreConfig,
    loaded: &Loaded,
    clock: &Arc<dyn Clock>,
    system: &SystemRoots,
) -> Result<Arc<dyn SecretTarget>, Failure> {
    let kind = store.detail.kind();
    if !KINDS.contains(&(kind, true)) {
        return Err(Failure::new(
            Code::CONFIG_INVALID,
            format!("[secret_store.{name}] is of the kind {kind}, which this keyholder was built without"),
        )
        .hint(if kind == "google" {
            "Google Secret Manager is not there yet; take the section out".to_owned()
        } else {
            format!("build it with `cargo build --release --features {kind}`, or take the section out")
        }));
    }
    let egress = Arc::new(store_egress(name, store, loaded, system)?);
    let parts = Parts { name, loaded, egress, clock };
    match &store.detail {
        #[cfg(feature = "vault")]
        SecretStoreDetail::Vault { .. } => vault::target(&store.detail, &parts),
        #[cfg(feature = "aws")]
        SecretStoreDetail::Aws { .. } => aws::target(&store.detail, &parts),
        #[cfg(feature = "azure")]
        SecretStoreDetail::Azure { .. } => azure::target(&store.detail, &parts),
        _ => {
            drop(parts);
            Err(Failure::bug("a kind without its feature was let through"))
        }
    }
}

/// The stores as sources: each with its fallbacks.
pub(crate) fn outside(loaded: &Loaded, targets: &Targets, clock: &Arc<dyn Clock>, reads: &Reads) -> Outside {
    let stores = &loaded.config.secret_stores;
    let region = |name: &StoreName| {
        let target = Arc::clone(targets.get(name)?);
        Some(Region { name: name.clone(), target })
    };
    let sources = stores.iter().map(|(name, store)| {
        let regions: Vec<_> = std::iter::once(name).chain(&store.fallback).filter_map(region).collect();
        let digest = digest(std::iter::once(name).chain(&store.fallback).filter_map(|name| stores.get(name)), loaded);
        let stale_max = store.stale_max.unwrap_or(STALE_MAX);
        (name.clone(), Regional::new(regions, stale_max, Arc::clone(clock), reads.clone(), digest))
    });
    sources.collect()
}

/// Names everything that a store and its fallbacks are made of: their sections, and what stands in their files.
fn digest<'a>(stores: impl Iterator<Item = &'a SecretStoreConfig>, loaded: &Loaded) -> Sha256 {
    let mut all = Vec::new();
    for store in stores {
        all.extend(serde_json::to_vec(store).expect("a configuration has no map with odd keys"));
        for file in store.detail.files().into_iter().chain(&store.extra_ca) {
            // one that cannot be read was told when the store was made
            let content = std::fs::read(loaded.paths.resolve(file)).map(zeroize::Zeroizing::new);
            all.extend(content.map(|content| Sha256::of(&content).0).unwrap_or_default());
        }
    }
    Sha256::of(&all)
}

/// A secret file of a store: one line of text that only its owner may read.
#[cfg_attr(
    not(any(feature = "vault", feature = "azure")),
    expect(dead_code, reason = "the other kinds have no file with a secret")
)]
pub(super) fn secret_line(parts: &Parts<'_>, path: &std::path::Path) -> Result<kh_core::SecretString, Failure> {
    read_named(&parts.loaded.paths.resolve(path))
        .map_err(|failure| failure.hint(format!("see [secret_store.{}] in keyholder.toml", parts.name)))
}
