//! The port over clients that are not ours (`vaultrs`, and Python's `hvac` in a process of its own), for the same
//! suite, so that the fake cannot have been made to suit our client.

mod python;
mod rust;

pub(crate) use python::Hvac;
pub(crate) use rust::is_404;

use kh_core::{
    SecretBytes,
    credential::DOCUMENT_MAX,
    port::{
        BoxFuture, SecretTarget, TargetError,
        secret_target::{LiveSecret, Members, Replica, Right, TargetCheck, TargetTraits, check_document},
    },
    rotation::{Marker, SecretPath, VersionId, WriteToken},
};

/// What a client of the engine can do.
pub(crate) trait Engine: Send + Sync {
    /// The current version (0 for none) and what it holds, unless that is deleted or destroyed.
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, (u64, Option<SecretBytes>)>;
    /// Writes if `cas` is the current version. None: it is not.
    fn write<'a>(&'a self, key: &'a str, document: &'a SecretBytes, cas: u64) -> BoxFuture<'a, Option<u64>>;
    /// Destroys one version.
    fn destroy<'a>(&'a self, key: &'a str, version: u64) -> BoxFuture<'a, ()>;
    /// Names one level below a folder.
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Vec<String>>;
}

/// The port over such a client.
pub(crate) struct OtherClient<E>(pub(crate) E);

fn next(path: &SecretPath) -> String {
    format!("{path}.kh-next")
}

fn names(document: Option<&SecretBytes>, token: WriteToken) -> bool {
    document.and_then(Marker::read).is_some_and(|marker| marker.write == token)
}

fn version(number: u64) -> VersionId {
    VersionId(number.to_string())
}

impl<E: Engine> SecretTarget for OtherClient<E> {
    fn traits(&self) -> TargetTraits {
        TargetTraits { kind: "vault", compare_and_set: true, value_bytes_max: DOCUMENT_MAX, replicas: false }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            let (number, document) = self.0.read(path.as_str()).await;
            let value = document.ok_or_else(|| TargetError::NotFound(path.clone()))?;
            Ok(LiveSecret { value, version: version(number) })
        })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move { self.live(path).await.map(|live| live.version) })
    }

    fn check<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>> {
        Box::pin(async move {
            let live = self.live(path).await.ok().map(|live| live.version);
            Ok(TargetCheck { live, read: Right::Unknown, write: Right::Unknown, warnings: Vec::new() })
        })
    }

    fn stage<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        value: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            check_document(token, value, DOCUMENT_MAX)?;
            loop {
                let (number, staged) = self.0.read(&next(path)).await;
                let (_, live) = self.0.read(path.as_str()).await;
                if let Some(known) = [staged, live].into_iter().flatten().find(|known| names(Some(known), token)) {
                    let same = Members::same(&known, value);
                    return same.then_some(()).ok_or_else(|| TargetError::TokenReused { path: path.clone(), token });
                }
                if self.0.write(&next(path), value, number).await.is_some() {
                    return Ok(());
                }
            }
        })
    }

    fn staged<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
    ) -> BoxFuture<'a, Result<Option<SecretBytes>, TargetError>> {
        Box::pin(async move { Ok(self.0.read(&next(path)).await.1.filter(|found| names(Some(found), token))) })
    }

    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move {
            let staged = self.staged(path, token).await?;
            let (number, live) = self.0.read(path.as_str()).await;
            if names(live.as_ref(), token) {
                return Ok(version(number));
            }
            let found = live.map(|_| version(number));
            if found.as_ref() != expect {
                return Err(TargetError::Conflict { path: path.clone(), found });
            }
            let staged = staged.ok_or_else(|| TargetError::NotFound(path.clone()))?;
            if let Some(written) = self.0.write(path.as_str(), &staged, number).await {
                self.unstage(path, token).await?;
                return Ok(version(written));
            }
            let (number, live) = self.0.read(path.as_str()).await;
            if names(live.as_ref(), token) {
                return Ok(version(number));
            }
            Err(TargetError::Conflict { path: path.clone(), found: Some(version(number)) })
        })
    }

    fn unstage<'a>(&'a self, path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let (number, staged) = self.0.read(&next(path)).await;
            if names(staged.as_ref(), token) {
                self.0.destroy(&next(path), number).await;
            }
            Ok(())
        })
    }

    fn replicas<'a>(&'a self, _path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(async move {
            let (mut folders, mut places) = (vec![String::new()], Vec::new());
            while let Some(folder) = folders.pop() {
                for name in self.0.list(&folder).await {
                    let full = format!("{folder}{name}");
                    if full.ends_with('/') {
                        folders.push(full);
                    } else if full.starts_with(prefix) && !full.ends_with(".kh-next") {
                        places.push(full.parse().unwrap());
                    }
                }
            }
            places.truncate(limit);
            Ok(places)
        })
    }
}
