//! What has to move for the process to be worth keeping: the data plane's workers and the threads of the stores.
//!
//! Invariant: nothing here depends on a disk, a platform or a secret, because a restart heals none of those.

use std::sync::Arc;

use kh_admin::Pulse;
use kh_gateway::{GatewayHandle, WorkerPulse};

use super::Base;

struct Worker(&'static str, Arc<WorkerPulse>);

impl Pulse for Worker {
    fn name(&self) -> String {
        format!("{} worker {}", self.0, self.1.worker())
    }

    fn beats(&self) -> bool {
        self.1.is_beating()
    }
}

struct Stores(Base);

impl Pulse for Stores {
    fn name(&self) -> String {
        let state = if self.0.state.is_writing() { None } else { Some("state writer") };
        let store = if self.0.store.is_running() { None } else { Some("secret store") };
        state.or(store).unwrap_or("stores").to_owned()
    }

    fn beats(&self) -> bool {
        self.0.state.is_writing() && self.0.store.is_running()
    }
}

/// Everything that has to move.
pub(super) fn of(gateways: &[(&'static str, GatewayHandle)], base: &Base) -> Arc<[Arc<dyn Pulse>]> {
    let workers = gateways.iter().flat_map(|(name, gateway)| gateway.pulses().iter().map(|pulse| (*name, pulse)));
    let workers = workers.map(|(name, pulse)| Arc::new(Worker(name, Arc::clone(pulse))) as Arc<dyn Pulse>);
    workers.chain([Arc::new(Stores(base.clone())) as Arc<dyn Pulse>]).collect()
}
