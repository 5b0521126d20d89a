//! `kind = "aws"`. The SDK sets its credential providers up in a future, so the store is made at its first use.

use std::sync::Arc;

use kh_core::{
    SecretBytes,
    port::{
        BoxFuture, SecretTarget, TargetError,
        secret_target::{LiveSecret, Replica, TargetCheck, TargetTraits},
    },
    rotation::{SecretPath, VersionId, WriteToken},
};
use kh_platform::Timeouts;
use kh_store_aws::{Account, AssumedRole, AwsStore, CredentialSource, Settings, Transport, VALUE_MAX};
use tokio::sync::OnceCell;

use super::Parts;
use crate::{config::SecretStoreDetail, output::Failure};

/// How the assumed role's session is called in CloudTrail.
const SESSION: &str = "keyholder";

pub(super) fn target(detail: &SecretStoreDetail, parts: &Parts<'_>) -> Result<Arc<dyn SecretTarget>, Failure> {
    let SecretStoreDetail::Aws { region, profile, role_arn, external_id, endpoint } = detail else {
        return Err(Failure::bug("a store of another kind"));
    };
    let settings = Settings {
        credentials: profile.clone().map_or(CredentialSource::Chain, CredentialSource::Profile),
        role: role_arn.clone().map(|arn| AssumedRole {
            arn,
            external_id: external_id.clone(),
            session_name: SESSION.to_owned(),
        }),
        endpoint: endpoint.as_ref().map(|endpoint| endpoint.text().to_owned()),
        ..Settings::new(region)
    };
    let transport = Transport::new(Arc::clone(&parts.egress), Timeouts::default(), Arc::clone(parts.clock));
    Ok(Arc::new(Lazy { settings, transport, made: OnceCell::new() }))
}

/// An [`AwsStore`] that is made when it is first asked.
struct Lazy {
    settings: Settings,
    transport: Transport,
    made: OnceCell<AwsStore>,
}

impl Lazy {
    async fn store(&self) -> &AwsStore {
        let make = || async {
            let account = Account::new(self.settings.clone(), self.transport.clone()).await;
            AwsStore::new(Arc::new(account))
        };
        self.made.get_or_init(make).await
    }
}

impl SecretTarget for Lazy {
    fn traits(&self) -> TargetTraits {
        match self.made.get() {
            Some(store) => store.traits(),
            None => TargetTraits { kind: "aws", compare_and_set: true, value_bytes_max: VALUE_MAX, replicas: true },
        }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move { self.store().await.live(path).await })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move { self.store().await.live_version(path).await })
    }

    fn check<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>> {
        Box::pin(async move { self.store().await.check(path).await })
    }

    fn stage<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        value: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move { self.store().await.stage(path, token, value).await })
    }

    fn staged<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
    ) -> BoxFuture<'a, Result<Option<SecretBytes>, TargetError>> {
        Box::pin(async move { self.store().await.staged(path, token).await })
    }

    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move { self.store().await.promote(path, token, expect).await })
    }

    fn unstage<'a>(&'a self, path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move { self.store().await.unstage(path, token).await })
    }

    fn replicas<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        Box::pin(async move { self.store().await.replicas(path).await })
    }

    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(async move { self.store().await.list(prefix, limit).await })
    }
}
