//! The core's effects as calls of the ports. Each is one call, bounded in time, never repeated here.
//!
//! Invariant: what did not answer in time may have been done, and is told so.

use std::time::Duration;

use kh_core::{
    SecretBytes, SecretString,
    credential::CredentialDocument,
    port::{FetchError, ManageError, Strategy, TargetError},
    rotation::ManagedId,
};
use kh_rotation::{Acting, Effect, Escrow, Outcome};

use super::{Halt, Session, call_timeout, documents::Actor};
use crate::{
    subject::{OldTokens, Revoked, Store},
    told,
};

/// What a call answered, and the secret that came with it.
type Answered = (Outcome, Option<SecretBytes>);

impl Session {
    /// Carries an effect out.
    pub(super) async fn carry_out(&self, effect: &Effect) -> Result<Answered, Halt> {
        let call = self.call(effect);
        match tokio::time::timeout(call_timeout(&self.policy), call).await {
            Ok(answered) => answered,
            Err(_) => Ok((Outcome::Unknown { reason: "it did not answer in time".to_owned() }, None)),
        }
    }

    async fn call(&self, effect: &Effect) -> Result<Answered, Halt> {
        let plain = |outcome| Ok((outcome, None));
        match effect {
            Effect::Mint => self.mint().await,
            Effect::Create { label, by, .. } => self.create(effect, label, *by).await,
            Effect::Regenerate { by, .. } => self.regenerate(effect, *by).await,
            Effect::Stage { store, document, .. } => plain(self.stage(effect, store, *document).await?),
            Effect::Promote { store, token, expect, .. } => {
                let Some(store) = self.subject.store(store) else { return plain(no_store(store)) };
                let promoted = store.target.promote(&store.path, *token, expect.as_ref()).await;
                plain(promoted.map_or_else(|error| Outcome::of_store(&error), |version| Outcome::Promoted { version }))
            }
            Effect::Unstage { store, token } => {
                let Some(store) = self.subject.store(store) else { return plain(no_store(store)) };
                plain(done_by_store(store.target.unstage(&store.path, *token).await))
            }
            Effect::Hook { name, document, .. } => plain(self.hook(effect, name, *document).await?),
            Effect::Stop { id, by } => {
                self.manage(effect, *by, |actor, current| async move {
                    actor.management.set_active(&current, id, false, actor.by).await
                })
                .await
            }
            Effect::Start { id, by } => {
                self.manage(effect, *by, |actor, current| async move {
                    actor.management.set_active(&current, id, true, actor.by).await
                })
                .await
            }
            Effect::Prune { id, by } => {
                self.manage(effect, *by, |actor, current| async move {
                    actor.management.delete(&current, id, actor.by).await
                })
                .await
            }
            Effect::Cleanup { id, by } => {
                self.manage(effect, *by, |actor, current| async move { drop_unused(&actor, &current, id).await }).await
            }
            Effect::RevokeTokens => plain(self.revoke_tokens(effect).await),
        }
    }

    /// Where the platform cannot do it, the run says how long the tokens live, and goes on.
    async fn revoke_tokens(&self, effect: &Effect) -> Outcome {
        if self.run.old_tokens_alive() == Some(false) {
            // one of them was tried after the swap, and was dead
            return Outcome::Done;
        }
        let began = self.run.began();
        let tokens = OldTokens {
            credential: &began.credential,
            strategy: began.strategy,
            id: self.run.baseline().and_then(|base| base.old_id.as_ref()),
            deleted: self.run.pruned_at().is_some(),
        };
        let revoked = match &self.subject.revoker {
            Some(revoker) => revoker.revoke(tokens).await,
            None => Err(ManageError::Unsupported),
        };
        let why = match revoked {
            Ok(Revoked::All) => return Outcome::Done,
            Ok(Revoked::LiveOn(why)) => why,
            Err(ManageError::Unsupported) => "the platform revokes no tokens".to_owned(),
            Err(error) => return Outcome::of_platform(effect, &error),
        };
        let gone_at = self.run.pruned_at().or(self.run.stopped_at()).unwrap_or_else(|| self.services.now());
        let end = gone_at.plus(Duration::from_millis(began.platform.token_life_max_ms));
        let reason = format!("{why}: those made with the old secret live on until {} at most", told::time(end));
        Outcome::Refused { reason, full: false }
    }

    /// Applications get the same token where this process hands tokens out: then it is theirs that outlives the old secret,
    /// or is seen to die with it.
    async fn mint(&self) -> Result<Answered, Halt> {
        let bytes = |token: &SecretString| SecretBytes::new(token.expose().as_bytes().to_vec());
        let began = self.run.began();
        if let Some(supply) = self.subject.supply.as_ref().filter(|_| began.strategy == Strategy::Swap)
            && let Some(fresh) = supply.renew(&began.credential).await
        {
            return Ok((Outcome::Minted { expires_at: fresh.expires_at }, Some(bytes(&fresh.token))));
        }
        let document = self.document(Escrow::Old).await?;
        let now = self.services.now();
        match self.subject.endpoint.fetch(&document, None).await {
            Ok(issued) => {
                let outcome = Outcome::Minted { expires_at: now.plus(issued.expires_in) };
                Ok((outcome, Some(bytes(&issued.access_token))))
            }
            Err(error) => Ok((minting_failed(&error), None)),
        }
    }

    /// The actor and the document that names the client, or why the call was not made.
    async fn prepared(&self, by: Acting) -> Result<Result<(Actor, CredentialDocument), ManageError>, Halt> {
        let current = self.naming().await?;
        Ok(self.actor(by).await?.map(|actor| (actor, current)))
    }

