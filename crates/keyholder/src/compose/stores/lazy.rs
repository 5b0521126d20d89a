//! A store whose client is set up in a future, and so at its first use.
//!
//! Invariant: it is made once; what could not be made is tried again at the next use.

use std::sync::Arc;

use kh_core::{
    SecretBytes,
    port::{
        BoxFuture, SecretTarget, TargetError,
        secret_target::{LiveSecret, Replica, TargetCheck, TargetTraits},
    },
    rotation::{SecretPath, VersionId, WriteToken},
};
use tokio::sync::OnceCell;

type Made = Result<Arc<dyn SecretTarget>, TargetError>;

/// A store that is made when it is first asked.
pub(super) struct Lazy {
    traits: TargetTraits,
    make: Box<dyn Fn() -> BoxFuture<'static, Made> + Send + Sync>,
    made: OnceCell<Arc<dyn SecretTarget>>,
}

impl Lazy {
    /// What `make` makes, which has these traits.
    pub(super) fn new(
        traits: TargetTraits,
        make: impl Fn() -> BoxFuture<'static, Made> + Send + Sync + 'static,
    ) -> Self {
        Self { traits, make: Box::new(make), made: OnceCell::new() }
    }

    async fn store(&self) -> Result<&Arc<dyn SecretTarget>, TargetError> {
        self.made.get_or_try_init(&self.make).await
    }
}

impl SecretTarget for Lazy {
    fn traits(&self) -> TargetTraits {
        self.traits
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move { self.store().await?.live(path).await })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move { self.store().await?.live_version(path).await })
    }

    fn check<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>> {
        Box::pin(async move { self.store().await?.check(path).await })
    }

    fn stage<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        value: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move { self.store().await?.stage(path, token, value).await })
    }

    fn staged<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
    ) -> BoxFuture<'a, Result<Option<SecretBytes>, TargetError>> {
        Box::pin(async move { self.store().await?.staged(path, token).await })
    }

    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move { self.store().await?.promote(path, token, expect).await })
    }

    fn unstage<'a>(&'a self, path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move { self.store().await?.unstage(path, token).await })
    }

    fn replicas<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        Box::pin(async move { self.store().await?.replicas(path).await })
    }

    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(async move { self.store().await?.list(prefix, limit).await })
    }
}
