//! One renewal of a session as an owned task: journalled, sent, recorded.
//!
//! Invariants: the refresh token leaves only after the journal that tells of it is on disk, and only if that write found
//! the version that it was decided on; however the task ends, `flying` is taken back and every waiter is woken; it is
//! not cancelled by a shutdown, which waits for it instead: what was sent must be recorded.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Retry, Sha256,
    credential::CredentialDocument,
    port::{FetchError, Grant, GrantError, IssuedToken},
    session::{RefreshJournal, SessionName},
};
use kh_resilience::Share;
use kh_token::{
    Cause, pause_after,
    policy::{PATIENCE, PAUSE_MIN},
    session::{Landing, begin, land},
};

use super::{UserSessions, live::Live, sealed::Tokens};
use crate::{Credential, TokenError, lease, status::count};

/// How often the record of a renewal is tried to be written, [`WRITE_PAUSE`] apart: a full disk is often freed within
/// the time, and without the record a restart would have to use the old refresh token again.
const WRITE_TRIES: u32 = 20;

/// Between two tries.
const WRITE_PAUSE: Duration = Duration::from_millis(500);

/// The longest time between the answer to a renewal and its record, as long as the state answers.
pub(super) const RECORD_MAX: Duration = WRITE_PAUSE.saturating_mul(WRITE_TRIES);

/// The task of one renewal, and the guard that ends it.
pub(crate) struct Renewal {
    sessions: Arc<UserSessions>,
    live: Arc<Live>,
    has_landed: bool,
}

/// What was let out.
struct Sent {
    version: u64,
    journal: RefreshJournal,
    tokens: Arc<Tokens>,
}

impl Renewal {
    /// Starts it; `live.inner.flying` is set already.
    pub(crate) fn launch(sessions: &Arc<UserSessions>, live: &Arc<Live>) {
        let renewal = Self { sessions: Arc::clone(sessions), live: Arc::clone(live), has_landed: false };
        let ports = sessions.broker.ports();
        // The task is owned by the tracker; its end is told through the session, not through the handle.
        drop(ports.tasks.spawn_on(renewal.run(), &ports.runtime));
    }

    async fn run(mut self) {
        let outcome = self.fly().await;
        self.has_landed = true;
        self.end(outcome.err());
    }

    fn end(&self, error: Option<TokenError>) {
        let sessions = &self.sessions;
        let now = sessions.broker.ports().clock.now();
        let mut inner = self.live.inner.lock();
        inner.flying = false;
        let failed = error.is_some();
        if let Some(error) = error {
            let pause = pause_of(&error, inner.failures, Share::draw(&*sessions.broker.ports().entropy));
            inner.failures = inner.failures.saturating_add(1);
            inner.paused_until = Some(now.mono.saturating_add(pause));
            inner.last_error = Some(error);
        } else {
            (inner.failures, inner.paused_until, inner.last_error) = (0, None, None);
        }
        drop(inner);
        self.live.wake(failed);
    }

    async fn fly(&self) -> Result<(), TokenError> {
        let sessions = &self.sessions;
        let credential = sessions.credential_of(&self.live)?;
        let document = sessions.document(&credential).await?;
        let (mono, deadline) = (sessions.broker.ports().clock.now().mono, credential.spec().policy.fetch_deadline);
        let pass = credential.gate.lock().permit(document.sha256(), mono, deadline)?;
        let Some(sent) = self.let_out(&credential).await? else { return Ok(()) };
        let refresh = sent.tokens.refresh.clone();
        let Some(refresh) = refresh else { return Ok(()) };
        count(&sessions.counters.sent);
        let asked_at = sessions.broker.ports().clock.now().wall;
        let issued = self.ask(&credential, &document, Grant::Refresh(&refresh)).await;
        let landing = landing(&issued, &refresh.sha256());
        let journal = match land(&sent.journal, landing) {
            Ok(journal) => journal,
            Err(end) => {
                credential.gate.lock().refused_the_grant(pass);
                count(&sessions.counters.refused);
                sessions.end(&self.live, end).await;
                return Ok(());
            }
        };
        match issued {
            Ok(issued) => {
                credential.gate.lock().worked(pass);
                let tokens = Tokens::issued(issued, asked_at, (&sent.tokens.refresh, sent.tokens.bases()));
                self.record(&credential, &sent, journal, Arc::new(tokens)).await;
                count(&sessions.counters.renewed);
                Ok(())
            }
            Err(error) => {
                let (source, ports) = (Arc::new(error.cause), sessions.broker.ports());
                let (mono, share) = (ports.clock.now().mono, Share::draw(&*ports.entropy));
                let retry_in = credential.gate.lock().failed(pass, mono, &source, share);
                count(if error.may_be_done { &sessions.counters.lost } else { &sessions.counters.failed });
                tracing::warn!(
                    credential.name = %self.live.credential,
                    client.id = %self.live.client,
                    session.id = %SessionName::of(self.live.token),
                    error.code = %source.code(),
                    may_be_done = error.may_be_done,
                    "a session was not renewed: {source}"
                );
                self.record(&credential, &sent, journal, Arc::clone(&sent.tokens)).await;
                Err(TokenError::Endpoint { source, retry_in })
            }
        }
    }

