//! Making a staged document live.
//!
//! Invariants: the label `AWSCURRENT` moves only from the version that the caller planned with
//! (`RemoveFromVersionId`, which the service compares), so of two promotions from one version one wins; whatever was
//! lost of an answer, the same promotion again ends in the same state; labels move one at a time, and not while a copy
//! in another region is under way, because two moves in a row have left copies stuck
//! (square/password-rotation-lambda#12).

use kh_core::{
    port::TargetError,
    rotation::{SecretPath, VersionId, WriteToken},
};
use tokio::time::Instant;

use crate::{
    calls::{CURRENT, Described, PENDING},
    failure::Failure,
    store::AwsStore,
};

impl AwsStore {
    pub(crate) async fn make_live(
        &self,
        path: &SecretPath,
        token: WriteToken,
        expect: Option<&VersionId>,
    ) -> Result<VersionId, TargetError> {
        let write = token.to_string();
        let reads = self.account.settings().settle.reads;
        // What does not fit is looked at again: a read may lag behind our own writes of a moment ago.
        let fits = |found: &Described| match found.holder(CURRENT) {
            Some(current) if current == write => true,
            Some(current) => {
                expect.is_some_and(|expect| expect.0 == current) && found.holder(PENDING) == Some(write.as_str())
            }
            None => expect.is_none(),
        };
        let found = self.settled(path, reads, fits).await?;
        if found.marked_for_deletion {
            return Err(TargetError::Unusable("the secret is marked for deletion".to_owned()));
        }
        match (found.holder(CURRENT), expect) {
            (Some(current), _) if current == write => self.tidied(path, token, &found).await,
            (Some(current), Some(expect)) if expect.0 == current => {
                if found.holder(PENDING) != Some(write.as_str()) {
                    return Err(TargetError::NotFound(path.clone()));
                }
                self.move_current(path, token, expect).await
            }
            (None, None) => self.first(path, token, &found).await,
            (current, _) => Err(conflict(path, current)),
        }
    }

    /// The move itself.
    async fn move_current(
        &self,
        path: &SecretPath,
        token: WriteToken,
        expect: &VersionId,
    ) -> Result<VersionId, TargetError> {
        let write = token.to_string();
        if let Some(region) = self.still_copying(path).await? {
            let told = format!("the copy in {region} is still under way; nothing was promoted");
            return Err(TargetError::Unavailable(told));
        }
        match self.calls.move_label(path.as_str(), CURRENT, Some(&expect.0), Some(&write)).await {
            Ok(()) => {}
            Err(Failure::Parameter(text)) => return self.refused(path, token, expect, &text).await,
            Err(Failure::NotFound) => return self.refused(path, token, expect, "a version is gone").await,
            Err(other) => return Err(other.at(path)),
        }
        self.leave_label(path, token).await;
        self.leave_beside(path, token).await;
        Ok(VersionId(write))
    }

    /// The service refused the move: somebody else was faster, or we were, by a call whose answer got lost.
    async fn refused(
        &self,
        path: &SecretPath,
        token: WriteToken,
        expect: &VersionId,
        text: &str,
    ) -> Result<VersionId, TargetError> {
        let write = token.to_string();
        let reads = self.account.settings().settle.reads;
        let found = self.settled(path, reads, |found| found.holder(CURRENT) != Some(expect.0.as_str())).await?;
        match found.holder(CURRENT) {
            Some(current) if current == write => self.tidied(path, token, &found).await,
            Some(current) if current == expect.0 => match found.holder(PENDING) {
                Some(pending) if pending == write => Err(TargetError::Unusable(text.to_owned())),
                _ => Err(TargetError::NotFound(path.clone())),
            },
            current => Err(conflict(path, current)),
        }
    }

    /// Nothing is live: the document waits in a place of its own.
    async fn first(&self, path: &SecretPath, token: WriteToken, found: &Described) -> Result<VersionId, TargetError> {
        let Some(value) = self.waiting_beside(path, token).await? else {
            return Err(TargetError::NotFound(path.clone()));
        };
        // A secret that somebody made without a value, as infrastructure code does, still has no live version: its
        // first one becomes current by itself, and if another was faster ours only gets our own label.
        let put = self.calls.put(path.as_str(), token, &value).await.map(drop);
        let made = match put {
            Err(Failure::NotFound) if found.stages.is_empty() => self.calls.create(path.as_str(), token, &value).await,
            other => other,
        };
        match made {
            Ok(()) | Err(Failure::Exists) => {}
            Err(other) => return Err(other.at(path)),
        }
        let reads = self.account.settings().settle.reads;
        let found = self.settled(path, reads, |found| found.holder(CURRENT).is_some()).await?;
        match found.holder(CURRENT) {
            Some(current) if current == token.to_string() => self.tidied(path, token, &found).await,
            current => {
                self.leave_label(path, token).await;
                Err(conflict(path, current))
            }
        }
    }

    /// The write is live: what is left of its waiting is removed.
    async fn tidied(&self, path: &SecretPath, token: WriteToken, found: &Described) -> Result<VersionId, TargetError> {
        if found.holder(PENDING) == Some(token.to_string().as_str()) {
            self.leave_label(path, token).await;
        }
        self.leave_beside(path, token).await;
        Ok(VersionId(token.to_string()))
    }

    /// Removes the waiting place, whatever was live before: the secret may have been made after the first staging.
    async fn leave_beside(&self, path: &SecretPath, token: WriteToken) {
        if let Err(error) = self.drop_beside(path, token).await {
            tracing::warn!(
                secret.path = %path, secret.write = %token, error.message = %error,
                "a staged copy of a secret that is live now is left in AWS Secrets Manager"
            );
        }
    }

    /// Removes keyholder's label from a version that is live, once no copy is under way. That it stays does no harm (the
    /// next staging moves it), and the promotion is done: so a failure here is no failure of the promotion. With a copy
    /// that stays under way the label stays too: `replicas` tells of it, which pruning waits for.
    async fn leave_label(&self, path: &SecretPath, token: WriteToken) {
        let left = match self.still_copying(path).await {
            Ok(Some(_region)) => return,
            Ok(None) => self.drop_label(path, token).await,
            Err(error) => Err(error),
        };
        if let Err(error) = left {
            tracing::debug!(
                secret.path = %path, secret.write = %token, error.message = %error,
                "the label KH_PENDING stays until the next rotation"
            );
        }
    }

    /// Waits until no copy is under way, bounded. Tells the region of one that still is.
    async fn still_copying(&self, path: &SecretPath) -> Result<Option<String>, TargetError> {
        let settle = self.account.settings().settle;
        let until = Instant::now() + settle.copies;
        loop {
            let found = self.described(path).await?;
            let Some(region) = found.copying() else { return Ok(None) };
            if Instant::now() + settle.pause > until {
                return Ok(Some(region.to_owned()));
            }
            tokio::time::sleep(settle.pause).await;
        }
    }
}

fn conflict(path: &SecretPath, found: Option<&str>) -> TargetError {
    TargetError::Conflict { path: path.clone(), found: found.map(|id| VersionId(id.to_owned())) }
}
