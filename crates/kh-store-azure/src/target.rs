//! The port over one vault.
//!
//! Invariant: a promotion writes only after the live version was seen to be the planned one, and succeeds only after
//! its own write was read back as the newest; a write by no rotation that came between is told as a conflict.

use std::collections::BTreeSet;

use kh_core::{
    SecretBytes,
    port::{
        BoxFuture, SecretTarget, TargetError,
        secret_target::{LiveSecret, Replica, Right, TargetCheck, TargetTraits, check_document},
    },
    rotation::{Marker, SecretPath, VersionId, WriteToken},
};
use kh_net::http::HttpClient;

use crate::{
    failure::Failure,
    names::{self, Names},
    settings::{Settings, SetupError},
    vault::{Bundle, Item, Vault},
};

/// Largest document in bytes. The documentation says 25 KB; the service takes 25,600 characters.
pub const VALUE_BYTES_MAX: usize = 25_600;

/// Azure Key Vault as a [`SecretTarget`]. Needs the rights `get`, `list` and `set` on secrets; `recover` only where
/// somebody deleted a staged secret.
#[derive(Debug)]
pub struct KeyVaultTarget {
    vault: Vault,
}

impl KeyVaultTarget {
    /// The vault of `settings`, asked through `http`.
    pub fn new(settings: Settings, http: HttpClient) -> Result<Self, SetupError> {
        Ok(Self { vault: Vault::new(settings, http)? })
    }

    /// The newest version of the live name; none when there is none.
    async fn newest(&self, path: &SecretPath, name: &str) -> Result<Option<Bundle>, TargetError> {
        match self.vault.get(name, None).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Missing) => Ok(None),
            Err(failure) => Err(explained(failure, path, name)),
        }
    }

    async fn current(&self, path: &SecretPath) -> Result<Bundle, TargetError> {
        let names = Names::of(path)?;
        self.newest(path, &names.live).await?.ok_or_else(|| TargetError::NotFound(path.clone()))
    }

    /// The staged versions of a write, by their tags.
    async fn staged_items(
        &self,
        path: &SecretPath,
        names: &Names,
        token: WriteToken,
    ) -> Result<Vec<Item>, TargetError> {
        let all =
            self.vault.versions(&names.staged).await.map_err(|failure| explained(failure, path, &names.staged))?;
        Ok(all.into_iter().filter(|item| item.enabled && item.is(token)).collect())
    }

    async fn staged_document(
        &self,
        path: &SecretPath,
        names: &Names,
        token: WriteToken,
    ) -> Result<Option<SecretBytes>, TargetError> {
        for item in self.staged_items(path, names, token).await? {
            match self.vault.get(&names.staged, Some(&item.version)).await {
                Ok(found) if found.is(token) => return Ok(Some(found.value)),
                // another one's value under copied tags, or taken away meanwhile
                Ok(_) | Err(Failure::Missing | Failure::Disabled) => {}
                Err(failure) => return Err(explained(failure, path, &names.staged)),
            }
        }
        Ok(None)
    }

    async fn stage_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        value: &SecretBytes,
    ) -> Result<(), TargetError> {
        let names = Names::of(path)?;
        let marker = check_document(token, value, VALUE_BYTES_MAX)?;
        let reused = || TargetError::TokenReused { path: path.clone(), token };
        if let Some(live) = self.newest(path, &names.live).await?.filter(|live| live.is(token)) {
            return if live.value == *value { Ok(()) } else { Err(reused()) };
        }
        if let Some(staged) = self.staged_document(path, &names, token).await? {
            return if staged == *value { Ok(()) } else { Err(reused()) };
        }
        match self.vault.set(&names.staged, value, &marker).await {
            Ok(()) => Ok(()),
            Err(Failure::Deleted) => self.bring_back(path, &names.staged).await,
            Err(failure) => Err(explained(failure, path, &names.staged)),
        }
    }

    /// Somebody deleted the staged secret: it holds nothing that anybody reads, so it is recovered. The live one never is:
    /// that would bring an old secret back that somebody took away.
    async fn bring_back(&self, path: &SecretPath, name: &str) -> Result<(), TargetError> {
        match self.vault.recover(name).await {
            Ok(()) | Err(Failure::Missing | Failure::Recovering) => {
                Err(TargetError::Unavailable(format!("{name} had been deleted and is being recovered")))
            }
            Err(Failure::Other(TargetError::Denied(why))) => Err(TargetError::Unusable(format!(
                "{name} was deleted and keyholder may not recover it ({why}): recover it, or purge it"
            ))),
            Err(failure) => Err(explained(failure, path, name)),
        }
    }

    async fn promote_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        expect: Option<&VersionId>,
    ) -> Result<VersionId, TargetError> {
        let names = Names::of(path)?;
        let known = self.live_versions(path, &names).await?;
        let live = self.newest(path, &names.live).await?;
        if let Some(live) = live.as_ref().filter(|live| live.is(token)) {
            self.take_away_quietly(path, &names, token).await;
            return Ok(live.version.clone());
        }
        let found = live.map(|live| live.version);
        if found.as_ref() != expect {
            return Err(TargetError::Conflict { path: path.clone(), found });
        }
        let Some(document) = self.staged_document(path, &names, token).await? else {
            return Err(TargetError::NotFound(path.clone()));
        };
        let Some(marker) = Marker::read(&document) else { return Err(TargetError::NotFound(path.clone())) };
        let written = self.vault.set(&names.live, &document, &marker).await;
        written.map_err(|failure| explained(failure, path, &names.live))?;
        let version = self.read_back(path, &names, token, expect, &known).await?;
        self.take_away_quietly(path, &names, token).await;
        Ok(version)
    }

    async fn live_versions(&self, path: &SecretPath, names: &Names) -> Result<Vec<Item>, TargetError> {
        self.vault.versions(&names.live).await.map_err(|failure| explained(failure, path, &names.live))
    }

    /// After the write: it is the newest, and nobody but rotations wrote since `known` was read. Any failure to see that
    /// is no failure of the write.
    async fn read_back(
        &self,
        path: &SecretPath,
        names: &Names,
        token: WriteToken,
        expect: Option<&VersionId>,
        known: &[Item],
    ) -> Result<VersionId, TargetError> {
        let unseen = |why: &dyn std::fmt::Display| TargetError::Unknown(format!("written, but not read back: {why}"));
        let newest = self.newest(path, &names.live).await.map_err(|error| unseen(&error))?;
        let now = self.live_versions(path, names).await.map_err(|error| unseen(&error))?;
        let known: BTreeSet<&str> = known.iter().map(|item| item.version.as_str()).collect();
        let foreign = now.iter().any(|item| !known.contains(item.version.as_str()) && item.tagged.is_none());
        match newest {
            Some(newest) if newest.is(token) && !foreign => Ok(newest.version),
            newest if newest.as_ref().map(|newest| &newest.version) == expect => {
                Err(unseen(&"the version before it is still shown as the newest"))
            }
            newest => Err(TargetError::Conflict { path: path.clone(), found: newest.map(|newest| newest.version) }),
        }
    }

    async fn take_away(&self, path: &SecretPath, names: &Names, token: WriteToken) -> Result<(), TargetError> {
        for item in self.staged_items(path, names, token).await? {
            match self.vault.disable(&names.staged, &item.version).await {
                Ok(()) | Err(Failure::Missing | Failure::Deleted) => {}
                Err(failure) => return Err(explained(failure, path, &names.staged)),
            }
        }
        Ok(())
    }

    /// The document is live; its staged copy may stay until it is taken away by its own call.
    async fn take_away_quietly(&self, path: &SecretPath, names: &Names, token: WriteToken) {
        if let Err(error) = self.take_away(path, names, token).await {
            tracing::debug!(store.path = %path, error = %error, "the staged copy of a live document stays for now");
        }
    }

    async fn look(&self, path: &SecretPath) -> Result<TargetCheck, TargetError> {
        let names = Names::of(path)?;
        let mut warnings = Vec::new();
        let (live, read) = match self.newest(path, &names.live).await {
            Ok(found) => (found.map(|found| found.version), Right::Granted),
            Err(TargetError::Denied(why)) => {
                warnings.push(why);
                (None, Right::Denied)
            }
            Err(error) => return Err(error),
        };
        let mut write = Right::Unknown;
        match self.vault.versions(&names.staged).await {
            Ok(_) => {}
            Err(Failure::Other(TargetError::Denied(why))) => {
                write = Right::Denied;
                warnings.push(format!("the versions of {} cannot be listed: {why}", names.staged));
            }
            Err(failure) => return Err(explained(failure, path, &names.staged)),
        }
        for name in [&names.live, &names.staged] {
            // the right to see deleted secrets is not needed for anything else
            if let Ok(true) = self.vault.is_deleted(name).await {
                write = if *name == names.live { Right::Denied } else { write };
                warnings
                    .push(format!("{name} was deleted and its name cannot be written until it is recovered or purged"));
            }
        }
        Ok(TargetCheck { live, read, write, warnings })
    }
}

