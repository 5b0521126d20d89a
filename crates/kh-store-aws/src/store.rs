//! The port over AWS Secrets Manager.
//!
//! Where a document waits until it is live:
//! - in the secret itself, as a version with the label `KH_PENDING`, once the secret has a live version;
//! - before that in a secret of its own beside it (`<name>.kh-next.<write>`), because Secrets Manager makes the first
//!   version of a secret current whatever labels it is given (service model, `PutSecretValue`).

use std::sync::Arc;

use kh_core::{
    SecretBytes,
    port::{
        BoxFuture, SecretTarget, TargetError,
        secret_target::{LiveSecret, Replica, TargetCheck, TargetTraits},
    },
    rotation::{Marker, PATH_MAX, SecretPath, VersionId, WriteToken},
};

use crate::{
    calls::{CURRENT, Calls, Described, PENDING},
    connect::Account,
    failure::Failure,
};

/// Largest document in bytes; service model, `SecretStringType`.
pub const VALUE_MAX: usize = 65_536;

/// What stands between a secret's name and a write's in the name of its waiting place.
const BESIDE: &str = ".kh-next.";

/// Characters of a write's name.
const TOKEN_CHARS: usize = 36;

/// One account's secrets in one region, with their copies elsewhere.
pub struct AwsStore {
    pub(crate) account: Arc<Account>,
    pub(crate) calls: Calls,
}

impl AwsStore {
    /// The store of an account.
    pub fn new(account: Arc<Account>) -> Self {
        let calls = Calls::new(account.client(&account.settings().region));
        Self { account, calls }
    }

    /// The waiting place of a secret's first document.
    pub(crate) fn beside(path: &SecretPath, token: WriteToken) -> Result<String, TargetError> {
        let name = format!("{path}{BESIDE}{token}");
        if name.len() > PATH_MAX {
            let max = PATH_MAX - BESIDE.len() - TOKEN_CHARS;
            return Err(TargetError::Unusable(format!(
                "a secret that does not exist yet may have a name of at most {max} characters, for its waiting place"
            )));
        }
        Ok(name)
    }

    pub(crate) async fn described(&self, path: &SecretPath) -> Result<Described, TargetError> {
        Ok(self.calls.describe(path.as_str()).await.map_err(|error| error.at(path))?.unwrap_or_default())
    }

    /// Looks again while `wanted` does not hold: a read may lag behind a change. Tells the last look.
    pub(crate) async fn settled(
        &self,
        path: &SecretPath,
        looks: u32,
        wanted: impl Fn(&Described) -> bool,
    ) -> Result<Described, TargetError> {
        let mut found = self.described(path).await?;
        for _ in 1..looks.max(1) {
            if wanted(&found) {
                break;
            }
            tokio::time::sleep(self.account.settings().settle.pause).await;
            found = self.described(path).await?;
        }
        Ok(found)
    }

    async fn stage_document(
        &self,
        path: &SecretPath,
        token: WriteToken,
        value: &SecretBytes,
    ) -> Result<(), TargetError> {
        check_document(token, value)?;
        let found = self.described(path).await?;
        if found.marked_for_deletion {
            return Err(TargetError::Unusable("the secret is marked for deletion".to_owned()));
        }
        if found.holder(CURRENT).is_none() {
            return self.stage_beside(path, token, value).await;
        }
        // Looked at first, although the service refuses to change a version: a repeat then needs no write, of which
        // Secrets Manager wants at most one in ten minutes.
        if let Some(known) = self.calls.version(path.as_str(), token).await.map_err(|error| error.at(path))? {
            same(path, token, &known.value, value)?;
            return self.label(path, token, &known.stages).await;
        }
        match self.calls.put(path.as_str(), token, value).await {
            Ok(stages) => self.label(path, token, &stages).await,
            Err(Failure::Exists) => self.compare_existing(path, path.as_str(), token, value).await,
            Err(other) => Err(other.at(path)),
        }
    }

    /// The version has a label, or gets keyholder's: a version that is put again keeps the labels it has, none if it
    /// was taken away before.
    async fn label(&self, path: &SecretPath, token: WriteToken, stages: &[String]) -> Result<(), TargetError> {
        if stages.iter().any(|label| label == PENDING || label == CURRENT) {
            return Ok(());
        }
        let token = token.to_string();
        let holder = self.described(path).await?.holder(PENDING).map(str::to_owned);
        if holder.as_deref() == Some(token.as_str()) {
            return Ok(());
        }
        let moved = self.calls.move_label(path.as_str(), PENDING, holder.as_deref(), Some(&token)).await;
        moved.map_err(|error| error.at(path))
    }

    async fn stage_beside(&self, path: &SecretPath, token: WriteToken, value: &SecretBytes) -> Result<(), TargetError> {
        let beside = Self::beside(path, token)?;
        match self.calls.create(&beside, token, value).await {
            Ok(()) => Ok(()),
            Err(Failure::Exists) => self.compare_existing(path, &beside, token, value).await,
            // One that was deleted a moment ago still has the name for a while.
            Err(Failure::State(text)) => Err(TargetError::Unavailable(text)),
            Err(other) => Err(other.at(path)),
        }
    }

    /// The name of a write is taken: by this document, or by another.
    async fn compare_existing(
        &self,
        path: &SecretPath,
        name: &str,
        token: WriteToken,
        value: &SecretBytes,
    ) -> Result<(), TargetError> {
        match self.calls.version(name, token).await.map_err(|error| error.at(path))? {
            Some(known) => same(path, token, &known.value, value),
            None => Err(TargetError::TokenReused { path: path.clone(), token }),
        }
    }

