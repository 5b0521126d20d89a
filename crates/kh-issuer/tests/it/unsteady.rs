//! A state that does all that it is told and does not always say so, or not at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use kh_core::{
    ClientId, Sha256, UnixMillis,
    audit::AuditEvent,
    port::{BoxFuture, ClientRecord, StateError, StateStore, TokenRecord},
};
use kh_state::SqliteState;
use tokio::sync::Semaphore;

pub(crate) struct Unsteady {
    pub(crate) inner: Arc<SqliteState>,
    /// Changes of clients that were asked for.
    pub(crate) updates: AtomicUsize,
    /// How many of the next changes of clients are written and then reported as failed: the disk answers too late.
    pub(crate) lost_answers: AtomicUsize,
    /// How tokens are added.
    pub(crate) slow_issue: Option<Slow>,
    /// How tokens are removed.
    pub(crate) slow_removal: Option<Slow>,
}

/// A change is done, and nobody is told before the gate lets the answer through.
pub(crate) struct Slow {
    pub(crate) done: Semaphore,
    pub(crate) gate: Semaphore,
}

impl Default for Slow {
    fn default() -> Self {
        Self { done: Semaphore::new(0), gate: Semaphore::new(0) }
    }
}

impl Slow {
    async fn pass(&self) {
        self.done.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
    }
}

impl Unsteady {
    /// One that is steady for now.
    pub(crate) fn over(inner: Arc<SqliteState>) -> Self {
        let (updates, lost_answers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { inner, updates, lost_answers, slow_issue: None, slow_removal: None }
    }
}

impl StateStore for Unsteady {
    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientRecord>, StateError>> {
        self.inner.clients()
    }

    fn add_client(&self, client: ClientRecord, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.inner.add_client(client, event)
    }

    fn update_client(
        &self,
        before: ClientRecord,
        after: ClientRecord,
        event: AuditEvent,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move {
            self.updates.fetch_add(1, Ordering::SeqCst);
            self.inner.update_client(before, after, event).await?;
            match self.lost_answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => Err(StateError::Unavailable { reason: "the disk went away".to_owned(), source: None }),
                Err(_) => Ok(()),
            }
        })
    }

    fn remove_client(&self, id: ClientId, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.inner.remove_client(id, event)
    }

    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move {
            self.inner.add_token(token).await?;
            if let Some(slow) = &self.slow_issue {
                slow.pass().await;
            }
            Ok(())
        })
    }

    fn remove_token(&self, digest: Sha256) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move {
            self.inner.remove_token(digest).await?;
            if let Some(slow) = &self.slow_removal {
                slow.pass().await;
            }
            Ok(())
        })
    }

    fn token(&self, digest: Sha256) -> BoxFuture<'_, Result<Option<TokenRecord>, StateError>> {
        self.inner.token(digest)
    }

    fn live_tokens(&self, now: UnixMillis) -> BoxFuture<'_, Result<Vec<TokenRecord>, StateError>> {
        self.inner.live_tokens(now)
    }

    fn change_counter(&self) -> BoxFuture<'_, Result<u64, StateError>> {
        self.inner.change_counter()
    }

    fn setting(&self, key: &str) -> BoxFuture<'_, Result<Option<String>, StateError>> {
        self.inner.setting(key)
    }

    fn set_setting(&self, key: &str, value: &str, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.inner.set_setting(key, value, event)
    }
}
