//! The port [`RotationJournal`] on the state's own threads.

use std::time::Duration;

use kh_core::{
    CredentialName, UnixMillis,
    audit::AuditEvent,
    port::{
        BoxFuture, JournalError, RotationJournal, SightingLog,
        rotation_journal::{Append, Approval, HeldLease, Hold, NewRun, Sighting, StoredRun},
    },
    rotation::RunId,
};
use rusqlite::Connection;

use super::{JournalChange, reads};
use crate::{
    SqliteState,
    failure::Failure,
    sql::{Applied, Change},
};

impl SqliteState {
    async fn journal(&self, change: JournalChange) -> Result<Applied, JournalError> {
        Ok(self.apply(Change::Journal(Box::new(change))).await?)
    }

    async fn journal_read<T, F>(&self, read: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        Ok(self.look(read).await?)
    }
}

impl SightingLog for SqliteState {
    fn sight(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move { self.journal(JournalChange::Sight(sighting)).await.map(drop) })
    }
}

impl RotationJournal for SqliteState {
    fn lease<'a>(
        &'a self,
        name: &'a str,
        owner: &'a str,
        now: UnixMillis,
        life: Duration,
    ) -> BoxFuture<'a, Result<Option<HeldLease>, JournalError>> {
        Box::pin(async move {
            let change = JournalChange::Lease { name: name.to_owned(), owner: owner.to_owned(), now, life };
            match self.journal(change).await? {
                Applied::Lease(lease) => Ok(lease),
                Applied::Changed | Applied::Unchanged | Applied::Deleted(_) | Applied::Session(_) => Ok(None),
            }
        })
    }

    fn release<'a>(&'a self, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move { self.journal(JournalChange::Release(lease.clone())).await.map(drop) })
    }

    fn begin(&self, run: NewRun, lease: HeldLease, event: AuditEvent) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move { self.journal(JournalChange::Begin { run, lease, event }).await.map(drop) })
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move { self.journal(JournalChange::Append(append)).await.map(drop) })
    }

    fn run(&self, id: RunId) -> BoxFuture<'_, Result<StoredRun, JournalError>> {
        Box::pin(async move {
            self.journal_read(move |connection| reads::run(connection, id)).await?.ok_or(JournalError::NotFound(id))
        })
    }

    fn runs<'a>(
        &'a self,
        credential: Option<&'a CredentialName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredRun>, JournalError>> {
        let credential = credential.cloned();
        Box::pin(self.journal_read(move |connection| reads::runs(connection, credential.as_ref(), limit)))
    }

    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<StoredRun>, JournalError>> {
        Box::pin(self.journal_read(reads::unfinished))
    }

    fn escrow<'a>(&'a self, run: RunId, name: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, JournalError>> {
        let name = name.to_owned();
        Box::pin(self.journal_read(move |connection| reads::escrow(connection, run, &name)))
    }

    fn hold<'a>(&'a self, credential: &'a CredentialName) -> BoxFuture<'a, Result<Option<Hold>, JournalError>> {
        let credential = credential.clone();
        Box::pin(self.journal_read(move |connection| reads::hold(connection, &credential)))
    }

    fn set_hold<'a>(
        &'a self,
        credential: &'a CredentialName,
        hold: Option<Hold>,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let credential = credential.clone();
        Box::pin(async move { self.journal(JournalChange::SetHold { credential, hold, event }).await.map(drop) })
    }

    fn approve(&self, run: RunId, approval: Approval, event: AuditEvent) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move { self.journal(JournalChange::Approve { run, approval, event }).await.map(drop) })
    }

    fn approvals(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Approval>, JournalError>> {
        Box::pin(async move {
            let found = self.journal_read(move |connection| reads::approvals(connection, run)).await?;
            found.ok_or(JournalError::NotFound(run))
        })
    }

    fn sightings<'a>(&'a self, credential: &'a CredentialName) -> BoxFuture<'a, Result<Vec<Sighting>, JournalError>> {
        let credential = credential.clone();
        Box::pin(self.journal_read(move |connection| reads::sightings(connection, &credential)))
    }
}
