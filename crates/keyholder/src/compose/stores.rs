//! The secret stores that a configuration names, made into what reads and writes them.
//!
//! Invariants: a store of a kind that this keyholder was built without is told by the name of the feature; nothing is
//! sent to a store here; a store whose configuration and files did not change is never made a second time by a reload, so
//! that a login which cannot be repeated is not lost.

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "google")]
mod google;
#[cfg(any(feature = "aws", feature = "google"))]
mod lazy;
mod logins;
#[cfg(feature = "vault")]
mod vault;

use std::{cell::LazyCell, collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

#[cfg(any(feature = "vault", feature = "aws", feature = "azure", feature = "google"))]
use crate::config::SecretStoreDetail;

use kh_core::{
    Clock, Code, Sha256, StoreName,
    port::{BoxFuture, SecretTarget},
};
use kh_net::{Egress, SystemRoots};

pub(crate) use logins::Logins;

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
    ("google", cfg!(feature = "google")),
];

/// What a store is made from.
#[cfg_attr(
    not(any(feature = "vault", feature = "aws", feature = "azure")),
    expect(dead_code, reason = "a lean build has no kind that looks at all of it")
)]
pub(super) struct Parts<'a> {
    pub(super) name: &'a StoreName,
    pub(super) loaded: &'a Loaded,
    pub(super) egress: Arc<Egress>,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// What has to run for as long as a store is in use, so that its login stays.
type Keep = Arc<dyn Fn() -> BoxFuture<'static, Infallible> + Send + Sync>;

/// A store as its kind makes it.
struct Store {
    target: Arc<dyn SecretTarget>,
    keep: Option<Keep>,
}

impl From<Arc<dyn SecretTarget>> for Store {
    fn from(target: Arc<dyn SecretTarget>) -> Self {
        Self { target, keep: None }
    }
}

/// A store with the name of what it was made from.
#[derive(Clone)]
struct Made {
    target: Arc<dyn SecretTarget>,
    keep: Option<Keep>,
    digest: Sha256,
}

/// Every store by its name, as rotation writes it. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Targets(BTreeMap<StoreName, Made>);

impl Targets {
    /// The store of this name.
    pub(crate) fn get(&self, name: &StoreName) -> Option<&Arc<dyn SecretTarget>> {
        self.0.get(name).map(|made| &made.target)
    }
}

/// Makes every store of the configuration. Reads their files.
pub(crate) fn targets(loaded: &Loaded, clock: &Arc<dyn Clock>) -> Result<Targets, Failure> {
    targets_after(&Targets::default(), loaded, clock)
}

/// The same after an earlier configuration: what is made of the same things stays, with its login.
pub(crate) fn targets_after(before: &Targets, loaded: &Loaded, clock: &Arc<dyn Clock>) -> Result<Targets, Failure> {
    each(before, loaded, clock).map(|(name, made)| Ok((name, made?))).collect::<Result<_, _>>().map(Targets)
}

/// What is wrong with the stores, all of it.
pub(crate) fn broken_stores(loaded: &Loaded, clock: &Arc<dyn Clock>) -> Vec<(StoreName, Failure)> {
    each(&Targets::default(), loaded, clock).filter_map(|(name, made)| Some((name, made.err()?))).collect()
}

fn each(
    before: &Targets,
    loaded: &Loaded,
    clock: &Arc<dyn Clock>,
) -> impl Iterator<Item = (StoreName, Result<Made, Failure>)> {
    // the system's authorities are many, and not needed where every store stays
    let system = LazyCell::new(SystemRoots::load);
    loaded.config.secret_stores.iter().map(move |(name, store)| {
        let digest = digest(store, loaded);
        if let Some(known) = before.0.get(name).filter(|known| known.digest == digest) {
            return (name.clone(), Ok(known.clone()));
        }
        let made = one(name, store, loaded, clock, &system);
        (name.clone(), made.map(|Store { target, keep }| Made { target, keep, digest }))
    })
}

fn one(
    name: &StoreName,
    store: &SecretStoreConfig,
    loaded: &Loaded,
    clock: &Arc<dyn Clock>,
    system: &SystemRoots,
) -> Result<Store, Failure> {
    let kind = store.detail.kind();
    if !KINDS.contains(&(kind, true)) {
        return Err(Failure::new(
            Code::CONFIG_INVALID,
            format!("[secret_store.{name}] is of the kind {kind}, which this keyholder was built without"),
        )
        .hint(format!("build it with `cargo build --release --features {kind}`, or take the section out")));
    }
    let egress = Arc::new(store_egress(name, store, loaded, system)?);
    let parts = Parts { name, loaded, egress, clock };
    match &store.detail {
        #[cfg(feature = "vault")]
        SecretStoreDetail::Vault { .. } => vault::target(&store.detail, &parts),
        #[cfg(feature = "aws")]
        SecretStoreDetail::Aws { .. } => aws::target(&store.detail, &parts).map(Store::from),
        #[cfg(feature = "azure")]
        SecretStoreDetail::Azure { .. } => azure::target(&store.detail, &parts).map(Store::from),
        #[cfg(feature = "google")]
        SecretStoreDetail::Google { .. } => google::target(&store.detail, &parts).map(Store::from),
        #[cfg(not(all(feature = "vault", feature = "aws", feature = "azure", feature = "google")))]
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
        let made = std::iter::once(name).chain(&store.fallback).filter_map(|name| targets.0.get(name));
        let digest = Sha256::of(&made.flat_map(|made| made.digest.0).collect::<Vec<_>>());
        let stale_max = store.stale_max.unwrap_or(STALE_MAX);
        (name.clone(), Regional::new(regions, stale_max, Arc::clone(clock), reads.clone(), digest))
    });
    sources.collect()
}

/// Names everything that a store is made of: its section, the way out, and what stands in the files of both.
fn digest(store: &SecretStoreConfig, loaded: &Loaded) -> Sha256 {
    let network = &loaded.config.network;
    let mut all = serde_json::to_vec(&(store, network)).expect("a configuration has no map with odd keys");
    let of_proxy = network.proxy.as_ref().and_then(|proxy| proxy.proxy_auth_file.as_ref());
    for file in store.detail.files().into_iter().chain(&store.extra_ca).chain(of_proxy) {
        // one that cannot be read is told when the store is made
        let content = std::fs::read(loaded.paths.resolve(file)).map(zeroize::Zeroizing::new);
        all.extend(content.map(|content| Sha256::of(&content).0).unwrap_or_default());
    }
    Sha256::of(&all)
}

/// A secret file of a store: text that only its owner may read.
#[cfg_attr(
    not(any(feature = "vault", feature = "azure", feature = "google")),
    expect(dead_code, reason = "the other kinds have no file with a secret")
)]
pub(super) fn secret_file(parts: &Parts<'_>, path: &std::path::Path) -> Result<kh_core::SecretString, Failure> {
    read_named(&parts.loaded.paths.resolve(path))
        .map_err(|failure| failure.hint(format!("see [secret_store.{}] in keyholder.toml", parts.name)))
}

#[cfg(test)]
mod tests;
