//! How old a credential's secret is, when that makes it due, and whom that concerns.
//!
//! Invariant: reads alone. A secret whose age nobody knows is due: nothing says that it is young. Nobody knows it where
//! the platform answers without a date, and not where it does not answer. One that a person killed is not due, however
//! old it is: it was not to be replaced. Where the killing was left to the person, the platform tells whether it was
//! carried out: the client is switched off then. A check that fails begins nothing, and is made again after a pause.

use std::time::Duration;

use kh_core::{
    CredentialName, UnixMillis,
    credential::CredentialDocument,
    port::{JournalError, ManageError, Notice, Urgency, rotation_journal::StoredRun},
    rotation::Marker,
};
use kh_rotation::{End, Level, Policy, Record, Step, due, schedule::age_percent};
use uuid::Uuid;

use super::{AGE_FRESH, Scheduler};
use crate::{
    begin::{NotBegun, readable},
    services::Services,
    session::Halt,
    subject::Subject,
};

/// Shares of the interval at which people are told, in percent; a rotation begins before the first one by default.
const TOLD_AT: [u64; 3] = [100, 90, 80];

/// How long the schedule begins no run after one that a person gave up: time to find out why, or to place a hold.
const GIVEN_UP_FOR: Duration = Duration::from_hours(24);

/// Until when the schedule leaves `credential` alone, where a person gave its newest run up.
///
/// # Errors
///
/// When the journal cannot be read.
pub async fn given_up_until(
    services: &Services,
    credential: &CredentialName,
) -> Result<Option<UnixMillis>, JournalError> {
    let over = newest_over(services, credential).await?;
    let given_up =
        over.filter(|(_, end)| matches!(end, End::Aborted { .. } | End::RolledBack { .. } | End::Abandoned { .. }));
    Ok(given_up.and_then(|(run, _)| run.ended_at).map(|ended_at| ended_at.plus(GIVEN_UP_FOR)))
}

/// Why the schedule leaves a credential alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtRest {
    /// Its newest run killed the secret.
    Killed,
    /// Its newest run left the killing to a person, who switched the client off.
    SwitchedOff,
}

/// Whether and why the schedule leaves the credential of `subject` alone while `document` is in its first store.
///
/// # Errors
///
/// When the journal cannot be read, or the platform cannot be asked.
pub async fn at_rest(
    services: &Services,
    subject: &Subject,
    document: &CredentialDocument,
) -> Result<Option<AtRest>, NotBegun> {
    let Some((stored, end)) = newest_over(services, &subject.credential).await? else { return Ok(None) };
    if matches!(end, End::Completed { .. } | End::RolledBack { .. }) {
        return Ok(None);
    }
    let Some(run) = readable(&stored) else { return Ok(None) };
    let same = run.baseline().is_some_and(|base| base.old == document.fingerprint(&services.fingerprinter));
    if !same {
        return Ok(None);
    }
    let began = run.began();
    if end == End::Killed || (began.level == Level::Kill && run.pruned_at().is_some()) {
        return Ok(Some(AtRest::Killed));
    }
    // the last secret of a client is not deleted: who ends such a run was told to disable the client, or thought better
    let left = began.level == Level::Kill && !began.platform.reversible_stop;
    let is_off = left && is_switched_off(subject, document).await.map_err(NotBegun::Platform)?;
    Ok(is_off.then_some(AtRest::SwitchedOff))
}