    async fn staged_document(&self, path: &SecretPath, token: WriteToken) -> Result<Option<SecretBytes>, TargetError> {
        let found = self.calls.version(path.as_str(), token).await.map_err(|error| error.at(path))?;
        if let Some(found) = found {
            let waiting = found.stages.iter().any(|label| label == PENDING);
            return Ok(waiting.then_some(found.value));
        }
        self.waiting_beside(path, token).await
    }

    pub(crate) async fn waiting_beside(
        &self,
        path: &SecretPath,
        token: WriteToken,
    ) -> Result<Option<SecretBytes>, TargetError> {
        let Ok(beside) = Self::beside(path, token) else { return Ok(None) };
        match self.calls.version(&beside, token).await {
            Ok(found) => Ok(found.map(|found| found.value)),
            // Marked for deletion: as good as gone.
            Err(Failure::State(_)) => Ok(None),
            Err(other) => Err(other.at(path)),
        }
    }

    async fn take_away(&self, path: &SecretPath, token: WriteToken) -> Result<(), TargetError> {
        let found = self.described(path).await?;
        if found.holder(PENDING) == Some(token.to_string().as_str()) {
            self.drop_label(path, token).await?;
        }
        self.drop_beside(path, token).await
    }

    pub(crate) async fn drop_label(&self, path: &SecretPath, token: WriteToken) -> Result<(), TargetError> {
        match self.calls.move_label(path.as_str(), PENDING, Some(&token.to_string()), None).await {
            // It is elsewhere or gone already.
            Ok(()) | Err(Failure::Parameter(_) | Failure::NotFound) => Ok(()),
            Err(other) => Err(other.at(path)),
        }
    }

    pub(crate) async fn drop_beside(&self, path: &SecretPath, token: WriteToken) -> Result<(), TargetError> {
        let Ok(beside) = Self::beside(path, token) else { return Ok(()) };
        match self.calls.describe(&beside).await {
            Ok(Some(found)) if !found.marked_for_deletion => {
                self.calls.delete(&beside).await.map_err(|error| error.at(path))
            }
            // An identity without rights on the waiting place has not made one.
            Ok(_) | Err(Failure::Denied(_)) => Ok(()),
            Err(other) => Err(other.at(path)),
        }
    }

    async fn copies(&self, path: &SecretPath) -> Result<Vec<Replica>, TargetError> {
        let found = self.described(path).await?;
        if found.copies.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.calls.current(path.as_str()).await.map_err(|error| error.at(path))?;
        let mut replicas = Vec::with_capacity(found.copies.len());
        for (region, status) in found.copies {
            let there = Calls::new(self.account.client(&region)).current(path.as_str()).await;
            let (read_back, status) = match there {
                Ok(copy) => (copy.version == live.version && copy.value == live.value, status),
                Err(failure) => (false, format!("{status}; not read back: {}", failure.at(path))),
            };
            replicas.push(Replica { in_step: read_back && status == "InSync", region, status });
        }
        Ok(replicas)
    }

    async fn places(&self, prefix: &str, limit: usize) -> Result<Vec<SecretPath>, TargetError> {
        let mut places = Vec::new();
        let listed = self.calls.list(prefix, |name, live| {
            if live && name.starts_with(prefix) && !is_beside(name) && places.len() < limit {
                // A name that no place of keyholder's can have is none that it could use.
                places.extend(name.parse::<SecretPath>());
            }
            places.len() < limit
        });
        listed.await.map_err(listing)?;
        Ok(places)
    }
}

fn listing(failure: Failure) -> TargetError {
    match failure {
        Failure::NotFound | Failure::Exists => TargetError::Unusable("the list was refused".to_owned()),
        Failure::Parameter(text) | Failure::State(text) | Failure::Refused(text) => TargetError::Unusable(text),
        Failure::Signature(text) | Failure::Identity(text) => TargetError::Unauthenticated(text),
        Failure::Denied(text) => TargetError::Denied(text),
        Failure::Throttled(after) => TargetError::Throttled(after),
        Failure::Unavailable(text) | Failure::Unknown(text) => TargetError::Unavailable(text),
    }
}

/// Whether a name is a waiting place.
fn is_beside(name: &str) -> bool {
    name.rsplit_once(BESIDE).is_some_and(|(_, token)| token.len() == TOKEN_CHARS)
}

fn check_document(token: WriteToken, value: &SecretBytes) -> Result<(), TargetError> {
    let size = value.expose().len();
    if size > VALUE_MAX {
        return Err(TargetError::TooLarge { size, max: VALUE_MAX });
    }
    if Marker::read(value).is_none_or(|marker| marker.write != token) {
        return Err(TargetError::Unusable("the document does not name this write".to_owned()));
    }
    Ok(())
}

fn same(path: &SecretPath, token: WriteToken, known: &SecretBytes, value: &SecretBytes) -> Result<(), TargetError> {
    if known == value {
        return Ok(());
    }
    Err(TargetError::TokenReused { path: path.clone(), token })
}

impl SecretTarget for AwsStore {
    fn traits(&self) -> TargetTraits {
        TargetTraits { kind: "aws", compare_and_set: true, value_bytes_max: VALUE_MAX, replicas: true }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            let read = self.calls.current(path.as_str()).await.map_err(|error| error.at(path))?;
            Ok(LiveSecret { value: read.value, version: VersionId(read.version) })
        })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move {
            let found = self.described(path).await?;
            let current = found.holder(CURRENT).filter(|_| !found.marked_for_deletion);
            current.map(|id| VersionId(id.to_owned())).ok_or_else(|| TargetError::NotFound(path.clone()))
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
        Box::pin(self.staged_document(path, token))
    }

    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(self.make_live(path, token, expect))
    }

    fn unstage<'a>(&'a self, path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(self.take_away(path, token))
    }

    fn replicas<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        Box::pin(self.copies(path))
    }

    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(self.places(prefix, limit))
    }
}
