//! A [`SecretStore`] with versions and compare-and-set, such as the embedded file, as a place that rotation writes.
//!
//! Invariant: the live document is the newest version of its name; what is staged has a name of its own, with
//! [`STAGED`] at the end, so that no reader of the live name can meet it. Every change leaves its audit event.

use std::{fmt, sync::Arc};

use kh_core::{
    Clock, Entropy, SecretBytes, SecretName,
    audit::AuditEvent,
    port::{
        BoxFuture, Expected, SecretStore, SecretTarget, StoreError, StoredSecret, TargetError,
        secret_target::{LiveSecret, Replica, Right, TargetCheck, TargetTraits, check_document},
    },
    rotation::{Marker, SecretPath, VersionId, WriteToken},
};

use crate::VALUE_BYTES_MAX;

/// End of a staged document's name.
pub const STAGED: &str = ".kh-next";

/// How often a staging that lost its place to another one is tried: each loss means that another one went on.
const STAGE_TRIES: usize = 4;

/// The embedded store as a [`SecretTarget`].
pub struct EmbeddedTarget {
    store: Arc<dyn SecretStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    actor: String,
}

impl fmt::Debug for EmbeddedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedTarget").finish_non_exhaustive()
    }
}

/// The names behind a place.
struct Names {
    live: SecretName,
    staged: SecretName,
}

impl Names {
    fn of(path: &SecretPath) -> Result<Self, TargetError> {
        let name = |text: &str| {
            text.parse::<SecretName>()
                .map_err(|error| TargetError::Unusable(format!("{path} does not fit the embedded store: {error}")))
        };
        if path.as_str().ends_with(STAGED) {
            return Err(TargetError::Unusable(format!("{path} ends like a staged document's name")));
        }
        Ok(Self { live: name(path.as_str())?, staged: name(&format!("{path}{STAGED}"))? })
    }
}

impl EmbeddedTarget {
    /// The target over `store`. `actor` stands in the audit events, such as `keyholder`.
    pub fn new(store: Arc<dyn SecretStore>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, actor: &str) -> Self {
        Self { store, clock, entropy, actor: actor.to_owned() }
    }

    fn event(&self, action: &str, names: &Names, token: WriteToken) -> AuditEvent {
        AuditEvent::new(&*self.entropy, self.clock.now().wall, &self.actor, action, names.live.as_str())
            .with("write", &token)
    }

    /// The newest version of `name`, if there is one.
    async fn newest(&self, name: &SecretName) -> Result<Option<StoredSecret>, TargetError> {
        match self.store.get(name).await {
            Ok(found) => Ok(Some(found)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(reading(&error)),
        }
    }

    async fn staged_as(&self, names: &Names, token: WriteToken) -> Result<Option<StoredSecret>, TargetError> {
        Ok(self.newest(&names.staged).await?.filter(|found| writes(found, token)))
    }

    async fn stage_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        value: &SecretBytes,
    ) -> Result<(), TargetError> {
        let marker = check_document(token, value, VALUE_BYTES_MAX)?;
        let names = Names::of(path)?;
        for _ in 0..STAGE_TRIES {
            let staged = self.newest(&names.staged).await?;
            let live = self.newest(&names.live).await?;
            if let Some(known) = [&staged, &live].into_iter().flatten().find(|known| writes(known, token)) {
                let same = known.value.expose() == value.expose();
                return same.then_some(()).ok_or_else(|| TargetError::TokenReused { path: path.clone(), token });
            }
            let expected = staged.map_or(Expected::Absent, |other| Expected::Version(other.version));
            let event = self.event("secret.stage", &names, token).with("run", &marker.run);
            match self.store.put(&names.staged, value.duplicate(), expected, event).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(writing(error)),
            }
        }
        Err(TargetError::Unavailable(format!("{STAGE_TRIES} other writes were staged at {path} meanwhile")))
    }

    async fn promote_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        expect: Option<&VersionId>,
    ) -> Result<VersionId, TargetError> {
        let names = Names::of(path)?;
        let staged = self.staged_as(&names, token).await?;
        let live = self.newest(&names.live).await?;
        if let Some(live) = live.as_ref().filter(|live| writes(live, token)) {
            self.tidy(&names, token).await;
            return Ok(version(live.version));
        }
        let found = live.as_ref().map(|live| version(live.version));
        if found.as_ref() != expect {
            return Err(TargetError::Conflict { path: path.clone(), found });
        }
        let Some(staged) = staged else { return Err(TargetError::NotFound(path.clone())) };
        let expected = live.map_or(Expected::Absent, |live| Expected::Version(live.version));
        let event = self.event("secret.promote", &names, token);
        match self.store.put(&names.live, staged.value, expected, event).await {
            Ok(written) => {
                self.tidy(&names, token).await;
                Ok(version(written))
            }
            Err(StoreError::Conflict { .. }) => match self.newest(&names.live).await? {
                Some(live) if writes(&live, token) => Ok(version(live.version)),
                other => {
                    let found = other.map(|live| version(live.version));
                    Err(TargetError::Conflict { path: path.clone(), found })
                }
            },
            Err(error) => Err(writing(error)),
        }
    }

    /// Takes away the staged copy of what is live. If that fails, it stays until the next write is staged.
    async fn tidy(&self, names: &Names, token: WriteToken) {
        if let Err(error) = self.take_away(names, token).await {
            tracing::debug!(secret.name = %names.live, error = %error, "a staged copy of a live secret was left");
        }
    }

    async fn take_away(&self, names: &Names, token: WriteToken) -> Result<(), TargetError> {
        let Some(staged) = self.staged_as(names, token).await? else { return Ok(()) };
        let event = self.event("secret.unstage", names, token);
        match self.store.remove(&names.staged, Expected::Version(staged.version), event).await {
            // what is there now is another write's
            Ok(()) | Err(StoreError::NotFound(_) | StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(writing(error)),
        }
    }
}

