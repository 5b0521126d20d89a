//! Keeping memory in step with the store: what other processes changed, tokens they issued, and tokens that expired.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::{
    Sha256,
    issued::{self, IssuedKind},
    port::StateError,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Issuer, Session,
    issuer::LOOKUP_LANES,
    table::{Life, Lookup},
};

/// How often other processes' changes are looked for: the longest time that a token revoked, or a client disabled, by
/// another process still works here. One look costs some ten microseconds.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(250);

/// How often expired tokens are swept out of memory.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// Tokens that outlived the monotonic clock and are deleted in one sweep.
const OUTLIVED_MAX: usize = 1000;

/// How often a load is tried again because a client was changed while it ran.
const LOAD_TRIES: usize = 8;

/// Whose turn it is to look: many may ask at once, one look that began after they asked answers them all.
#[derive(Default)]
pub(crate) struct Turn {
    /// Held while looking, which reads the store; never while holding any other lock.
    looking: tokio::sync::Mutex<Seen>,
    /// Looks that began.
    begun: AtomicU64,
}

#[derive(Default)]
struct Seen {
    /// The change counter that memory is in step with; none before the first load.
    counter: Option<u64>,
    /// Whether the last look succeeded.
    ok: bool,
}

impl Issuer {
    /// Picks up what other processes changed. `Ok(true)`: something was reloaded.
    pub async fn refresh(&self) -> Result<bool, StateError> {
        let asked = self.turn.begun.load(Ordering::SeqCst);
        let mut seen = self.turn.looking.lock().await;
        if seen.ok && self.turn.begun.load(Ordering::SeqCst) > asked {
            return Ok(false);
        }
        self.turn.begun.fetch_add(1, Ordering::SeqCst);
        seen.ok = false;
        let counter = self.store.change_counter().await?;
        let changed = seen.counter != Some(counter);
        if changed {
            self.load_all().await?;
            seen.counter = Some(counter);
        }
        if let Some(revoked) = &self.revoked {
            revoked.follow(self.now()).await?;
        }
        seen.ok = true;
        Ok(changed)
    }

    /// Reads everything again, whatever the change counter says.
    pub(crate) async fn reload(&self) -> Result<(), StateError> {
        let mut seen = self.turn.looking.lock().await;
        self.turn.begun.fetch_add(1, Ordering::SeqCst);
        seen.ok = false;
        let counter = self.store.change_counter().await?;
        self.load_all().await?;
        if let Some(revoked) = &self.revoked {
            revoked.follow(self.now()).await?;
        }
        *seen = Seen { counter: Some(counter), ok: true };
        Ok(())
    }

    /// Only for the holder of the turn.
    async fn load_all(&self) -> Result<(), StateError> {
        for _ in 0..LOAD_TRIES {
            let ticket = self.ledger.begin_load();
            let changes = self.registry.changes();
            // tokens first: a token whose client was added in between would be skipped the other way round
            let tokens = self.store.live_tokens(self.now().wall).await?;
            let clients = self.store.clients().await?;
            let Some(gone) = self.registry.replace(clients, changes) else { continue };
            for record in gone {
                self.ledger.forget_client(&record.id);
            }
            let now = self.now();
            for token in &tokens {
                if let Some((slot, _)) = self.registry.by_id(token.client.as_str()) {
                    ticket.admit(token, slot, now);
                }
            }
            let present: HashSet<Sha256> = tokens.iter().map(|token| token.digest).collect();
            ticket.keep_only(&present);
            return Ok(());
        }
        Err(StateError::Unavailable {
            reason: "the clients change faster than they can be read".to_owned(),
            source: None,
        })
    }

    /// As [`Issuer::session`], then one bounded read-through for a token that another process issued a moment ago.
    /// `Ok(None)` is a firm no (401); an error means that nobody knows (503, never 401: an official SDK that gets a
    /// 401 does not log in again).
    pub async fn session_or_load(&self, token: &[u8]) -> Result<Option<Session>, StateError> {
        if let Some(session) = self.session(token) {
            return Ok(Some(session));
        }
        match std::str::from_utf8(token) {
            Ok(text) if issued::is_well_formed(IssuedKind::Token, text) => self.load_one(Sha256::of(token)).await,
            _ => Ok(None),
        }
    }

    async fn load_one(&self, digest: Sha256) -> Result<Option<Session>, StateError> {
        let [.., last] = digest.0;
        let lane =
            self.lanes.get(usize::from(last) % LOOKUP_LANES).expect("the remainder is below the number of lanes");
        // held while the store is read, so that many requests with one token cost one read
        let _lane = lane.lock().await;
        match self.look_up(digest, self.now()) {
            Lookup::Live(session) => return Ok(Some(session)),
            Lookup::Dead => return Ok(None),
            Lookup::Unknown => {}
        }
        if self.unknown.holds(&digest, self.now()) {
            return Ok(None);
        }
        if !self.unknown.may_ask(self.now()) {
            let reason = "too many unknown tokens are presented at once".to_owned();
            return Err(StateError::Unavailable { reason, source: None });
        }
        let ticket = self.ledger.begin_load();
        let Some(token) = self.store.token(digest).await? else {
            self.unknown.remember(digest, self.now());
            return Ok(None);
        };
        if self.registry.by_id(token.client.as_str()).is_none() {
            // the client is as new as the token
            self.refresh().await?;
        }
        let now = self.now();
        let Some((slot, _)) = self.registry.by_id(token.client.as_str()).filter(|_| now.wall < token.expires_at) else {
            return Ok(None);
        };
        ticket.admit(&token, slot, now);
        match self.look_up(digest, now) {
            Lookup::Live(session) => Ok(Some(session)),
            Lookup::Dead | Lookup::Unknown => Ok(None),
        }
    }

    /// Takes expired tokens out of memory. A token that is past its end only on the monotonic clock (the wall clock
    /// was set back) is deleted for good, or it would come back with the next load.
    pub(crate) async fn sweep(&self) -> Result<(), StateError> {
        let now = self.now();
        for digest in self.ledger.table.pick(|_, entry| entry.life(now) == Life::Expired || entry.slot.load().is_none())
        {
            self.ledger.forget(&digest, None);
        }
        if let Some(revoked) = &self.revoked {
            revoked.sweep(now);
        }
        let mut outlived = self.ledger.table.pick(|_, entry| entry.life(now) == Life::Outlived);
        outlived.truncate(OUTLIVED_MAX);
        for digest in outlived {
            self.store.remove_token(digest).await?;
            self.ledger.forget(&digest, None);
        }
        Ok(())
    }

    /// Refreshes and sweeps until `cancel`: the one background task of the issuer.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept = self.now().mono;
        let mut failing = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let mut outcome = self.refresh().await.map(|_| ());
            if outcome.is_ok() && self.now().mono.saturating_sub(swept) >= SWEEP_EVERY {
                swept = self.now().mono;
                outcome = self.sweep().await;
            }
            match outcome {
                Ok(()) if failing => tracing::info!("the state can be read again"),
                Err(ref error) if !failing => {
                    tracing::error!("the state cannot be read; known clients and tokens go on working: {error}");
                }
                _ => {}
            }
            failing = outcome.is_err();
        }
    }
}
