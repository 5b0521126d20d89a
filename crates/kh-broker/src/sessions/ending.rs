//! How sessions end, and what is counted of them.
//!
//! Invariant: an end is told, counted and audited once, by whoever wrote it.

use std::sync::atomic::{AtomicU64, Ordering};

use kh_core::{
    ClientId, CredentialName, Sha256,
    audit::AuditEvent,
    port::StateError,
    session::{SessionEnd, SessionName},
};

use super::{UserSessions, live::Live};
use crate::status::count;

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) begun: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) renewed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) ended: [AtomicU64; SessionEnd::ALL.len()],
}

/// What happened since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionCounts {
    /// Sessions that began.
    pub begun: u64,
    /// Renewals that brought a token.
    pub renewed: u64,
    /// Renewals that the platform certainly did not carry out.
    pub failed: u64,
    /// Renewals whose answer is lost.
    pub lost: u64,
    /// Renewals that the platform refused for good.
    pub refused: u64,
}

impl UserSessions {
    /// Ends a session for a reason that lies in itself; audited.
    pub(crate) async fn end(&self, live: &Live, end: SessionEnd) {
        live.inner.lock().end.get_or_insert(end);
        live.lease.store(None);
        live.wake(false);
        self.ended(live.token, &live.client, &live.credential, end).await;
        self.live.write().remove(&live.token);
    }

    /// Ends a session because a person wants it, whose order `event` is; its keyholder token goes with it. No token of it
    /// is handed out here when this returns, and the platform's is given back within seconds. `Ok(false)`: it had ended
    /// before, or there is none.
    pub async fn end_by_operator(&self, token: Sha256, event: AuditEvent) -> Result<bool, StateError> {
        let ended = self.store.end_session(token, SessionEnd::Operator, event).await?;
        self.forget(token, SessionEnd::Operator);
        self.closing.notify_one();
        Ok(ended)
    }

    pub(super) async fn ended(&self, token: Sha256, client: &ClientId, credential: &CredentialName, end: SessionEnd) {
        let ports = self.broker.ports();
        let name = SessionName::of(token);
        let (whose, now) = ((token, client, credential), ports.clock.now().wall);
        let event = end.event(whose, ("keyholder", None), (&*ports.entropy, now));
        match self.store.end_session(token, end, event).await {
            Ok(true) => {
                self.count_end(end);
                tell(&name.to_string(), client, credential, end);
            }
            Ok(false) => {}
            // what is in the state stands; it is decided anew with the next call
            Err(error) => {
                tracing::warn!(client.id = %client, session.id = %name, "a session could not be ended: {error}");
            }
        }
        self.closing.notify_one();
    }

    pub(super) fn count_end(&self, end: SessionEnd) {
        if let Some(counter) =
            SessionEnd::ALL.iter().position(|one| *one == end).and_then(|at| self.counters.ended.get(at))
        {
            count(counter);
        }
    }

    /// Sessions in memory, for metrics.
    pub fn in_memory(&self) -> usize {
        self.live.read().len()
    }

    /// What happened since the start.
    pub fn counts(&self) -> SessionCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionCounts {
            begun: read(&self.counters.begun),
            renewed: read(&self.counters.renewed),
            failed: read(&self.counters.failed),
            lost: read(&self.counters.lost),
            refused: read(&self.counters.refused),
        }
    }

    /// How many sessions ended since the start, by reason.
    pub fn ends(&self) -> impl Iterator<Item = (SessionEnd, u64)> + '_ {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionEnd::ALL.into_iter().zip(self.counters.ended.iter().map(read))
    }
}

pub(super) fn tell(name: &str, client: &ClientId, credential: &CredentialName, end: SessionEnd) {
    let (client, credential, reason) = (client.as_str(), credential.as_str(), end.as_str());
    match end {
        SessionEnd::RefreshRefused | SessionEnd::RefreshLost => tracing::warn!(
            client.id = client,
            credential.name = credential,
            session.id = name,
            session.end = reason,
            "the platform renews a user's session no more; the user has to log in again"
        ),
        SessionEnd::TokenRevoked
        | SessionEnd::ClientDisabled
        | SessionEnd::Expired
        | SessionEnd::Idle
        | SessionEnd::Operator
        | SessionEnd::NotRenewable => tracing::info!(
            client.id = client,
            credential.name = credential,
            session.id = name,
            session.end = reason,
            "a user's session ended"
        ),
    }
}
