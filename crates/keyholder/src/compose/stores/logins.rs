//! The logins that have to be kept while keyholder serves.
//!
//! Invariant: one task at most keeps a store's login; it ends when the configuration names another store in its place,
//! or at the end of keyholder.

use std::collections::BTreeMap;

use kh_core::{Sha256, StoreName};
use parking_lot::Mutex;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::Targets;

/// Keeps logins.
pub(crate) struct Logins {
    tasks: TaskTracker,
    stop: CancellationToken,
    kept: Mutex<BTreeMap<StoreName, (Sha256, DropGuard)>>,
}

impl Logins {
    /// Keeps none yet. Its tasks are among `tasks` and end with `stop`.
    pub(crate) fn new(tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        Self { tasks: tasks.clone(), stop: stop.clone(), kept: Mutex::default() }
    }

    /// Keeps the logins of these stores from now on, and no others. Must run on a runtime.
    pub(crate) fn keep(&self, targets: &Targets) {
        let mut kept = self.kept.lock();
        kept.retain(|name, (digest, _)| targets.0.get(name).is_some_and(|made| made.digest == *digest));
        for (name, made) in &targets.0 {
            let Some(keep) = made.keep.as_ref().filter(|_| !kept.contains_key(name)) else { continue };
            let (keeping, stop) = (keep(), self.stop.child_token());
            let ended = stop.clone();
            drop(self.tasks.spawn(async move { ended.run_until_cancelled(keeping).await.is_none() }));
            kept.insert(name.clone(), (made.digest, stop.drop_guard()));
        }
    }
}
