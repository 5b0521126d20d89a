//! What everything that asks one platform shares: its limit, and one look at the organisation for many credentials.
//!
//! Invariant: a look is used for what people read before a rotation, never for a decision that takes a secret away; it
//! is at most [`Shared::of_platform`]'s span old, and a failed one is not kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kh_core::{
    port::{
        ManageError,
        secret_management::{ManagedSecret, Rotator},
    },
    rotation::ManagedId,
};
use tokio::sync::Mutex;

use super::{
    client_document::{self, Client},
    pace::Pace,
};

/// How long a look at the organisation serves the checks of others: as long as a plan of a thousand credentials takes.
const LOOK_FRESH: Duration = Duration::from_secs(5);

/// The clients of an organisation, and the rotator that looked.
pub(super) struct Organisation {
    pub(super) clients: BTreeMap<ManagedId, Client>,
    /// The clients of each pair, by their first one.
    pub(super) pairs: BTreeMap<ManagedId, Vec<ManagedId>>,
    pub(super) me: Client,
    /// What the rotator's roles grant.
    pub(super) grants: BTreeSet<String>,
    /// Its roles that could not be read.
    pub(super) unread: usize,
}

impl Organisation {
    pub(super) fn new(clients: Vec<Client>, me: Client, grants: BTreeSet<String>, unread: usize) -> Self {
        let mut pairs: BTreeMap<ManagedId, Vec<ManagedId>> = BTreeMap::new();
        let clients: BTreeMap<_, _> =
            clients.into_iter().filter_map(|client| Some((client_document::id(&client)?, client))).collect();
        for (id, client) in &clients {
            if let Some(root) = client_document::root(client) {
                pairs.entry(root).or_default().push(id.clone());
            }
        }
        Self { clients, pairs, me, grants, unread }
    }

    /// The other clients of the pair of `client`.
    pub(super) fn twins(&self, id: &ManagedId, client: &Client) -> Vec<&ManagedId> {
        let root = client_document::root(client).unwrap_or_else(|| id.clone());
        let first = self.clients.get_key_value(&root).map(|(root, _)| root);
        let later = self.pairs.get(&root).into_iter().flatten();
        first.into_iter().chain(later).filter(|other| *other != id).collect()
    }
}

/// One look and when it was made, monotonic time.
type Kept<T> = Mutex<Option<(Duration, Arc<T>)>>;

fn none<T>() -> [Kept<T>; 2] {
    [Mutex::new(None), Mutex::new(None)]
}

/// What the managements of one platform share.
pub struct Shared {
    pub(super) pace: Pace,
    fresh: Duration,
    organisation: [Kept<Organisation>; 2],
    keys: [Kept<Vec<ManagedSecret>>; 2],
}

impl Default for Shared {
    /// For one management alone: every look is made anew.
    fn default() -> Self {
        Self { pace: Pace::default(), fresh: Duration::ZERO, organisation: none(), keys: none() }
    }
}

impl Shared {
    /// For all managements of one platform: they keep its limit together, and a look of one serves the checks of all
    /// for some seconds.
    pub fn of_platform() -> Arc<Self> {
        Arc::new(Self { fresh: LOOK_FRESH, ..Self::default() })
    }

    /// Whether looks are kept at all.
    pub(super) fn keeps_looks(&self) -> bool {
        !self.fresh.is_zero()
    }

    pub(super) async fn organisation<F>(
        &self,
        by: Rotator,
        now: impl Fn() -> Duration + Send,
        look: F,
    ) -> Result<Arc<Organisation>, ManageError>
    where
        F: Future<Output = Result<Organisation, ManageError>> + Send,
    {
        let [first, second] = &self.organisation;
        kept(if by == Rotator::First { first } else { second }, self.fresh, now, look).await
    }

    pub(super) async fn keys<F>(
        &self,
        by: Rotator,
        now: impl Fn() -> Duration + Send,
        look: F,
    ) -> Result<Arc<Vec<ManagedSecret>>, ManageError>
    where
        F: Future<Output = Result<Vec<ManagedSecret>, ManageError>> + Send,
    {
        let [first, second] = &self.keys;
        kept(if by == Rotator::First { first } else { second }, self.fresh, now, look).await
    }
}

/// The look that is kept, or a new one; who comes meanwhile waits for it.
async fn kept<T, F>(
    place: &Kept<T>,
    fresh: Duration,
    now: impl Fn() -> Duration,
    look: F,
) -> Result<Arc<T>, ManageError>
where
    F: Future<Output = Result<T, ManageError>>,
{
    let mut known = place.lock().await;
    if let Some((at, seen)) = &*known
        && now().saturating_sub(*at) < fresh
    {
        return Ok(Arc::clone(seen));
    }
    let at = now();
    let seen = Arc::new(look.await?);
    *known = Some((at, Arc::clone(&seen)));
    Ok(seen)
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("pace", &self.pace).field("fresh", &self.fresh).finish_non_exhaustive()
    }
}