/// The port's words for a failure at `name`.
fn explained(failure: Failure, path: &SecretPath, name: &str) -> TargetError {
    match failure {
        Failure::Missing => TargetError::NotFound(path.clone()),
        Failure::Disabled => TargetError::Denied(format!("the newest version of {name} is disabled")),
        Failure::Deleted => {
            TargetError::Unusable(format!("{name} was deleted and its name is taken until it is recovered or purged"))
        }
        Failure::Recovering => TargetError::Unavailable(format!("{name} is being recovered")),
        Failure::Other(error) => error,
    }
}

impl SecretTarget for KeyVaultTarget {
    fn traits(&self) -> TargetTraits {
        TargetTraits { kind: "azure", compare_and_set: false, value_bytes_max: VALUE_BYTES_MAX, replicas: false }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            let found = self.current(path).await?;
            Ok(LiveSecret { value: found.value, version: found.version })
        })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        // Lists are in no order and their times are in seconds: only reading the newest tells which it is.
        Box::pin(async move { Ok(self.current(path).await?.version) })
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
        Box::pin(async move { self.staged_document(path, &Names::of(path)?, token).await })
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
        Box::pin(async move { self.take_away(path, &Names::of(path)?, token).await })
    }

    fn replicas<'a>(&'a self, _path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        // a vault's copy in the paired region is the service's own and cannot be read beside it
        Box::pin(async { Ok(Vec::new()) })
    }

    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(async move {
            let mut places: Vec<SecretPath> = Vec::new();
            let listed = self.vault.list(|item| {
                if item.enabled && item.name.starts_with(prefix) && !names::is_staged(&item.name) {
                    places.extend(item.name.parse().ok());
                }
                places.len() < limit
            });
            match listed.await {
                Ok(()) => {}
                Err(Failure::Other(error)) => return Err(error),
                Err(_) => return Err(TargetError::Unusable("Key Vault's answer to a list cannot be used".to_owned())),
            }
            places.truncate(limit);
            Ok(places)
        })
    }
}