/// Whether the platform has the client switched off.
async fn is_switched_off(subject: &Subject, document: &CredentialDocument) -> Result<bool, ManageError> {
    let Some(strategy) = subject.strategy() else { return Ok(false) };
    let bound = crate::session::call_timeout(&subject.policy);
    let looking = tokio::time::timeout(bound, subject.management.check(document, strategy, subject.by)).await;
    match looking.unwrap_or_else(|_| Err(late())) {
        Ok(found) => Ok(found.switched_off),
        // the client itself is gone
        Err(ManageError::NotFound(_)) => Ok(true),
        Err(ManageError::Unsupported) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What only reads has done nothing, however late its answer is.
fn late() -> ManageError {
    ManageError::NotDone { reason: "it did not answer in time".to_owned() }
}

/// The newest run of `credential` and how it ended, where it is over.
async fn newest_over(
    services: &Services,
    credential: &CredentialName,
) -> Result<Option<(StoredRun, End)>, JournalError> {
    let newest = services.journal.runs(Some(credential), 1).await?.into_iter().next();
    let Some(run) = newest.filter(|run| run.ended_at.is_some()) else { return Ok(None) };
    let last = run.records.last().and_then(|stored| Record::parse(&stored.record).ok());
    let Some(Record { step: Step::Ended { end }, .. }) = last else { return Ok(None) };
    Ok(Some((run, end)))
}

impl Scheduler {
    /// When the credential is due that has no unfinished run, from what its first store and the platform say now.
    pub(super) async fn due(&self, subject: &Subject) -> Result<UnixMillis, NotBegun> {
        // also where its age cannot be told
        if let Some(entry) = self.entries.lock().get_mut(&subject.credential) {
            entry.overview.run = None;
        }
        let first = subject.stores.first().ok_or(NotBegun::NoStore)?;
        let read = first.target.live(&first.path);
        let bound = crate::session::call_timeout(&subject.policy);
        let live = tokio::time::timeout(bound, read).await.map_err(|_| Halt::TimedOut(first.name.clone()))?;
        let live = live.map_err(|error| NotBegun::Store { store: first.name.clone(), error })?;
        let document = CredentialDocument::parse(&live.value).ok();
        if let Some(document) = &document
            && at_rest(&self.services, subject, document).await?.is_some()
        {
            // until somebody writes another one its age concerns nobody either
            if let Some(entry) = self.entries.lock().get_mut(&subject.credential) {
                (entry.overview.due_at, entry.overview.created_at) = (None, None);
            }
            return Ok(self.services.now().plus(AGE_FRESH));
        }
        let marker = Marker::read(&live.value);
        let generation = marker.as_ref().map_or(1, |marker| marker.generation);
        let created_at = match &marker {
            Some(marker) => Some(marker.created_at),
            None => match &document {
                Some(document) => made_at(subject, document).await.map_err(NotBegun::Platform)?,
                None => None,
            },
        };
        let now = self.services.now();
        let policy = Policy { calendar: subject.times.calendar(now), ..subject.policy.clone() };
        let by_age = created_at.map_or(now, |created_at| due(&policy, &subject.credential, generation, created_at));
        let due_at =
            given_up_until(&self.services, &subject.credential).await?.map_or(by_age, |until| until.max(by_age));
        if let Some(entry) = self.entries.lock().get_mut(&subject.credential) {
            if entry.overview.generation.replace(generation) != Some(generation) {
                entry.told_percent = 0;
            }
            entry.overview.created_at = created_at;
            entry.overview.due_at = Some(due_at);
        }
        if let Some(created_at) = created_at {
            self.tell_age(subject, generation, age_percent(&policy, created_at, now));
        }
        // a window may have been open when it fell due and be closed now
        Ok(due_at.max(policy.calendar.closed_until(now, now.plus(policy.backoff.most)).unwrap_or(due_at)))
    }

    fn tell_age(&self, subject: &Subject, generation: u64, percent: u64) {
        let Some(reached) = TOLD_AT.into_iter().find(|at| percent >= *at) else { return };
        {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(&subject.credential) else { return };
            if entry.told_percent >= reached {
                return;
            }
            entry.told_percent = reached;
        }
        let name = format!("keyholder rotation age\n{}\n{generation}\n{reached}", subject.credential);
        self.services.notifier.notify(Notice {
            id: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
            kind: "rotation.age".to_owned(),
            urgency: if reached >= 100 { Urgency::Critical } else { Urgency::Warning },
            at: self.services.now(),
            credential: Some(subject.credential.clone()),
            run: None,
            summary: format!("the secret of {} has reached {percent}% of its longest age", subject.credential),
            next: Some(format!("keyholder rotate plan {}", subject.credential)),
        });
    }
}

/// When the platform says that a secret was made that keyholder did not make; none where it does not tell.
async fn made_at(subject: &Subject, document: &CredentialDocument) -> Result<Option<UnixMillis>, ManageError> {
    let Some(id) = subject.management.id_of(document) else { return Ok(None) };
    let bound = crate::session::call_timeout(&subject.policy);
    let listing = tokio::time::timeout(bound, subject.management.list(document, subject.by)).await;
    match listing.unwrap_or_else(|_| Err(late())) {
        Ok(listed) => Ok(listed.into_iter().find(|secret| secret.id == id).and_then(|secret| secret.created_at)),
        Err(ManageError::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}
