//! The threads that read. Each has its own read-only connection, so a long read (every live token, at start) neither
//! waits for the writer nor holds up a single lookup.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::mpsc;

/// One long read and one short one at a time; more connections would only cost memory.
pub(crate) const READERS: usize = 2;

/// Reads that may wait before their callers do.
pub(crate) const QUEUE_MAX: usize = 1024;

/// One read; it sends its own answer.
pub(crate) type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Works until every sender is gone and the queue is empty. The lock is held only while waiting for a job; whoever
/// holds it is the one that waits.
pub(crate) fn run(connection: &Connection, queue: &Arc<Mutex<mpsc::Receiver<Job>>>) {
    loop {
        let job = queue.lock().blocking_recv();
        let Some(job) = job else { return };
        job(connection);
    }
}
