//! Which configuration is in force and what became of the last try to change it: for `status` and the metrics.
//!
//! Invariant: the digest told is that of the file whose content is in force, whatever the file says by now.

use std::sync::atomic::AtomicU64;

use kh_admin::admin::{ConfigStatus, ReloadStatus, TlsStatus};
use kh_core::{Sha256, UnixMillis, metric::help};
use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::cli::Loaded;

const RELOADS: &str = "keyholder_config_reloads";
const SUCCESSFUL: &str = "keyholder_config_last_reload_successful";
const LOADED: &str = "keyholder_config_loaded_timestamp_seconds";

/// What came of a reload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It is in force.
    Applied,
    /// It says what is in force already.
    Unchanged,
    /// It was bad; nothing changed.
    Refused,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct Record {
    known: Mutex<Known>,
    reloads: [Counter; 3],
    successful: Gauge,
    loaded: Gauge,
}

#[derive(Clone, Debug)]
struct Known {
    config: ConfigStatus,
    tls: Option<TlsStatus>,
}

impl Record {
    /// The start's configuration.
    pub(super) fn new(loaded: &Loaded, certificate: Option<Sha256>, now: UnixMillis, registry: &mut Registry) -> Self {
        let reloads = Family::<[(&'static str, &'static str); 1], Counter<u64, AtomicU64>>::default();
        registry.register(RELOADS, help(RELOADS), reloads.clone());
        let counter = |outcome: Outcome| reloads.get_or_create_owned(&[("result", outcome.name())]);
        let (successful, timestamp) = (Gauge::default(), Gauge::default());
        registry.register(SUCCESSFUL, help(SUCCESSFUL), successful.clone());
        registry.register(LOADED, help(LOADED), timestamp.clone());
        let tls = certificate.map(|digest| tls_status(digest, now));
        let known = Known { config: config_status(loaded, now), tls };
        let record =
            Self { known: Mutex::new(known), reloads: Outcome::ALL.map(counter), successful, loaded: timestamp };
        record.successful.set(1);
        record.loaded.set(seconds(now));
        record
    }

    /// A new configuration is in force.
    pub(super) fn in_force(&self, loaded: &Loaded, certificate: Option<Sha256>, now: UnixMillis) {
        let mut known = self.known.lock();
        let last_reload = known.config.last_reload.take();
        known.config = ConfigStatus { last_reload, ..config_status(loaded, now) };
        let before = known.tls.as_ref().map(|tls| tls.certificate_sha256.clone());
        if certificate.map(Sha256::to_hex) != before {
            known.tls = certificate.map(|digest| tls_status(digest, now));
        }
        self.loaded.set(seconds(now));
    }

    /// A reload ended.
    pub(super) fn reloaded(&self, outcome: Outcome, status: ReloadStatus) {
        if let Some(counter) =
            Outcome::ALL.iter().position(|known| *known == outcome).and_then(|at| self.reloads.get(at))
        {
            counter.inc();
        }
        self.successful.set(i64::from(outcome != Outcome::Refused));
        self.known.lock().config.last_reload = Some(status);
    }

    /// For the status.
    pub(super) fn told(&self) -> (ConfigStatus, Option<TlsStatus>) {
        let known = self.known.lock().clone();
        (known.config, known.tls)
    }
}

fn config_status(loaded: &Loaded, now: UnixMillis) -> ConfigStatus {
    ConfigStatus { file: loaded.file.clone(), sha256: loaded.digest.to_hex(), loaded_at: now, last_reload: None }
}

fn tls_status(digest: Sha256, now: UnixMillis) -> TlsStatus {
    TlsStatus { certificate_sha256: digest.to_hex(), loaded_at: now }
}

fn seconds(time: UnixMillis) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