fn version(number: u64) -> VersionId {
    VersionId(number.to_string())
}

fn writes(stored: &StoredSecret, token: WriteToken) -> bool {
    Marker::read(&stored.value).is_some_and(|marker| marker.write == token)
}

fn reading(error: &StoreError) -> TargetError {
    match error {
        StoreError::Unavailable { reason, .. } => TargetError::Unavailable(reason.clone()),
        StoreError::WrongKey => TargetError::Unauthenticated(error.to_string()),
        StoreError::NotFound(_)
        | StoreError::Conflict { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Tampered(_)
        | StoreError::Truncated(_)
        | StoreError::TooNew { .. } => TargetError::Unusable(error.to_string()),
    }
}

/// A change that failed may be durable all the same: the disk may have failed after it.
fn writing(error: StoreError) -> TargetError {
    match error {
        StoreError::Unavailable { reason, .. } => TargetError::Unknown(reason),
        StoreError::TooLarge { size, max } => TargetError::TooLarge { size, max },
        other => reading(&other),
    }
}

impl SecretTarget for EmbeddedTarget {
    fn traits(&self) -> TargetTraits {
        TargetTraits { kind: "file", compare_and_set: true, value_bytes_max: VALUE_BYTES_MAX, replicas: false }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            let found = self.newest(&Names::of(path)?.live).await?;
            let found = found.ok_or_else(|| TargetError::NotFound(path.clone()))?;
            Ok(LiveSecret { value: found.value, version: version(found.version) })
        })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move {
            match self.store.newest_version(&Names::of(path)?.live).await {
                Ok(found) => Ok(version(found)),
                Err(StoreError::NotFound(_)) => Err(TargetError::NotFound(path.clone())),
                Err(error) => Err(reading(&error)),
            }
        })
    }

    fn check<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>> {
        Box::pin(async move {
            let live = match self.live_version(path).await {
                Ok(version) => Some(version),
                Err(TargetError::NotFound(_)) => None,
                Err(error) => return Err(error),
            };
            // Who could open the file holds its key, and the file's modes are its owner's.
            Ok(TargetCheck { live, read: Right::Granted, write: Right::Granted, warnings: Vec::new() })
        })
    }

    fn stage<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        value: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(self.stage_document(path, token, value))
    }

    fn staged<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
    ) -> BoxFuture<'a, Result<Option<SecretBytes>, TargetError>> {
        Box::pin(async move { Ok(self.staged_as(&Names::of(path)?, token).await?.map(|found| found.value)) })
    }

    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(self.promote_document(path, token, expect))
    }

    fn unstage<'a>(&'a self, path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move { self.take_away(&Names::of(path)?, token).await })
    }

    fn replicas<'a>(&'a self, _path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(async move {
            let secrets = self.store.list().await.map_err(|error| reading(&error))?;
            let names = secrets.iter().filter(|secret| !secret.name.is_own_document());
            let names = names.map(|secret| secret.name.as_str());
            let places = names.filter(|name| name.starts_with(prefix) && !name.ends_with(STAGED));
            // each name is also a place but for one that ends with a slash or has two in a row
            Ok(places.filter_map(|name| name.parse().ok()).take(limit).collect())
        })
    }
}
