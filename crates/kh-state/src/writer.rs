//! The one thread that writes. Changes that wait are grouped into one transaction, each in its own savepoint, so that
//! a thousand logins share a few disk syncs and one refused change does not fail the others. A change is acknowledged
//! only after the commit that holds it is on disk.
//!
//! Changes by persons carry an audit event. While the audit log is known to refuse entries, they are refused before
//! anything is written; if it starts refusing between the check and the commit, the change stands, its event waits in
//! the outbox (durable, in the same transaction), and draining is tried again until it works. Logins go on either way,
//! and a new secret that a platform told once is kept either way.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Clock,
    port::{AuditLog, StateError},
};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::{
    failure::Failure,
    outbox,
    sql::{self, Applied, Change, Refused},
};

/// Changes in one transaction. More would not save syncs, only delay the first of them.
const BATCH_MAX: usize = 512;

/// Changes that may wait before their callers do.
pub(crate) const QUEUE_MAX: usize = 4096;

/// How long expired tokens stay: a wall clock that ran ahead by less than this has destroyed nothing once it is set
/// right. Official SDKs do not log in again, so a token deleted too early is an outage.
const EXPIRED_KEPT: Duration = Duration::from_hours(7 * 24);

/// How often expired tokens are looked for.
const PURGE_EVERY: Duration = Duration::from_mins(1);

/// Expired tokens deleted at once, so that no login waits long behind them.
const PURGE_MAX: u32 = 256;

/// How often a waiting outbox is tried again.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// What callers send.
#[derive(Debug)]
pub(crate) enum Message {
    /// Make a change.
    Change(Change, Reply<Applied>),
    /// Tell the change counter.
    Counter(Reply<u64>),
}

/// The writer's own state; lives on its thread.
pub(crate) struct Writer {
    connection: Connection,
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    /// Changes of clients and settings through this handle, plus changes by others that were noticed.
    counter: u64,
    /// The last `PRAGMA data_version`: it moves when any other connection commits.
    seen_version: i64,
    /// Monotonic time of the last try; none while nothing waits in the outbox.
    outbox_tried: Option<Duration>,
    purged: Duration,
    commits: Arc<std::sync::atomic::AtomicU64>,
}

impl Writer {
    /// Takes over a connection, and drains what an earlier process left in the outbox.
    pub(crate) fn new(
        connection: Connection,
        audit: Arc<dyn AuditLog>,
        clock: Arc<dyn Clock>,
        commits: Arc<std::sync::atomic::AtomicU64>,
    ) -> Result<Self, Failure> {
        let seen_version = data_version(&connection)?;
        let purged = clock.now().mono;
        let mut writer =
            Self { connection, audit, clock, counter: 1, seen_version, outbox_tried: None, purged, commits };
        writer.drain();
        Ok(writer)
    }

