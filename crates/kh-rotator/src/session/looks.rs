//! The core's looks as calls of the ports. None of them changes anything.
//!
//! Invariant: a look that fails says so in the view; nothing is taken from an answer that did not come.

use std::time::Duration;

use kh_core::{
    UnixMillis,
    credential::CredentialDocument,
    port::{FetchError, ManageError, TargetError, secret_target::Right},
    rotation::Marker,
};
use kh_rotation::{
    Acting, Escrow, Look,
    view::{Checked, JournalView, List, Listed, Live, LookFailure, TryFailure, Uses},
};

use super::{Halt, Session, call_timeout};
use crate::subject::Store;

/// Lines of a difference in rights that are told.
const RIGHTS_TOLD: usize = 5;

/// Why a look failed.
struct Failed {
    reason: String,
    refused: bool,
}

impl From<&ManageError> for Failed {
    fn from(error: &ManageError) -> Self {
        let refused = match error {
            ManageError::NotDone { .. } | ManageError::Unknown { .. } | ManageError::Throttled { .. } => false,
            ManageError::Denied { .. }
            | ManageError::NotFound(_)
            | ManageError::LimitReached { .. }
            | ManageError::Unsupported => true,
        };
        let reason = match error {
            ManageError::Denied { hint, .. } => format!("{error}: {hint}"),
            other => other.to_string(),
        };
        Self { reason, refused }
    }
}

impl From<&TargetError> for Failed {
    fn from(error: &TargetError) -> Self {
        // a right may be given back, a store unsealed: only what a person must change in the configuration is refused
        Self { reason: error.to_string(), refused: matches!(error, TargetError::Unusable(_)) }
    }
}

/// What a look brings: success or failure, or the session's end.
type Looked<T> = Result<Result<T, Failed>, Halt>;

impl Session {
    /// Looks, and puts what was seen into the view.
    pub(super) async fn look(&mut self, look: Look) -> Result<(), Halt> {
        let at = self.services.now();
        let bound: Duration = call_timeout(&self.policy);
        let looked = match tokio::time::timeout(bound, self.look_at(&look)).await {
            Ok(looked) => looked?,
            Err(_) => Err(Failed { reason: "it did not answer in time".to_owned(), refused: false }),
        };
        match looked {
            Ok(()) => self.view.looked(),
            Err(Failed { reason, refused }) => {
                tracing::debug!(credential = %self.subject.credential, "a look failed: {reason}");
                self.view.look_failed(LookFailure { look, at, reason, refused });
            }
        }
        Ok(())
    }

    async fn look_at(&mut self, look: &Look) -> Looked<()> {
        let at = self.services.now();
        match look {
            Look::Check { by } => {
                let checked = self.checked(*by).await?;
                Ok(checked.map(|checked| self.view.check = Some(checked)))
            }
            Look::List { by } => {
                let listed = self.listed(*by, at).await?;
                Ok(listed.map(|list| self.view.list = Some(list)))
            }
            Look::Live { store } => {
                let live = self.served(store).await?;
                Ok(live.map(|live| drop(self.view.live.insert(store.clone(), live))))
            }
            Look::Try { document } => {
                let result = self.tried(*document).await?;
                self.view.tried(*document, self.services.now(), result);
                Ok(Ok(()))
            }
            Look::Token => {
                let token = self.opened(Escrow::Token).await?.into_text();
                let Some(token) = token else {
                    return Ok(Err(Failed { reason: "the token in escrow is no text".to_owned(), refused: true }));
                };
                let works = self.subject.management.probe(&token).await;
                Ok(works.map(|works| self.view.token = Some(works)).map_err(|error| Failed::from(&error)))
            }
            Look::Journal => {
                self.view.journal = Some(self.journal_view(at).await?);
                Ok(Ok(()))
            }
            Look::Uses { id, since, by } => {
                let actor = match self.actor(*by).await? {
                    Ok(actor) => actor,
                    Err(error) => return Ok(Err(Failed::from(&error))),
                };
                let counted = actor.management.used_since(id, *since, actor.by).await;
                let uses = |count| Uses { id: id.clone(), since: *since, count };
                Ok(counted.map(|count| self.view.uses = Some(uses(count))).map_err(|error| Failed::from(&error)))
            }
        }
    }

    /// The document that names the client; before the preflight the first store is read for it.
    async fn named(&mut self) -> Looked<CredentialDocument> {
        if let Some(current) = self.current().await? {
            return Ok(Ok(current));
        }
        let Some(first) = self.subject.stores.first().map(|store| store.name.clone()) else {
            return Ok(Err(Failed { reason: "no store is configured".to_owned(), refused: true }));
        };
        if let Err(failed) = self.served(&first).await? {
            return Ok(Err(failed));
        }
        let nothing = || Failed { reason: format!("{first} has no credential to rotate"), refused: true };
        Ok(self.live.get(&first).map(CredentialDocument::copied).ok_or_else(nothing))
    }

    async fn checked(&mut self, by: Acting) -> Looked<Checked> {
        let current = match self.named().await? {
            Ok(current) => current,
            Err(failed) => return Ok(Err(failed)),
        };
        let actor = match self.actor(by).await? {
            Ok(actor) => actor,
            Err(error) => return Ok(Err(Failed::from(&error))),
        };
        let strategy = self.run.began().strategy;
        let check = match actor.management.check(&current, strategy, actor.by).await {
            Ok(check) => check,
            Err(error) => return Ok(Err(Failed::from(&error))),
        };
        let mut checked = Checked { obstacles: check.obstacles, warnings: check.warnings };
        if check.free == Some(0) && strategy != kh_core::port::Strategy::Swap {
            checked.obstacles.push("the platform takes no more secrets: delete one that nobody uses".to_owned());
        }
        for Store { name, path, target } in &self.subject.stores {
            let seen = match target.check(path).await {
                Ok(seen) => seen,
                Err(error) => return Ok(Err(Failed::from(&error))),
            };
            for (right, what) in [(seen.read, "read"), (seen.write, "write")] {
                if right == Right::Denied {
                    checked.obstacles.push(format!("keyholder may not {what} {path} in {name}: grant it"));
                }
            }
            checked.warnings.extend(seen.warnings.into_iter().map(|warning| format!("{name}: {warning}")));
        }
        Ok(Ok(checked))
    }

