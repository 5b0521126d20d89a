//! The port over `vaultrs`: another client for the same suite, so that the fake cannot have been made to suit ours.

use kh_core::{
    SecretBytes,
    credential::DOCUMENT_MAX,
    port::{
        BoxFuture, SecretTarget, TargetError,
        secret_target::{LiveSecret, Members, Replica, Right, TargetCheck, TargetTraits, check_document},
    },
    rotation::{Marker, SecretPath, VersionId, WriteToken},
};
use serde_json::Value;
use vaultrs::{
    api::{
        self,
        kv2::requests::{ReadSecretRequest, SetSecretRequestOptions},
    },
    client::VaultClient,
    error::ClientError,
    kv2,
};

pub(crate) struct OtherClient(pub(crate) VaultClient);

const MOUNT: &str = "secret";

fn failed(error: &ClientError) -> TargetError {
    TargetError::Unusable(format!("{error:?}"))
}

/// Nothing there. Where a 404 has a body, as for a destroyed version, this client gives the bare answer.
pub(crate) fn is_404(error: &ClientError) -> bool {
    matches!(error, ClientError::APIError { code: 404, .. }) || format!("{error:?}").contains("code: 404")
}

fn next(path: &SecretPath) -> String {
    format!("{path}.kh-next")
}

fn names(document: Option<&SecretBytes>, token: WriteToken) -> bool {
    document.and_then(Marker::read).is_some_and(|marker| marker.write == token)
}

fn version(number: u64) -> VersionId {
    VersionId(number.to_string())
}

impl OtherClient {
    async fn read(&self, key: &str) -> Result<(u64, Option<SecretBytes>), TargetError> {
        let endpoint = ReadSecretRequest::builder().mount(MOUNT).path(key).build().unwrap();
        match api::exec_with_result(&self.0, endpoint).await {
            Ok(read) => Ok((read.metadata.version, Some(SecretBytes::new(read.data.to_string().into_bytes())))),
            Err(error) if is_404(&error) => match kv2::read_metadata(&self.0, MOUNT, key).await {
                Ok(metadata) => Ok((metadata.current_version, None)),
                Err(error) if is_404(&error) => Ok((0, None)),
                Err(error) => Err(failed(&error)),
            },
            Err(error) => Err(failed(&error)),
        }
    }

    /// None: another version is the current one.
    async fn write(&self, key: &str, document: &SecretBytes, cas: u64) -> Result<Option<u64>, TargetError> {
        let value: Value = serde_json::from_slice(document.expose()).unwrap();
        let options = SetSecretRequestOptions { cas: u32::try_from(cas).unwrap() };
        match kv2::set_with_options(&self.0, MOUNT, key, &value, options).await {
            Ok(written) => Ok(Some(written.version)),
            Err(ClientError::APIError { code: 400, errors }) if errors[0].contains("did not match") => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }
}

impl SecretTarget for OtherClient {
    fn traits(&self) -> TargetTraits {
        TargetTraits { kind: "vault", compare_and_set: true, value_bytes_max: DOCUMENT_MAX, replicas: false }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            let (number, document) = self.read(path.as_str()).await?;
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
                let (number, staged) = self.read(&next(path)).await?;
                let (_, live) = self.read(path.as_str()).await?;
                if let Some(known) = [staged, live].into_iter().flatten().find(|known| names(Some(known), token)) {
                    let same = Members::same(&known, value);
                    return same.then_some(()).ok_or_else(|| TargetError::TokenReused { path: path.clone(), token });
                }
                if self.write(&next(path), value, number).await?.is_some() {
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
        Box::pin(async move { Ok(self.read(&next(path)).await?.1.filter(|found| names(Some(found), token))) })
    }

    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move {
            let staged = self.staged(path, token).await?;
            let (number, live) = self.read(path.as_str()).await?;
            if names(live.as_ref(), token) {
                return Ok(version(number));
            }
            let found = live.map(|_| version(number));
            if found.as_ref() != expect {
                return Err(TargetError::Conflict { path: path.clone(), found });
            }
            let staged = staged.ok_or_else(|| TargetError::NotFound(path.clone()))?;
            if let Some(written) = self.write(path.as_str(), &staged, number).await? {
                self.unstage(path, token).await?;
                return Ok(version(written));
            }
            let (number, live) = self.read(path.as_str()).await?;
            if names(live.as_ref(), token) {
                return Ok(version(number));
            }
            Err(TargetError::Conflict { path: path.clone(), found: Some(version(number)) })
        })
    }

    fn unstage<'a>(&'a self, path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let (number, staged) = self.read(&next(path)).await?;
            if names(staged.as_ref(), token) {
                let done = kv2::destroy_versions(&self.0, MOUNT, &next(path), vec![number]).await;
                done.map_err(|error| failed(&error))?;
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
                let names = match kv2::list(&self.0, MOUNT, &folder).await {
                    Ok(names) => names,
                    Err(error) if is_404(&error) => Vec::new(),
                    Err(error) => return Err(failed(&error)),
                };
                for name in names {
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
