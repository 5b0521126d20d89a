//! One worker: a thread with a runtime of its own, its listeners, and its orderly end.
//!
//! Invariant: every task belongs to the worker's tracker, and ends with the handle.

use std::{sync::Arc, thread};

use tokio::sync::{Semaphore, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    accept::{Accepting, Listener, Protocols},
    pulse::WorkerPulse,
    tls::TlsSlot,
};
use crate::{
    config::{Limits, Shared, StartError},
    exchange::body::ReplayBudget,
    listen::Opened,
    site::Site,
    worker::Worker,
};

/// The steps of a gateway's end, each of which may come before the one ahead of it is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// Accept nothing new, and tell every caller with its next answer that its connection ends.
    pub(crate) finish: CancellationToken,
    /// Close the connections on which nothing is going on.
    pub(crate) close: CancellationToken,
    /// End whatever is left.
    pub(crate) stop: CancellationToken,
}

/// Everything one worker thread is started with.
pub(super) struct Serving {
    pub(super) listeners: Vec<Opened>,
    pub(super) tls: Option<TlsSlot>,
    pub(super) limits: Limits,
    pub(super) ports: Shared,
    pub(super) site: Site,
    pub(super) budget: Arc<ReplayBudget>,
    pub(super) ending: Ending,
    pub(super) pulse: Arc<WorkerPulse>,
}

impl Serving {
    pub(super) fn spawn(self, index: usize) -> Result<oneshot::Receiver<()>, StartError> {
        let (ended, receiver) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Worker)?;
        let name = format!("kh-gateway-{index}");
        let run = move || {
            let pulse = Arc::clone(&self.pulse);
            runtime.block_on(pulse.during(self.run()));
            drop(runtime);
            if ended.send(()).is_err() {
                tracing::trace!("nobody waits for this worker: its handle was dropped");
            }
        };
        thread::Builder::new().name(name).spawn(run).map_err(StartError::Worker)?;
        Ok(receiver)
    }

    async fn run(self) {
        let Self { listeners, tls, limits, ports, site, budget, ending, pulse: _ } = self;
        let tasks = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(limits.connections_per_worker));
        let worker = Arc::new(Worker::new(ports, limits, budget, tasks.clone()));
        for opened in listeners {
            let listener = match Listener::new(opened) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, "a listener cannot be used");
                    continue;
                }
            };
            let accepting = Accepting {
                listener,
                protocols: Protocols::new(&worker, tls.clone()),
                site: site.clone(),
                worker: Arc::clone(&worker),
                slots: Arc::clone(&slots),
            };
            tasks.spawn(accepting.run(ending.finish.clone()));
        }
        tokio::select! {
            () = ending.stop.cancelled() => return,
            () = ending.finish.cancelled() => {}
            () = Worker::sweep(Arc::downgrade(&worker)) => {}
        }
        worker.drain.announce();
        tasks.close();
        let over = async {
            ending.close.cancelled().await;
            worker.drain.close();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ending.stop.cancelled() => {}
            () = tasks.wait() => {}
            () = over => {}
        }
    }
}
