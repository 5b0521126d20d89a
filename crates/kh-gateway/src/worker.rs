//! What one worker thread works with. Workers share the ports and the replay budget, nothing else.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    config::{Limits, Shared},
    exchange::body::ReplayBudget,
    request::Began,
    server::Drain,
    upstream::Upstreams,
};

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

/// State of one worker.
pub(crate) struct Worker {
    pub(crate) ports: Shared,
    pub(crate) limits: Limits,
    pub(crate) upstreams: Upstreams,
    pub(crate) budget: Arc<ReplayBudget>,
    /// Connections live here, tunnels after their request is answered, and what outlives its caller.
    pub(crate) tasks: TaskTracker,
    /// Whether the worker comes to its end.
    pub(crate) drain: Drain,
    warned_at: AtomicU64,
}

impl Worker {
    pub(crate) fn new(ports: Shared, limits: Limits, budget: Arc<ReplayBudget>, tasks: TaskTracker) -> Self {
        let upstreams = Upstreams::new(&limits, Arc::clone(&ports.metrics));
        Self { ports, limits, upstreams, budget, tasks, drain: Drain::default(), warned_at: AtomicU64::new(0) }
    }

    /// Keeps looking through the idle upstream connections, for as long as the worker is there.
    pub(crate) async fn sweep(worker: Weak<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let Some(worker) = worker.upgrade() else { return };
            worker.upstreams.sweep();
        }
    }

    /// Whether a warning may be written now: at most one per second and worker, so that an outage does not write a
    /// line per request.
    pub(crate) fn may_warn(&self) -> bool {
        let now = self.ports.clock.now().wall.as_secs();
        self.warned_at.swap(now, Ordering::Relaxed) != now
    }

    /// The clocks now, for a request that came in or had to wait.
    pub(crate) fn began(&self) -> Began {
        Began { at: Instant::now(), now: self.ports.clock.now() }
    }

    /// A random id for an error, so that a caller's report can be found in the log.
    pub(crate) fn context_id(&self) -> String {
        let mut bytes = [0; 16];
        self.ports.entropy.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}