    /// One request, within the credential's deadline. What the deadline cuts off is lost.
    async fn ask(
        &self,
        credential: &Credential,
        document: &CredentialDocument,
        grant: Grant<'_>,
    ) -> Result<IssuedToken, GrantError> {
        let spec = credential.spec();
        let answer = tokio::time::timeout(spec.policy.fetch_deadline, spec.endpoint.grant(document, grant)).await;
        let issued = answer.unwrap_or_else(|_elapsed| {
            let reason = "the token request: no answer came in time".to_owned();
            let cause = FetchError::Transient { reason, retry_after: None, unreachable: None, correlation_id: None };
            Err(GrantError { cause, may_be_done: true })
        })?;
        if lease::bearer(&issued.access_token).is_some() {
            return Ok(issued);
        }
        let cause = FetchError::Unusable("the token has bytes that a header cannot carry".to_owned());
        Err(GrantError { cause, may_be_done: true })
    }

    /// Journals that the refresh token is about to be sent. `None`: it must not be, or somebody else was faster, and the
    /// session is now as that one left it.
    async fn let_out(&self, credential: &Credential) -> Result<Option<Sent>, TokenError> {
        let sessions = &self.sessions;
        let own = sessions.instances.own();
        let policy = credential.spec().sessions.map(super::SessionPolicy::renewal).unwrap_or_default();
        let (seen, journal, tokens) = {
            let inner = self.live.inner.lock();
            if inner.end.is_some() {
                return Ok(None);
            }
            // this task is the sender of nothing yet: what its own process left in the journal is over
            let sender = inner.sender_before(&*sessions.instances);
            let Some(journal) = begin(&inner.journal, sender, own, policy) else { return Ok(None) };
            (inner.version, journal, Arc::clone(&inner.tokens))
        };
        let sealed = sessions.seal(&self.live, &tokens);
        let written = sessions.store.renew_session(self.live.token, seen, journal, sealed).await;
        let version = match written {
            Ok(Some(version)) => version,
            Ok(None) => {
                sessions.look(&self.live).await.map_err(|error| sessions.unavailable(&error))?;
                return Ok(None);
            }
            Err(error) => return Err(sessions.unavailable(&error)),
        };
        let mut inner = self.live.inner.lock();
        (inner.version, inner.journal) = (version, journal);
        Ok(Some(Sent { version, journal, tokens }))
    }

