//! The port over one project.
//!
//! Invariant: the alias moves only by the etag of the very answer in which it was seen to name the planned version.

use std::collections::HashMap;

use kh_core::{
    SecretBytes,
    port::{
        BoxFuture, SecretTarget, TargetError,
        secret_target::{LiveSecret, Replica, Right, TargetCheck, TargetTraits, check_document},
    },
    rotation::{Marker, SecretPath, VersionId, WriteToken},
};
use parking_lot::Mutex;

use crate::{
    failure::Failure,
    manager::Manager,
    settings::{Settings, SetupError},
};

/// Largest document in bytes (cloud.google.com/secret-manager/quotas).
pub const VALUE_BYTES_MAX: usize = 65_536;

/// Most enabled versions looked at for a staged document, newest first.
const SEARCH_MAX: usize = 50;

/// How often a promotion that lost the etag looks again.
const LOOKS_MAX: usize = 3;

/// Most staged versions remembered; the memory is only a short cut to a strongly consistent read.
const REMEMBERED_MAX: usize = 10_000;

/// What a rotation needs at a secret, beside reading.
const WRITES: &[&str] = &[
    "secretmanager.secrets.update",
    "secretmanager.versions.add",
    "secretmanager.versions.disable",
    "secretmanager.versions.list",
];
const READ: &str = "secretmanager.versions.access";

/// Google Secret Manager as a [`SecretTarget`]. Needs the role `roles/secretmanager.admin` on its secrets, or a custom
/// one with `secrets.get`, `secrets.list`, `secrets.update`, `versions.access`, `versions.add`, `versions.disable`,
/// `versions.enable`, `versions.get`, `versions.list`, and `secrets.create` where secrets do not exist yet.
#[derive(Debug)]
pub struct SecretManagerTarget {
    manager: Manager,
    /// The number of each version that this process staged.
    staged: Mutex<HashMap<(String, WriteToken), i64>>,
}

impl SecretManagerTarget {
    /// The project of `settings`. Asks nothing yet but, for some identities, the metadata server.
    pub async fn new(settings: Settings) -> Result<Self, SetupError> {
        Ok(Self { manager: Manager::new(settings).await?, staged: Mutex::default() })
    }

    /// The number that the alias names, and the version as consumers see it.
    async fn read(&self, path: &SecretPath) -> Result<(i64, SecretBytes), TargetError> {
        let id = id_of(path)?;
        match self.manager.access(id, &self.manager.alias).await {
            // what is answered for an alias that nobody set is not documented
            Err(Failure::Invalid(_)) if !self.has_alias(path, id).await? => Err(TargetError::NotFound(path.clone())),
            Err(Failure::Precondition) => Err(self.disabled(id)),
            other => other.map_err(|failure| explained(failure, path)),
        }
    }

    fn disabled(&self, id: &str) -> TargetError {
        TargetError::Denied(format!("the version that {} of {id} names is disabled or destroyed", self.manager.alias))
    }

    async fn has_alias(&self, path: &SecretPath, id: &str) -> Result<bool, TargetError> {
        let found = self.manager.secret(id).await.map_err(|failure| explained(failure, path))?;
        Ok(found.is_some_and(|held| held.aliases.contains_key(&self.manager.alias)))
    }

    /// A version's document if it can be read and is this write's.
    async fn of_write(
        &self,
        path: &SecretPath,
        number: i64,
        token: WriteToken,
    ) -> Result<Option<SecretBytes>, TargetError> {
        match self.manager.access(id_of(path)?, &number.to_string()).await {
            Ok((_, document)) => {
                Ok(Marker::read(&document).is_some_and(|marker| marker.write == token).then_some(document))
            }
            Err(Failure::Missing | Failure::Precondition) => Ok(None),
            Err(failure) => Err(explained(failure, path)),
        }
    }

    /// The staged version of a write: enabled, and none of `passed`, such as the live one.
    async fn find(
        &self,
        path: &SecretPath,
        token: WriteToken,
        passed: &[i64],
    ) -> Result<Option<(i64, SecretBytes)>, TargetError> {
        let id = id_of(path)?;
        let remembered = self.staged.lock().get(&(id.to_owned(), token)).copied();
        if let Some(number) = remembered.filter(|number| !passed.contains(number))
            && let Some(document) = self.of_write(path, number, token).await?
        {
            return Ok(Some((number, document)));
        }
        let numbers = self.manager.enabled(id).await.map_err(|failure| explained(failure, path))?;
        for number in numbers.into_iter().filter(|number| !passed.contains(number)).take(SEARCH_MAX) {
            if let Some(document) = self.of_write(path, number, token).await? {
                self.remember(id, token, number);
                return Ok(Some((number, document)));
            }
        }
        Ok(None)
    }

