//! What all listeners of one sandbox share. Invariant: nothing here is global; two sandboxes in one process do not
//! know each other.

use crate::clock::VirtualClock;
use crate::config::{LimitsConfig, SandboxConfig};
use crate::cxone::Cxone;
use crate::faults::Faults;
use crate::genesys::Genesys;
use crate::handle::SandboxError;
use crate::journal::Journal;
use crate::mint::Mint;
use parking_lot::RwLock;
use std::sync::Arc;

/// The origins of a running sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    pub(crate) genesys: String,
    pub(crate) cxone: String,
}

/// State and settings of one sandbox.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: SandboxConfig,
    pub(crate) origins: Origins,
    pub(crate) clock: VirtualClock,
    pub(crate) mint: Mint,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) limits: RwLock<Arc<LimitsConfig>>,
    pub(crate) genesys: Genesys,
    pub(crate) cxone: Cxone,
}

impl Shared {
    pub(crate) fn new(mut config: SandboxConfig, origins: Origins) -> Result<Self, SandboxError> {
        let mint = Mint::new(config.seed);
        let clock = VirtualClock::default();
        let now = clock.now_ms();
        let rules = std::mem::take(&mut config.faults);
        let faults = Faults::new(rules, config.seed)
            .map_err(|problem| SandboxError::Config { field: "faults".to_owned(), problem })?;
        check_limits(&config.limits).map_err(|problem| SandboxError::Config { field: "limits".to_owned(), problem })?;
        let genesys = Genesys::new(&config, &mint, now)?;
        let cxone = Cxone::new(&config, &mint, now)?;
        let limits = RwLock::new(Arc::new(config.limits.clone()));
        Ok(Self { config, origins, clock, mint, faults, journal: Journal::new(), limits, genesys, cxone })
    }

    /// The limits in force.
    pub(crate) fn limits(&self) -> Arc<LimitsConfig> {
        Arc::clone(&self.limits.read())
    }
}

/// Limits that would make every answer an error or a division by zero are mistakes.
pub(crate) fn check_limits(limits: &LimitsConfig) -> Result<(), String> {
    if limits.window_seconds == 0 || limits.endpoints.iter().any(|endpoint| endpoint.window_seconds == 0) {
        return Err("a window lasts at least 1 second".to_owned());
    }
    if limits.connections_max == 0 {
        return Err("connections_max is at least 1".to_owned());
    }
    Ok(())
}
