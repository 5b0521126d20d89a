//! A platform's events about tokens that it revoked, as they are delivered by webhook: what they mean here, who may
//! send them, and that none is taken twice.
//!
//! An event revokes no token by itself: the platform has done that. It takes what the platform said before out of
//! memory, so that the next request with such a token asks the platform. Invariants: nothing is read of a body before
//! its sender is known; a signed delivery is taken once in its window, with bounded memory; an event of another
//! organisation changes nothing.

mod parse;
mod seen;
mod signature;

use std::{sync::Arc, time::Duration};

use kh_core::{Entropy, Now, Sha256, UnixMillis, audit::AuditEvent, port::StateError, revocation::BadTarget};
use parking_lot::Mutex;

pub use parse::{EVENT_BYTES_MAX, Effect, EventError, PlatformEvent};
pub use signature::{Delivery, EventKeys, KeysError};

use crate::{Revocations, answers_record};
use seen::Seen;

/// How far a delivery's time and ours may differ: what Standard Webhooks recommends, and what the sender's clock and
/// its queue need.
pub const WINDOW: Duration = Duration::from_mins(5);

/// Events that forget something in one minute: each is a synced write. A burst of an organisation's administrator
/// stays far below it, and what is told to wait is delivered again.
const CHANGES_PER_MINUTE: u32 = 600;

/// Why a signed delivery is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The signature is missing, wrong, or out of its window.
    #[error("the signature is not valid now")]
    Signature,
    /// It was taken before.
    #[error("the delivery was taken before")]
    Replayed,
    /// So many were taken lately that a replay could not be told.
    #[error("too many deliveries at once")]
    Full,
}

/// A signed delivery that is being carried out. Dropped, it may come again as it was: one that could not be carried out,
/// and one whose sender hung up before it was.
#[must_use = "a delivery that is not kept may come again"]
pub struct Admitted {
    seen: Arc<Mutex<Seen>>,
    tag: Sha256,
    at: UnixMillis,
    kept: bool,
}

impl Admitted {
    /// It was carried out, or never can be: it is not taken again.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.kept {
            self.seen.lock().remove(self.tag, self.at);
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// What was known of the tokens is forgotten.
    Applied,
    /// It is about nothing that is remembered here.
    Irrelevant,
    /// Its topic means nothing here.
    UnknownTopic,
    /// It is of another organisation.
    Foreign,
}

impl Taken {
    /// As a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Irrelevant => "irrelevant",
            Self::UnknownTopic => "unknown_topic",
            Self::Foreign => "foreign",
        }
    }
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It is none.
    #[error(transparent)]
    Event(#[from] EventError),
    /// There are too many in a minute.
    #[error("too many events in a minute")]
    TooMany,
    /// What it names cannot be a token's.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// It holds in this process and is not on disk.
    #[error("what the event says could not be written")]
    State(#[from] StateError),
}

/// One endpoint for events.
pub struct EventDesk {
    /// Its name, for the audit log.
    name: Arc<str>,
    /// The organisation whose events count; none: whoever may send.
    organization: Option<String>,
    revocations: Arc<Revocations>,
    seen: Arc<Mutex<Seen>>,
    pace: Mutex<(Duration, u32)>,
}

impl EventDesk {
    /// The endpoint `name`; with an organisation it takes that one's events alone.
    pub fn new(name: Arc<str>, organization: Option<String>, revocations: Arc<Revocations>) -> Self {
        let (seen, pace) = (Arc::default(), Mutex::default());
        Self { name, organization, revocations, seen, pace }
    }

    /// Whether a delivery is signed by one of `keys`, in its window, and new. While it is carried out, and when it was kept
    /// after that, it is not taken again.
    pub fn admit(&self, keys: &EventKeys, delivery: &Delivery<'_>, now: Now) -> Result<Admitted, DeliveryError> {
        let (tag, at) = keys.verify(delivery, now.wall).ok_or(DeliveryError::Signature)?;
        self.seen.lock().insert(tag, at, now.wall)?;
        Ok(Admitted { seen: Arc::clone(&self.seen), tag, at, kept: false })
    }

    /// Carries out what an event of an admitted sender says about the tokens of these issuers (values of `iss`). `sender`
    /// is for the audit log.
    pub async fn take(
        &self,
        body: &[u8],
        (sender, issuers): (&str, &[Arc<str>]),
        now: Now,
        entropy: &dyn Entropy,
    ) -> Result<(PlatformEvent, Taken), TakeError> {
        let event = PlatformEvent::parse(body)?;
        if self.organization.as_ref().is_some_and(|ours| event.organization.as_ref() != Some(ours)) {
            return Ok((event, Taken::Foreign));
        }
        let client = match &event.effect {
            Effect::AskAnew { client } => client.clone(),
            Effect::None => return Ok((event, Taken::Irrelevant)),
            Effect::UnknownTopic => return Ok((event, Taken::UnknownTopic)),
        };
        if !self.may_change(now) {
            return Err(TakeError::TooMany);
        }
        let record = |issuer: &Arc<str>| answers_record(issuer.to_string(), client.clone(), now.wall);
        let records = issuers.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        let entry = AuditEvent::new(entropy, now.wall, sender, "revocation.event", &self.name)
            .with("event", &event.id)
            .with("topic", &event.topic)
            .with("client", &client.unwrap_or_default());
        self.revocations.revoke(records, Some(entry)).await?;
        Ok((event, Taken::Applied))
    }

    fn may_change(&self, now: Now) -> bool {
        let mut pace = self.pace.lock();
        if now.mono.saturating_sub(pace.0) >= Duration::from_mins(1) {
            *pace = (now.mono, 0);
        }
        pace.1 += 1;
        pace.1 <= CHANGES_PER_MINUTE
    }
}

impl std::fmt::Debug for EventDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventDesk").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
