//! The store as rotation writes it.
//!
//! Invariant: a staged document's version is destroyed by its number, which was read with it; the live key is written
//! with `cas` alone.

mod check;

use std::sync::atomic::Ordering;

use kh_core::{
    SecretBytes,
    credential::DOCUMENT_MAX,
    port::{
        BoxFuture, SecretTarget, TargetError,
        secret_target::{LiveSecret, Members, Replica, TargetCheck, TargetTraits, check_document},
    },
    rotation::{Marker, SecretPath, VersionId, WriteToken},
};

use crate::{
    VaultStore,
    client::Ask,
    store::{Written, odd},
    wire::{self, Found},
};

/// How often a staging that lost its place to another one is tried: each loss means that another one went on.
const STAGE_TRIES: usize = 4;

fn version(number: u64) -> VersionId {
    VersionId(number.to_string())
}

fn names(document: &SecretBytes, token: WriteToken) -> bool {
    Marker::read(document).is_some_and(|marker| marker.write == token)
}

fn writes(found: &Found, token: WriteToken) -> bool {
    found.document.as_ref().is_some_and(|document| names(document, token))
}

impl VaultStore {
    async fn stage_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        value: &SecretBytes,
    ) -> Result<(), TargetError> {
        check_document(token, value, DOCUMENT_MAX)?;
        let places = Self::places(path)?;
        for _ in 0..STAGE_TRIES {
            let staged = self.read(&places.staged).await?;
            let live = self.read(&places.live).await?;
            let mut known = [&live, &staged].into_iter().filter_map(|found| found.document.as_ref());
            if let Some(known) = known.find(|document| names(document, token)) {
                return if Members::same(known, value) {
                    Ok(())
                } else {
                    Err(TargetError::TokenReused { path: path.clone(), token })
                };
            }
            if let Written::Version(_) = self.write(&places.staged, value, staged.version).await? {
                return Ok(());
            }
        }
        Err(TargetError::Unavailable(format!("{STAGE_TRIES} other writes were staged at {path} meanwhile")))
    }

    async fn staged_document(&self, path: &SecretPath, token: WriteToken) -> Result<Option<SecretBytes>, TargetError> {
        let found = self.read(&Self::places(path)?.staged).await?;
        Ok(found.document.filter(|document| names(document, token)))
    }

    async fn promote_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        expect: Option<&VersionId>,
    ) -> Result<VersionId, TargetError> {
        let places = Self::places(path)?;
        let staged = self.read(&places.staged).await?.document.filter(|document| names(document, token));
        let live = self.read(&places.live).await?;
        if writes(&live, token) {
            self.tidy(path, token).await;
            return Ok(version(live.version));
        }
        let cas = planned(path, &live, expect)?;
        let staged = staged.ok_or_else(|| TargetError::NotFound(path.clone()))?;
        match self.write(&places.live, &staged, cas).await? {
            Written::Version(number) => {
                self.read_back(path, &places.live, token, number).await?;
                self.tidy(path, token).await;
                Ok(version(number))
            }
            Written::Refused => {
                let live = self.read(&places.live).await?;
                if writes(&live, token) {
                    return Ok(version(live.version));
                }
                Err(refused(path, &live, cas))
            }
        }
    }

    /// The write is live now: read, not believed.
    async fn read_back(&self, path: &SecretPath, key: &str, token: WriteToken, number: u64) -> Result<(), TargetError> {
        let unknown = |error: &TargetError| TargetError::Unknown(format!("{path} was not read back: {error}"));
        let found = self.read(key).await.map_err(|error| unknown(&error))?;
        match found.version {
            later if later > number => Err(TargetError::Conflict { path: path.clone(), found: Some(version(later)) }),
            earlier if earlier < number => Err(TargetError::Unknown(format!(
                "{path} reads as version {earlier}, before {number} that was written"
            ))),
            _ if writes(&found, token) => Ok(()),
            _ => Err(TargetError::Unusable(format!("{path} has version {number} without the document written as it"))),
        }
    }

    /// Takes away the staged copy of what is live. If that fails, it stays until the next write is staged.
    async fn tidy(&self, path: &SecretPath, token: WriteToken) {
        if let Err(error) = self.take_away(path, token).await {
            tracing::debug!(secret.path = %path, error = %error, "a staged copy of a live secret was left");
        }
    }

    async fn take_away(&self, path: &SecretPath, token: WriteToken) -> Result<(), TargetError> {
        let places = Self::places(path)?;
        let staged = self.read(&places.staged).await?;
        if writes(&staged, token) {
            // another write's version has another number, so it cannot be hit
            self.destroy(&places.staged, staged.version).await?;
        }
        Ok(())
    }

    async fn version_of_live(&self, path: &SecretPath) -> Result<VersionId, TargetError> {
        let key = Self::places(path)?.live;
        if !self.metadata_denied.load(Ordering::Relaxed) {
            let at = self.below("metadata", &key);
            match self.send(&Ask::get(&at)).await {
                Ok(reply) if reply.status == 404 => return Err(TargetError::NotFound(path.clone())),
                Ok(reply) => match wire::metadata(&reply.body).filter(|_| reply.status == 200) {
                    Some(metadata) if metadata.is_surely_live() => return Ok(version(metadata.current_version)),
                    Some(_) => {}
                    None => return Err(odd("reading", &at, reply.status)),
                },
                Err(TargetError::Denied(_)) => self.metadata_denied.store(true, Ordering::Relaxed),
                Err(error) => return Err(error),
            }
        }
        let found = self.read(&key).await?;
        found.document.map(|_| version(found.version)).ok_or_else(|| TargetError::NotFound(path.clone()))
    }
}

/// The `cas` that the planned version means, if it is still the live one. A version that was deleted still counts.
///
/// Versions only grow. One below the planned one was read from a replica that lags, or the key was made anew; the
/// engine itself decides then, by `cas`.
fn planned(path: &SecretPath, live: &Found, expect: Option<&VersionId>) -> Result<u64, TargetError> {
    let found = live.document.as_ref().map(|_| version(live.version));
    if found.as_ref() == expect {
        return Ok(live.version);
    }
    match expect.and_then(|expect| expect.0.parse::<u64>().ok()) {
        Some(expected) if found.is_some() && live.version < expected => Ok(expected),
        _ => Err(TargetError::Conflict { path: path.clone(), found }),
    }
}

/// Somebody else wrote, if what is read can tell.
fn refused(path: &SecretPath, live: &Found, cas: u64) -> TargetError {
    if live.document.is_some() && live.version == cas {
        let text = format!("{path} reads as version {cas}, which the engine has replaced: a replica lags");
        return TargetError::Unavailable(text);
    }
    TargetError::Conflict { path: path.clone(), found: live.document.as_ref().map(|_| version(live.version)) }
}

impl SecretTarget for VaultStore {
    fn traits(&self) -> TargetTraits {
        TargetTraits { kind: "vault", compare_and_set: true, value_bytes_max: DOCUMENT_MAX, replicas: false }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            let found = self.read(&Self::places(path)?.live).await?;
            let value = found.document.ok_or_else(|| TargetError::NotFound(path.clone()))?;
            Ok(LiveSecret { value, version: version(found.version) })
        })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(self.version_of_live(path))
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
        Box::pin(self.staged_document(path, token))
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
        Box::pin(async { Ok(Vec::new()) })
    }

    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(self.list_places(prefix, limit))
    }
}