    async fn listed(&mut self, by: Acting, at: UnixMillis) -> Looked<List> {
        let current = match self.named().await? {
            Ok(current) => current,
            Err(failed) => return Ok(Err(failed)),
        };
        let actor = match self.actor(by).await? {
            Ok(actor) => actor,
            Err(error) => return Ok(Err(Failed::from(&error))),
        };
        let listed = actor.management.list(&current, actor.by).await;
        Ok(listed.map_err(|error| Failed::from(&error)).map(|secrets| List {
            at,
            secrets: secrets
                .into_iter()
                .map(|secret| Listed { id: secret.id, name: secret.name, active: secret.active })
                .collect(),
        }))
    }

    /// What a store serves; its document is remembered for the escrow.
    async fn served(&mut self, name: &str) -> Looked<Live> {
        let Some(Store { target, path, .. }) = self.subject.store(name) else {
            return Ok(Err(Failed { reason: format!("there is no store {name} any more"), refused: true }));
        };
        let mut live = Live { version: None, fingerprint: None, id: None, run: None, behind: Vec::new() };
        let found = match target.live(path).await {
            Ok(found) => found,
            Err(TargetError::NotFound(_)) => {
                self.live.remove(name);
                return Ok(Ok(live));
            }
            Err(error) => return Ok(Err(Failed::from(&error))),
        };
        match target.replicas(path).await {
            Ok(replicas) => {
                live.behind = replicas.into_iter().filter(|copy| !copy.in_step).map(|copy| copy.region).collect();
            }
            Err(error) => return Ok(Err(Failed::from(&error))),
        }
        live.version = Some(found.version);
        live.run = Marker::read(&found.value).map(|marker| marker.run);
        // a document that somebody broke is served all the same: it has a version and no fingerprint
        if let Ok(document) = CredentialDocument::parse(&found.value) {
            live.fingerprint = Some(document.fingerprint(&self.services.fingerprinter));
            live.id = self.subject.management.id_of(&document);
            self.live.insert(name.to_owned(), document);
        } else {
            self.live.remove(name);
        }
        Ok(Ok(live))
    }

    /// One login with a document of the escrow, a probe with its token, and a comparison of rights.
    async fn tried(&self, which: Escrow) -> Result<Result<(), TryFailure>, Halt> {
        let document = self.document(which).await?;
        let token = match self.subject.endpoint.fetch(&document, None).await {
            Ok(issued) => issued.access_token,
            Err(FetchError::Rejected { platform_code, .. }) => return Ok(Err(TryFailure::Dead(platform_code))),
            Err(error) => return Ok(Err(TryFailure::Unreachable(error.to_string()))),
        };
        match self.subject.management.probe(&token).await {
            Ok(true) | Err(ManageError::Unsupported) => {}
            Ok(false) => return Ok(Err(TryFailure::Dead("its token is not accepted".to_owned()))),
            Err(ManageError::Denied { platform_code, .. }) => return Ok(Err(TryFailure::Rights(platform_code))),
            Err(error) => return Ok(Err(TryFailure::Unreachable(error.to_string()))),
        }
        if which == Escrow::New { self.parity().await } else { Ok(Ok(())) }
    }

    /// Whether the new secret may do what the old one may, where both have ids and the platform tells.
    async fn parity(&self) -> Result<Result<(), TryFailure>, Halt> {
        let old = self.run.baseline().and_then(|base| base.old_id.as_ref());
        let new = self.run.new_secret().and_then(|new| new.id.as_ref());
        let (Some(old), Some(new)) = (old, new) else { return Ok(Ok(())) };
        if self.run.pruned_at().is_some() {
            return Ok(Ok(()));
        }
        // the second identity may be the one that is rotated: the first one asks, as for every look
        let (management, by) = (&self.subject.management, self.run.began().by);
        let both = match (management.rights(old, by).await, management.rights(new, by).await) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(ManageError::Unsupported), _) | (_, Err(ManageError::Unsupported)) => return Ok(Ok(())),
            // its deletion was carried out and the answer lost: they were the same when the new one was verified
            (Err(ManageError::NotFound(_)), Ok(_)) if self.run.promoted_at().is_some() => return Ok(Ok(())),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(TryFailure::Unreachable(error.to_string()))),
        };
        if both.0 == both.1 {
            return Ok(Ok(()));
        }
        let missing = both.0.lines.iter().filter(|line| !both.1.lines.contains(line)).map(|line| format!("-{line}"));
        let added = both.1.lines.iter().filter(|line| !both.0.lines.contains(line)).map(|line| format!("+{line}"));
        let told: Vec<_> = missing.chain(added).take(RIGHTS_TOLD).collect();
        Ok(Err(TryFailure::Rights(format!("its rights differ: {}", told.join(", ")))))
    }

    async fn journal_view(&self, at: UnixMillis) -> Result<JournalView, Halt> {
        let (journal, began) = (&self.services.journal, self.run.began());
        Ok(JournalView {
            at,
            hold: journal.hold(&began.credential).await?,
            approvals: journal.approvals(began.run).await?,
            sightings: journal.sightings(&began.credential).await?,
        })
    }
}
