//! What persons do to a rotation: orders to a run, holds, approvals.
//!
//! Invariant: a person's act is written under the same fence as everything else, and stands in the audit log with the
//! person's name. It waits for the lease of a working process, for a bounded time. What was written is told as done,
//! whatever becomes of the lease.

use std::time::Duration;

use kh_core::{
    CredentialName,
    audit::AuditEvent,
    port::{
        JournalError,
        rotation_journal::{Append, Approval, ApprovalOf, Hold, StoredRun},
    },
    rotation::RunId,
};
use kh_rotation::{Order, Run, run::Refused};

use crate::{
    begin::readable,
    services::Services,
    session::{Halt, give_back, lease_name},
    told,
};

/// Pause between two tries for the lease.
const LEASE_PAUSE: Duration = Duration::from_millis(500);

/// How often it is tried: one process holds it while it works on a step, and gives it back when it waits.
const LEASE_TRIES: u32 = 360;

/// How long the lease is kept for writing one record.
const LEASE_LIFE: Duration = Duration::from_secs(30);

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The credential has no unfinished run.
    #[error("{0} has no rotation that has not ended")]
    NoRun(CredentialName),
    /// The run cannot take it now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The lease or the journal.
    #[error(transparent)]
    Halt(#[from] Halt),
}

impl From<JournalError> for NotTaken {
    fn from(error: JournalError) -> Self {
        Self::Halt(error.into())
    }
}

/// A person who acts, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// Who, as in the audit log: `cli:ops`.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// The credential's unfinished run, as it stands in the journal.
pub async fn unfinished(services: &Services, credential: &CredentialName) -> Result<Option<Run>, Halt> {
    let newest = services.journal.runs(Some(credential), 1).await?;
    newest.iter().find(|run| run.ended_at.is_none()).map(read).transpose()
}

/// A run, as it stands in the journal.
pub async fn run(services: &Services, id: RunId) -> Result<Run, Halt> {
    read(&services.journal.run(id).await?)
}

fn read(stored: &StoredRun) -> Result<Run, Halt> {
    let why = || "its records do not fit together".to_owned();
    readable(stored).ok_or_else(|| Halt::Unreadable { run: stored.id, why: why() })
}

/// Gives an order to the credential's unfinished run.
pub async fn order(
    services: &Services,
    credential: &CredentialName,
    order: Order,
    person: &Person,
) -> Result<RunId, NotTaken> {
    let name = lease_name(credential);
    let owner = format!("{} order", services.owner);
    let mut tries = 0;
    let lease = loop {
        let taken = services.journal.lease(&name, &owner, services.now(), LEASE_LIFE).await?;
        tries += 1;
        match taken {
            Some(lease) => break lease,
            None if tries >= LEASE_TRIES => return Err(Halt::Busy(credential.clone()).into()),
            None => services.timer.sleep(LEASE_PAUSE).await,
        }
    };
    let written = write(services, credential, order, person, &lease).await;
    give_back(services, &lease).await;
    written
}

async fn write(
    services: &Services,
    credential: &CredentialName,
    order: Order,
    person: &Person,
    lease: &kh_core::port::rotation_journal::HeldLease,
) -> Result<RunId, NotTaken> {
    let run = unfinished(services, credential).await?.ok_or_else(|| NotTaken::NoRun(credential.clone()))?;
    let entry = run.order(order, &person.actor, &person.reason, services.now())?;
    let (id, seq) = (run.began().run, run.seq() + 1);
    let append = Append {
        run: id,
        seq,
        lease: lease.clone(),
        at: entry.record.at,
        record: entry.record.to_json(),
        escrow: Vec::new(),
        unless_held: entry.unless_held,
        ends: entry.ends,
        event: told::event(services, run.began(), seq, &entry.record.step),
    };
    services.journal.append(append).await?;
    tracing::info!(credential = %credential, rotation.run = %id, "rotation: {}", told::line(&entry.record.step));
    if let Some(notice) = told::notice(&run, seq, entry.record.at, &entry.record.step) {
        services.notifier.notify(notice);
    }
    Ok(id)
}

fn event(services: &Services, person: &Person, action: &str, credential: &CredentialName) -> AuditEvent {
    AuditEvent::new(&*services.entropy, services.now(), &person.actor, action, credential.as_str())
        .with("reason", &person.reason)
}

/// Holds a credential's rotation: nothing is promoted or deleted until it is lifted.
pub async fn hold(services: &Services, credential: &CredentialName, person: &Person) -> Result<(), JournalError> {
    let hold = Hold { since: services.now(), actor: person.actor.clone(), reason: person.reason.clone() };
    services.journal.set_hold(credential, Some(hold), event(services, person, "rotation.hold", credential)).await
}

/// Lifts a hold.
pub async fn unhold(services: &Services, credential: &CredentialName, person: &Person) -> Result<(), JournalError> {
    services.journal.set_hold(credential, None, event(services, person, "rotation.unhold", credential)).await
}

/// Agrees to something that a run needs agreement for.
pub async fn approve(
    services: &Services,
    credential: &CredentialName,
    of: ApprovalOf,
    person: &Person,
) -> Result<RunId, NotTaken> {
    let run = unfinished(services, credential).await?.ok_or_else(|| NotTaken::NoRun(credential.clone()))?;
    let id = run.began().run;
    let approval = Approval { of, actor: person.actor.clone(), at: services.now(), reason: person.reason.clone() };
    let what = match of {
        ApprovalOf::Start => "start",
        ApprovalOf::Prune => "prune",
        ApprovalOf::Revoke => "revoke",
    };
    let event = event(services, person, "rotation.approve", credential).with("run", &id).with("of", &what);
    services.journal.approve(id, approval, event).await?;
    Ok(id)
}