    /// Works until every sender is gone and the queue is empty.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Vec::new();
            self.take(first, &mut batch);
            for _ in 1..BATCH_MAX {
                let Ok(next) = queue.try_recv() else { break };
                self.take(next, &mut batch);
            }
            self.write(batch);
            self.keep_house();
        }
    }

    /// Answers a question at once and puts a change into the batch.
    fn take(&mut self, message: Message, batch: &mut Vec<(Change, Reply<Applied>)>) {
        match message {
            Message::Change(change, reply) => batch.push((change, reply)),
            Message::Counter(reply) => answer(reply, self.change_counter().map_err(Refused::from)),
        }
    }

    fn change_counter(&mut self) -> Result<u64, Failure> {
        let version = data_version(&self.connection)?;
        if version != self.seen_version {
            self.seen_version = version;
            self.counter += 1;
        }
        Ok(self.counter)
    }

    /// Writes a batch in one transaction and answers each caller.
    fn write(&mut self, batch: Vec<(Change, Reply<Applied>)>) {
        let batch = self.refuse_unaudited(batch);
        if batch.is_empty() {
            return;
        }
        let (changes, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let verdicts = match self.commit(&changes) {
            Ok(verdicts) => verdicts,
            Err(failure) => {
                tracing::error!(state.changes = changes.len(), "no change was written: {failure:?}");
                changes.iter().map(|_| Err(Refused::Database(failure.clone()))).collect()
            }
        };
        let made = |kind: fn(&Change) -> bool| {
            changes.iter().zip(&verdicts).any(|(change, verdict)| kind(change) && verdict.is_ok())
        };
        self.counter += u64::from(made(Change::counts));
        if made(|change| change.event().is_some()) {
            self.drain();
        }
        for (reply, verdict) in replies.into_iter().zip(verdicts) {
            answer(reply, verdict);
        }
    }

    /// One transaction, one savepoint for each change. The outer error fails them all.
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure> {
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut verdicts = Vec::with_capacity(changes.len());
        for change in changes {
            let savepoint = transaction.savepoint()?;
            match sql::apply(&savepoint, change) {
                Ok(applied) => {
                    savepoint.commit()?;
                    verdicts.push(Ok(applied));
                }
                // a full disk, an I/O error: SQLite may have given up the whole transaction
                Err(Refused::Database(failure)) => return Err(failure),
                // dropping the savepoint rolls back to it
                Err(refused) => verdicts.push(Err(refused)),
            }
        }
        transaction.commit()?;
        self.commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(verdicts)
    }

    /// Refuses the changes by persons while the audit log takes no entries; answers the rest.
    fn refuse_unaudited(&mut self, batch: Vec<(Change, Reply<Applied>)>) -> Vec<(Change, Reply<Applied>)> {
        if batch.iter().all(|(change, _)| change.cannot_wait()) {
            return batch;
        }
        let Err(failure) = outbox::drain(&self.connection, &*self.audit).and_then(|()| outbox::probe(&*self.audit))
        else {
            self.outbox_tried = None;
            return batch;
        };
        tracing::error!("changes are refused while they cannot be audited: {failure:?}");
        let mut rest = Vec::with_capacity(batch.len());
        for (change, reply) in batch {
            if change.cannot_wait() {
                rest.push((change, reply));
            } else {
                answer(reply, Err(Refused::Change(unaudited(&failure))));
            }
        }
        rest
    }

    fn drain(&mut self) {
        match outbox::drain(&self.connection, &*self.audit) {
            Ok(()) => self.outbox_tried = None,
            Err(failure) => {
                if self.outbox_tried.is_none() {
                    tracing::error!(
                        "audit events wait in the state database until the audit log takes them: {failure:?}"
                    );
                }
                self.outbox_tried = Some(self.clock.now().mono);
            }
        }
    }

    /// What is due beside the changes: a waiting outbox, expired tokens.
    fn keep_house(&mut self) {
        let now = self.clock.now();
        if self.outbox_tried.is_some_and(|tried| now.mono.saturating_sub(tried) >= DRAIN_EVERY) {
            self.drain();
        }
        if now.mono.saturating_sub(self.purged) < PURGE_EVERY {
            return;
        }
        match sql::purge_tokens(&self.connection, now.wall.minus(EXPIRED_KEPT), PURGE_MAX) {
            // a full round: there may be more, go on with the next message
            Ok(purged) if purged >= PURGE_MAX as usize => {}
            Ok(_) => self.purged = now.mono,
            Err(failure) => {
                self.purged = now.mono;
                tracing::warn!("expired tokens could not be deleted: {failure:?}");
            }
        }
    }
}

fn unaudited(failure: &Failure) -> StateError {
    let (Failure::Damaged(why) | Failure::Unavailable(why)) = failure;
    StateError::Unavailable {
        reason: format!("the change was not made, because it cannot be audited: {why}"),
        source: None,
    }
}

fn data_version(connection: &Connection) -> Result<i64, Failure> {
    Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
}

/// A caller that went away does not want the answer; the change stands.
fn answer<T>(reply: Reply<T>, verdict: Result<T, Refused>) {
    drop(reply.send(verdict));
}
