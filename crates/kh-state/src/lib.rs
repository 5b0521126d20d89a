//! Durable state in SQLite: clients, tokens, settings, revocations, sessions of users, the rotation journal, and the
//! audit outbox.
//!
//! Invariants: a change that was acknowledged is on disk; a change and its audit event are written in one
//! transaction; a file that is damaged or newer than this binary is refused and left untouched.

mod check;
mod failure;
mod file;
mod instance;
mod outbox;
mod reader;
mod revocation;
mod rotation;
mod schema;
mod session;
mod snapshot;
mod sql;
mod writer;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

#[cfg(feature = "conformance")]
pub mod conformance;

pub use check::{StateFinding, StateReport, check};
pub use instance::LockedInstance;
pub use schema::{Loss, VERSION as SCHEMA, downgrade, losses};
pub use snapshot::Snapshot;

use kh_core::{
    ClientId, Clock, Sha256, UnixMillis,
    audit::AuditEvent,
    port::{AuditLog, BoxFuture, ClientRecord, StateError, StateStore, TokenRecord},
};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{
    failure::Failure,
    schema::Access,
    sql::{Applied, Change, Refused},
    writer::{Message, Writer},
};

/// The state in one SQLite file (with `-wal`, `-shm` and `.lock` beside it). Several processes may open the same file.
///
/// A future that is dropped does not take its change back: it may still be written. Dropping the state finishes what
/// is queued and waits for it.
pub struct SqliteState {
    /// Both queues are there until drop, which closes them.
    queues: Option<Queues>,
    readers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
    commits: Arc<AtomicU64>,
}

struct Queues {
    writes: mpsc::Sender<Message>,
    reads: mpsc::Sender<reader::Job>,
}

impl SqliteState {
    /// Opens `path` (created with its folder, 0600 in 0700, if missing), migrates it, and drains audit events that an
    /// earlier process left behind. Blocking: call it before serving, or on a blocking thread.
    pub fn open(path: &Path, audit: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Result<Self, StateError> {
        schema::prepare(path)?;
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(schema::connect(path, Access::Write)?, audit, clock, Arc::clone(&commits))?;
        let (writes, write_queue) = mpsc::channel(writer::QUEUE_MAX);
        let (reads, read_queue) = mpsc::channel(reader::QUEUE_MAX);
        let writer = spawn("state-writer", move || writer.run(write_queue))?;
        let mut readers = Vec::new();
        let read_queue = Arc::new(Mutex::new(read_queue));
        for _ in 0..reader::READERS {
            let connection = schema::connect(path, Access::Read)?;
            let queue = Arc::clone(&read_queue);
            readers.push(spawn("state-reader", move || reader::run(&connection, &queue))?);
        }
        Ok(Self { queues: Some(Queues { writes, reads }), readers, writer: Some(writer), commits })
    }

    /// How many transactions (each one disk sync) were committed for callers, for metrics: under load far fewer than
    /// changes.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Whether the thread that writes still runs. A disk that does not answer is no reason for it to end.
    pub fn is_writing(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
    }

    fn queues(&self) -> Result<&Queues, Failure> {
        self.queues.as_ref().ok_or_else(stopped)
    }

    async fn change(&self, change: Change) -> Result<(), StateError> {
        Ok(self.apply(change).await.map(drop)?)
    }

    async fn apply(&self, change: Change) -> Result<Applied, Refused> {
        let (reply, answer) = oneshot::channel();
        let sent = self.queues()?.writes.send(Message::Change(change, reply)).await;
        sent.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    async fn read<T, F>(&self, read: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        Ok(self.look(read).await?)
    }

    async fn look<T, F>(&self, read: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: reader::Job = Box::new(move |connection| drop(reply.send(read(connection))));
        self.queues()?.reads.send(job).await.map_err(|_| stopped())?;
        Ok(answer.await.map_err(|_| stopped())??)
    }
}

fn finish(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the state had panicked");
    }
}

fn stopped() -> Failure {
    Failure::Unavailable("the state's thread has ended".to_owned())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Failure::Unavailable(format!("no thread can be started: {error}")))
}

impl Drop for SqliteState {
    fn drop(&mut self) {
        let Some(Queues { writes, reads }) = self.queues.take() else { return };
        drop(reads);
        self.readers.drain(..).for_each(finish);
        // The writer's connection is closed last and alone: SQLite then moves the write-ahead log into the file.
        // Connections that close at the same moment each take the other for open and leave the log behind.
        drop(writes);
        self.writer.take().into_iter().for_each(finish);
    }
}

impl std::fmt::Debug for SqliteState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteState").field("commits", &self.commits).finish_non_exhaustive()
    }
}

impl StateStore for SqliteState {
    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientRecord>, StateError>> {
        Box::pin(self.read(sql::clients))
    }

    fn add_client(&self, client: ClientRecord, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.change(Change::AddClient { client: Box::new(client), event }))
    }

    fn update_client(
        &self,
        before: ClientRecord,
        after: ClientRecord,
        event: AuditEvent,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.change(Change::UpdateClient { before: Box::new(before), after: Box::new(after), event }))
    }

    fn remove_client(&self, id: ClientId, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.change(Change::RemoveClient { id, event }))
    }

    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.change(Change::AddToken(token)))
    }

    fn remove_token(&self, digest: Sha256) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.change(Change::RemoveToken(digest)))
    }

    fn token(&self, digest: Sha256) -> BoxFuture<'_, Result<Option<TokenRecord>, StateError>> {
        Box::pin(self.read(move |connection| sql::token(connection, digest)))
    }

    fn live_tokens(&self, now: UnixMillis) -> BoxFuture<'_, Result<Vec<TokenRecord>, StateError>> {
        Box::pin(self.read(move |connection| sql::live_tokens(connection, now)))
    }

    fn change_counter(&self) -> BoxFuture<'_, Result<u64, StateError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.queues()?.writes.send(Message::Counter(reply)).await.map_err(|_| stopped())?;
            Ok(answer.await.map_err(|_| stopped())??)
        })
    }

    fn setting(&self, key: &str) -> BoxFuture<'_, Result<Option<String>, StateError>> {
        let key = key.to_owned();
        Box::pin(self.read(move |connection| sql::setting(connection, &key)))
    }

    fn set_setting(&self, key: &str, value: &str, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.change(Change::SetSetting { key: key.to_owned(), value: value.to_owned(), event }))
    }
}