    fn remember(&self, id: &str, token: WriteToken, number: i64) {
        let mut staged = self.staged.lock();
        if staged.len() >= REMEMBERED_MAX {
            staged.clear();
        }
        staged.insert((id.to_owned(), token), number);
    }

    async fn stage_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        value: &SecretBytes,
    ) -> Result<(), TargetError> {
        let id = id_of(path)?;
        check_document(token, value, VALUE_BYTES_MAX)?;
        let known = |found: &SecretBytes| {
            if found == value { Ok(()) } else { Err(TargetError::TokenReused { path: path.clone(), token }) }
        };
        let held = self.manager.secret(id).await.map_err(|failure| explained(failure, path))?;
        match held {
            None => match self.manager.create(id).await {
                Ok(()) | Err(Failure::Exists) => {}
                Err(failure) => return Err(explained(failure, path)),
            },
            Some(held) => {
                let live = held.aliases.get(&self.manager.alias).copied();
                if let Some(live) = live
                    && let Some(document) = self.of_write(path, live, token).await?
                {
                    return known(&document);
                }
                if let Some((_, document)) = self.find(path, token, live.as_slice()).await? {
                    return known(&document);
                }
                if live.is_none() && !held.ours {
                    self.read_by_alias_alone(path, id).await?;
                }
            }
        }
        let number = self.manager.add(id, value).await.map_err(|failure| explained(failure, path))?;
        self.remember(id, token, number);
        Ok(())
    }

    /// Somebody else's secret without the alias: who reads it reads `latest`, and would read what is staged.
    async fn read_by_alias_alone(&self, path: &SecretPath, id: &str) -> Result<(), TargetError> {
        let numbers = self.manager.enabled(id).await.map_err(|failure| explained(failure, path))?;
        let Some(newest) = numbers.first() else { return Ok(()) };
        let alias = &self.manager.alias;
        Err(TargetError::Unusable(format!(
            "{id} has versions and no alias {alias}, so its readers would read what is staged: let them read \
             versions/{alias} after `gcloud secrets update {id} --update-version-aliases={alias}={newest}`"
        )))
    }

    async fn promote_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        expect: Option<&VersionId>,
    ) -> Result<VersionId, TargetError> {
        let id = id_of(path)?;
        let conflict = |found: Option<VersionId>| TargetError::Conflict { path: path.clone(), found };
        for _ in 0..LOOKS_MAX {
            let Some(held) = self.manager.secret(id).await.map_err(|failure| explained(failure, path))? else {
                return Err(if expect.is_none() { TargetError::NotFound(path.clone()) } else { conflict(None) });
            };
            let live = held.aliases.get(&self.manager.alias).copied();
            if let Some(number) = live
                && self.of_write(path, number, token).await?.is_some()
            {
                return Ok(version(number));
            }
            let found = live.map(version);
            if found.as_ref() != expect {
                return Err(conflict(found));
            }
            let Some((number, _)) = self.find(path, token, live.as_slice()).await? else {
                return Err(TargetError::NotFound(path.clone()));
            };
            match self.manager.point(id, held, number).await {
                Ok(()) => return Ok(version(number)),
                // somebody changed the secret since it was seen, or it was seen late
                Err(Failure::Precondition) => {}
                Err(failure) => return Err(explained(failure, path)),
            }
        }
        Err(TargetError::Unavailable(format!("{id} keeps changing, or is not seen as it is yet")))
    }

    /// Disables each version of the write once: one that was just disabled may be listed and read as it was for hours
    /// (cloud.google.com/secret-manager/docs, "Data consistency").
    async fn take_away(&self, path: &SecretPath, token: WriteToken) -> Result<(), TargetError> {
        let id = id_of(path)?;
        let mut disabled: Vec<i64> = Vec::new();
        while disabled.len() < SEARCH_MAX {
            let live = self.live_by_secret(path, id).await?;
            let passed: Vec<i64> = disabled.iter().copied().chain(live).collect();
            let Some((number, _)) = self.find(path, token, &passed).await? else { return Ok(()) };
            match self.manager.disable(id, number).await {
                Ok(()) | Err(Failure::Missing | Failure::Precondition) => {}
                Err(failure) => return Err(explained(failure, path)),
            }
            disabled.push(number);
            self.staged.lock().remove(&(id.to_owned(), token));
            // The one way in which taking away could hurt: it became live between the look and this.
            if self.live_by_secret(path, id).await? == Some(number) {
                self.manager.enable(id, number).await.map_err(|failure| explained(failure, path))?;
                return Ok(());
            }
        }
        Err(TargetError::Unavailable(format!("{id} has more versions of one write than are taken away at once")))
    }

    async fn live_by_secret(&self, path: &SecretPath, id: &str) -> Result<Option<i64>, TargetError> {
        let held = self.manager.secret(id).await.map_err(|failure| explained(failure, path))?;
        Ok(held.and_then(|held| held.aliases.get(&self.manager.alias).copied()))
    }

    async fn look(&self, path: &SecretPath) -> Result<TargetCheck, TargetError> {
        let id = id_of(path)?;
        let unknown = TargetCheck { live: None, read: Right::Unknown, write: Right::Unknown, warnings: Vec::new() };
        let held = match self.manager.secret(id).await {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(unknown),
            Err(Failure::Other(TargetError::Denied(why))) => {
                let warnings = vec![format!("the secret's aliases cannot be read: {why}")];
                return Ok(TargetCheck { write: Right::Denied, warnings, ..unknown });
            }
            Err(failure) => return Err(explained(failure, path)),
        };
        let asked = [&[READ], WRITES].concat();
        let granted = self.manager.granted(id, &asked).await.map_err(|failure| explained(failure, path))?;
        let has = |name: &str| granted.iter().any(|have| have == name);
        let right = |names: &[&str]| if names.iter().all(|name| has(name)) { Right::Granted } else { Right::Denied };
        let live = held.aliases.get(&self.manager.alias).copied();
        let mut warnings: Vec<String> =
            asked.iter().filter(|name| !has(name)).map(|name| format!("the permission {name} is missing")).collect();
        let mut write = right(WRITES);
        if live.is_none()
            && !held.ours
            && write == Right::Granted
            && let Err(TargetError::Unusable(why)) = self.read_by_alias_alone(path, id).await
        {
            write = Right::Denied;
            warnings.push(why);
        }
        Ok(TargetCheck { live: live.map(version), read: right(&[READ]), write, warnings })
    }
}