    async fn create(&self, effect: &Effect, label: &str, by: Acting) -> Result<Answered, Halt> {
        let made = match self.prepared(by).await? {
            Ok((actor, current)) => actor.management.create(&current, label, actor.by).await,
            Err(error) => Err(error),
        };
        match made {
            Ok(created) => Ok(self.created(Some(created.id), created.document)),
            Err(error) => Ok((Outcome::of_platform(effect, &error), None)),
        }
    }

    async fn regenerate(&self, effect: &Effect, by: Acting) -> Result<Answered, Halt> {
        let made = match self.prepared(by).await? {
            Ok((actor, current)) => actor.management.regenerate(&current, actor.by).await,
            Err(error) => Err(error),
        };
        match made {
            Ok(document) => Ok(self.created(None, document)),
            Err(error) => Ok((Outcome::of_platform(effect, &error), None)),
        }
    }

    /// A marker that the old document carried is not the new one's.
    fn created(&self, id: Option<ManagedId>, mut document: CredentialDocument) -> Answered {
        document.marker = None;
        let fingerprint = document.fingerprint(&self.services.fingerprinter);
        (Outcome::Created { id, fingerprint }, Some(document.to_json()))
    }

    async fn manage<'a, F, C>(&'a self, effect: &'a Effect, by: Acting, call: C) -> Result<Answered, Halt>
    where
        C: FnOnce(Actor, CredentialDocument) -> F,
        F: Future<Output = Result<(), ManageError>>,
    {
        let done = match self.prepared(by).await? {
            Ok((actor, current)) => call(actor, current).await,
            Err(error) => Err(error),
        };
        Ok((done.map_or_else(|error| Outcome::of_platform(effect, &error), |()| Outcome::Done), None))
    }

    /// Stages a document and reads it back: what the store has must log in as what was given.
    async fn stage(&self, effect: &Effect, name: &str, which: Escrow) -> Result<Outcome, Halt> {
        let Some(Store { target, path, .. }) = self.subject.store(name) else { return Ok(no_store(name)) };
        let mut document = self.document(which).await?;
        document.marker = self.run.marker(effect);
        let Effect::Stage { token, .. } = effect else { return Ok(no_store(name)) };
        if let Err(error) = target.stage(path, *token, &document.to_json()).await {
            return Ok(Outcome::of_store(&error));
        }
        let back = match target.staged(path, *token).await {
            // it is live already: staging it again changed nothing
            Ok(None) => match target.live(path).await {
                Ok(live) => Some(live.value),
                Err(TargetError::NotFound(_)) => None,
                Err(error) => return Ok(Outcome::of_store(&error)),
            },
            Ok(back) => back,
            Err(error) => return Ok(Outcome::of_store(&error)),
        };
        let same = back
            .as_ref()
            .and_then(|bytes| CredentialDocument::parse(bytes).ok())
            .is_some_and(|back| back.sha256().ct_eq(&document.sha256()) && back.marker == document.marker);
        if same {
            return Ok(Outcome::Done);
        }
        let reason = format!("{name} does not give back what was staged");
        Ok(Outcome::NotDone { reason, retry_after_ms: None })
    }

    async fn hook(&self, effect: &Effect, name: &str, which: Escrow) -> Result<Outcome, Halt> {
        let Some(hook) = self.subject.hooks.iter().find(|hook| hook.name() == name) else {
            return Ok(Outcome::Refused { reason: format!("there is no hook {name} any more"), full: false });
        };
        let Some(promotion) = self.run.promotion(effect) else {
            return Ok(Outcome::Refused { reason: "nothing was promoted".to_owned(), full: false });
        };
        let mut document = self.document(which).await?;
        document.marker = None;
        match hook.deliver(&promotion, &document).await {
            Ok(answer) => {
                tracing::debug!(credential = %promotion.credential, hook = name, "the hook answered: {answer}");
                Ok(Outcome::Done)
            }
            Err(error) => Ok(Outcome::of_hook(&error)),
        }
    }
}

/// Deletes a secret that nobody uses. Where a platform deletes only what was stopped before (Genesys Cloud:
/// `cannot.delete.client`), it is stopped first; both may be repeated.
async fn drop_unused(actor: &Actor, current: &CredentialDocument, id: &ManagedId) -> Result<(), ManageError> {
    if actor.management.traits().reversible_stop {
        match actor.management.set_active(current, id, false, actor.by).await {
            Ok(()) | Err(ManageError::Unsupported) => {}
            Err(error) => return Err(error),
        }
    }
    actor.management.delete(current, id, actor.by).await
}

fn no_store(name: &str) -> Outcome {
    Outcome::Refused { reason: format!("there is no store {name} any more"), full: false }
}

fn done_by_store(result: Result<(), TargetError>) -> Outcome {
    result.map_or_else(|error| Outcome::of_store(&error), |()| Outcome::Done)
}

/// A login changes nothing, so that one whose answer was lost was not made.
fn minting_failed(error: &FetchError) -> Outcome {
    let reason = error.to_string();
    match error {
        FetchError::Rejected { .. } | FetchError::Unusable(_) => Outcome::Refused { reason, full: false },
        FetchError::RateLimited { retry_after, .. } | FetchError::Transient { retry_after, .. } => {
            let retry_after_ms = retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            Outcome::NotDone { reason, retry_after_ms }
        }
    }
}