    /// Records what came, and hands it out. The record comes first; when the disk does not take it, the new token is
    /// handed out all the same, because the old one may be dead, and the next renewal writes it.
    async fn record(&self, credential: &Credential, sent: &Sent, journal: RefreshJournal, tokens: Arc<Tokens>) {
        let sessions = &self.sessions;
        let mut version = sent.version;
        for left in (0..WRITE_TRIES).rev() {
            let sealed = sessions.seal(&self.live, &tokens);
            match sessions.store.renew_session(self.live.token, sent.version, journal, sealed).await {
                Ok(Some(written)) => {
                    version = written;
                    break;
                }
                Ok(None) => return self.too_late(credential, &tokens).await,
                Err(error) if left == 0 => {
                    tracing::error!(
                        client.id = %self.live.client,
                        session.id = %SessionName::of(self.live.token),
                        "a renewed session could not be recorded; it is lost if keyholder ends now: {error}"
                    );
                }
                Err(_) => tokio::time::sleep(WRITE_PAUSE).await,
            }
        }
        let ports = sessions.broker.ports();
        let (now, share) = (ports.clock.now(), Share::draw(&*ports.entropy));
        let mut inner = self.live.inner.lock();
        (inner.version, inner.journal) = (version, journal);
        if !Arc::ptr_eq(&inner.tokens, &tokens) {
            inner.tokens = tokens;
            self.live.hand_out(&mut inner, &credential.spec().policy, now, share);
        }
    }

    /// The session ended while the platform answered: what it gave is given back at once.
    async fn too_late(&self, credential: &Credential, tokens: &Tokens) {
        if let Err(error) = self.sessions.look(&self.live).await {
            tracing::debug!("an ended session could not be read: {error}");
        }
        let endpoint = &credential.spec().endpoint;
        if let Err(error) = endpoint.give_back(&tokens.api_base, &tokens.access).await {
            tracing::warn!(
                client.id = %self.live.client,
                session.id = %SessionName::of(self.live.token),
                "a token that came for an ended session could not be given back: {error}"
            );
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        if !self.has_landed {
            // a panic, or a runtime that is gone: the journal tells of what was sent, and it counts as lost
            let reason = "it ended without an answer";
            self.end(Some(TokenError::NoToken { reason, retry_in: Duration::ZERO }));
        }
    }
}

/// How long a session is not renewed after this failure, which came after `failures` others.
fn pause_of(error: &TokenError, failures: u32, share: Share) -> Duration {
    let asked = match error {
        TokenError::Endpoint { source, retry_in } => match source.as_ref() {
            // all sessions wait a limit out alike; those that meet it again come back one after the other
            FetchError::RateLimited { .. } => {
                let own =
                    if failures == 0 { PAUSE_MIN } else { pause_after(Cause::RateLimited, failures, None, share) };
                return (*retry_in).max(own);
            }
            FetchError::Transient { retry_after, .. } => *retry_after,
            // a caller sits a short pause out; in a long one the document is soon read again, and may be another one
            FetchError::Rejected { .. } => (!retry_in.is_zero() && *retry_in <= PATIENCE).then_some(*retry_in),
            FetchError::Unusable(_) => None,
        },
        other => match other.retry() {
            Retry::After(wait) => (!wait.is_zero()).then_some(wait),
            Retry::Never | Retry::Now => None,
        },
    };
    pause_after(Cause::Transient, failures, asked, share)
}

fn landing(issued: &Result<IssuedToken, GrantError>, sent: &Sha256) -> Landing {
    match issued {
        Ok(issued) => match &issued.refresh_token {
            Some(fresh) if fresh.sha256() != *sent => Landing::Rotated,
            Some(_) | None => Landing::Kept,
        },
        Err(GrantError { may_be_done: true, .. }) => Landing::Lost,
        Err(GrantError { cause: FetchError::Rejected { platform_code, .. }, .. })
            if platform_code == "invalid_grant" =>
        {
            Landing::Refused
        }
        Err(_) => Landing::NotDone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_meets_a_limit_again_waits_longer_than_it_lasts_and_not_as_long_as_the_others() {
        let second = Duration::from_secs(1);
        let source = Arc::new(FetchError::RateLimited { retry_after: None, correlation_id: None });
        let limited = |retry_in| TokenError::Endpoint { source: Arc::clone(&source), retry_in };
        let pause = |retry_in, failures, share| pause_of(&limited(retry_in), failures, share);
        assert_eq!(pause(2 * second, 0, Share::WHOLE), 2 * second);
        assert_eq!(pause(2 * second, 1, Share::NONE), 4 * second);
        assert_eq!(pause(2 * second, 1, Share::WHOLE), 8 * second);
        assert_eq!(pause(120 * second, 1, Share::WHOLE), 120 * second);
    }
}