fn version(number: i64) -> VersionId {
    VersionId(number.to_string())
}

/// A place is a secret's id: 1 to 255 letters, digits, hyphens and underscores (reference of `secrets.create`).
fn id_of(path: &SecretPath) -> Result<&str, TargetError> {
    let id = path.as_str();
    if id.len() <= 255 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Ok(id);
    }
    Err(TargetError::Unusable(format!(
        "{path} does not fit Secret Manager: its ids have at most 255 letters, digits, hyphens and underscores"
    )))
}

fn explained(failure: Failure, path: &SecretPath) -> TargetError {
    match failure {
        Failure::Missing => TargetError::NotFound(path.clone()),
        Failure::Exists | Failure::Precondition => {
            TargetError::Unavailable("Secret Manager changed between two calls".to_owned())
        }
        Failure::Invalid(why) => TargetError::Unusable(why),
        Failure::Other(error) => error,
    }
}

impl SecretTarget for SecretManagerTarget {
    fn traits(&self) -> TargetTraits {
        TargetTraits { kind: "google", compare_and_set: true, value_bytes_max: VALUE_BYTES_MAX, replicas: false }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            let (number, value) = self.read(path).await?;
            Ok(LiveSecret { value, version: version(number) })
        })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move {
            let id = id_of(path)?;
            match self.manager.live_number(id).await {
                Err(Failure::Invalid(_)) if !self.has_alias(path, id).await? => {
                    Err(TargetError::NotFound(path.clone()))
                }
                other => other.map(version).map_err(|failure| explained(failure, path)),
            }
        })
    }

    fn check<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>> {
        Box::pin(self.look(path))
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
        Box::pin(async move {
            let live = self.live_by_secret(path, id_of(path)?).await?;
            Ok(self.find(path, token, live.as_slice()).await?.map(|(_, document)| document))
        })
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
        Box::pin(self.take_away(path, token))
    }

    fn replicas<'a>(&'a self, _path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        // a secret's copies in other regions are the service's own and cannot be read one by one
        Box::pin(async { Ok(Vec::new()) })
    }

    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(async move {
            let mut places: Vec<SecretPath> = Vec::new();
            let listed = self.manager.list(|id| {
                if id.starts_with(prefix) {
                    places.extend(id.parse().ok());
                }
                places.len() < limit
            });
            match listed.await {
                Ok(()) => {}
                Err(Failure::Other(error)) => return Err(error),
                Err(_) => {
                    return Err(TargetError::Unusable("Secret Manager's answer to a list cannot be used".to_owned()));
                }
            }
            places.truncate(limit);
            Ok(places)
        })
    }
}
