//! The store as a port: each call runs on the store's own thread, so that no executor waits for a disk.
//!
//! Invariant: a call whose future is dropped still runs to its end; the thread ends when the store is dropped.

use std::{
    fmt,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use kh_core::{
    Clock, SecretBytes, SecretName,
    audit::AuditEvent,
    port::{AuditLog, BoxFuture, Expected, SecretMetadata, SecretStore, StoreError, StoredSecret},
};
use tokio::sync::oneshot;

use crate::{VALUE_BYTES_MAX, error::unavailable, unlock::Unlocked, worker::Worker};

/// Calls that may wait for the thread. Each is short; more than this means that the disk stands still.
const QUEUE_MAX: usize = 256;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The embedded [`SecretStore`].
pub struct FileStore {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl FileStore {
    /// Starts the store. Audit events that an earlier run could not deliver go to `audit` first; when it does not take
    /// them, reading works and changes are refused.
    pub fn open(unlocked: Unlocked, audit: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let mut worker = Worker::new(unlocked, audit, clock);
        let (jobs, queue) = sync_channel::<Job>(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("kh-store".to_owned())
            .spawn(move || {
                worker.deliver();
                while let Ok(job) = queue.recv() {
                    job(&mut worker);
                }
            })
            .map_err(|source| StoreError::Unavailable {
                reason: "the store's thread cannot be started".to_owned(),
                source: Some(Box::new(source)),
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Whether its thread still runs. A disk that does not answer is no reason for it to end.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The versions of `name` before the newest one that are still kept, oldest first; damaged ones are left out. What
    /// leaked may be one of them.
    pub fn earlier(&self, name: &SecretName) -> BoxFuture<'_, Result<Vec<StoredSecret>, StoreError>> {
        let name = name.clone();
        self.run(move |worker| worker.earlier(&name))
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            // A caller that no longer waits does not need the answer; the work is done all the same.
            drop(reply.send(work(worker)));
        });
        let sent = self.jobs.as_ref().map(|jobs| jobs.try_send(job));
        Box::pin(async move {
            match sent {
                Some(Ok(())) => answer.await.unwrap_or_else(|_| Err(unavailable("its thread ended"))),
                Some(Err(TrySendError::Full(_))) => {
                    Err(unavailable(format!("{QUEUE_MAX} operations wait already; the disk may stand still")))
                }
                Some(Err(TrySendError::Disconnected(_))) | None => Err(unavailable("its thread ended")),
            }
        })
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the secret store's thread ended by a panic");
        }
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").finish_non_exhaustive()
    }
}

impl SecretStore for FileStore {
    fn get<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<StoredSecret, StoreError>> {
        let name = name.clone();
        self.run(move |worker| worker.get(&name))
    }

    fn newest_version<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<u64, StoreError>> {
        let name = name.clone();
        self.run(move |worker| worker.newest_version(&name))
    }

    fn put<'a>(
        &'a self,
        name: &'a SecretName,
        value: SecretBytes,
        expected: Expected,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let size = value.expose().len();
        if size > VALUE_BYTES_MAX {
            return Box::pin(async move { Err(StoreError::TooLarge { size, max: VALUE_BYTES_MAX }) });
        }
        let name = name.clone();
        self.run(move |worker| worker.put(&name, &value, expected, &event))
    }

    fn remove<'a>(
        &'a self,
        name: &'a SecretName,
        expected: Expected,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let name = name.clone();
        self.run(move |worker| worker.remove(&name, expected, &event))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SecretMetadata>, StoreError>> {
        self.run(Worker::list)
    }
}
