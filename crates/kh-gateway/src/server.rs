//! Listeners, workers and their end.
//!
//! Invariant: every thread and task belongs to the handle. Shutting it down finishes what is in flight until the
//! deadline, then ends everything; dropping it ends everything at once.

mod accept;
mod behind;
mod drain;
mod http2;
mod io;
mod pulse;
mod refused;
mod serving;
mod sniff;
mod tls;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use self::serving::{Ending, Serving};
pub(crate) use self::{accept::Slot, drain::Drain, sniff::Sniff, tls::Secured};
pub use self::{pulse::WorkerPulse, tls::TlsSlot};
use crate::{
    config::{GatewayConfig, InboundPorts, Ports, Shared, StartError},
    exchange::body::ReplayBudget,
    listen::{self, Listeners, SocketFile},
    site::Site,
};

/// How long idle connections stay open after the end was announced, and half the deadline at most: a request that is on
/// its way on one of them arrives within a round trip, and gets its answer. Busy callers use theirs again sooner.
const NOTICE: Duration = Duration::from_secs(1);

/// What starts a gateway.
#[derive(Debug)]
pub struct Gateway;

/// A running gateway.
#[derive(Debug)]
pub struct GatewayHandle {
    addresses: Vec<SocketAddr>,
    paths: Vec<PathBuf>,
    files: Vec<SocketFile>,
    tls: Option<TlsSlot>,
    ending: Ending,
    ended: Vec<oneshot::Receiver<()>>,
    pulses: Vec<Arc<WorkerPulse>>,
}

impl Gateway {
    /// Stands between applications and the platforms. Listens on every address with every worker, and serves until the handle is shut down or dropped.
    pub fn start(config: GatewayConfig, ports: Ports) -> Result<GatewayHandle, StartError> {
        let (shared, outbound) = ports.split();
        Self::open(config, &shared, &Site::Outbound(Arc::new(outbound)))
    }

    /// Stands in front of the user's own API. Listens and serves likewise.
    pub fn start_inbound(config: GatewayConfig, ports: InboundPorts) -> Result<GatewayHandle, StartError> {
        let InboundPorts { site, clock, entropy, metrics, observer } = ports;
        Self::open(config, &Shared { clock, entropy, metrics, observer }, &Site::Inbound(site))
    }

    fn open(config: GatewayConfig, ports: &Shared, site: &Site) -> Result<GatewayHandle, StartError> {
        let GatewayConfig { listen, workers, tls, limits, socket_mode } = config;
        if listen.is_empty() || workers == 0 {
            return Err(StartError::NothingToDo);
        }
        let tls = tls.map(|tls| TlsSlot::new(&tls));
        let Listeners { of_workers, addresses, paths, files } = listen::open(listen, workers, socket_mode)?;
        let mut handle = GatewayHandle {
            addresses,
            paths,
            files,
            tls: tls.clone(),
            ending: Ending::default(),
            ended: Vec::new(),
            pulses: Vec::new(),
        };
        let budget = Arc::new(ReplayBudget::new(limits.replay_total_bytes, limits.replay_body_bytes));
        for (index, listeners) in of_workers.into_iter().enumerate() {
            let pulse = WorkerPulse::new(index, Arc::clone(&ports.clock));
            handle.pulses.push(Arc::clone(&pulse));
            let serving = Serving {
                pulse,
                listeners,
                tls: tls.clone(),
                limits: limits.clone(),
                ports: ports.clone(),
                site: site.clone(),
                budget: Arc::clone(&budget),
                ending: handle.ending.clone(),
            };
            handle.ended.push(serving.spawn(index)?);
        }
        Ok(handle)
    }
}

impl GatewayHandle {
    /// The TCP addresses listened on, in the order of the configuration, with the real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The unix sockets listened on, in the order of the configuration.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// How the listeners speak TLS, if they do: it may be replaced.
    pub fn tls(&self) -> Option<&TlsSlot> {
        self.tls.as_ref()
    }

    /// The workers' signs of life.
    pub fn pulses(&self) -> &[Arc<WorkerPulse>] {
        &self.pulses
    }

    /// Accepts nothing new, finishes what is in flight, and ends after `deadline` at the latest. Callers with an idle
    /// connection have up to a second to be told with their next answer; then idle connections are closed. Answers
    /// whether everything was finished in time.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        self.ending.finish.cancel();
        // who connects from now on finds nobody, rather than a queue that nobody serves
        self.files.clear();
        let all = std::mem::take(&mut self.ended);
        let mut all = std::pin::pin!(async move {
            for ended in all {
                // an error means that the worker is gone, which is as good
                drop(ended.await);
            }
        });
        let notice = NOTICE.min(deadline / 2);
        if timeout(notice, &mut all).await.is_ok() {
            return true;
        }
        self.ending.close.cancel();
        let finished = timeout(deadline.saturating_sub(notice), &mut all).await.is_ok();
        if !finished {
            self.ending.stop.cancel();
            all.await;
        }
        finished
    }
}

impl Drop for GatewayHandle {
    fn drop(&mut self) {
        self.ending.stop.cancel();
    }
}
