//! A security log with a collector, as a process would start it.

use std::{path::Path, sync::Arc, time::Duration};

use kh_core::{
    Clock, SecretBytes, SecretReference, SystemClock, SystemEntropy,
    port::{
        AuthenticationEvent, BoxFuture, SecretSource, SourceError, StoredSecret,
        security::{Outcome, Site, Told},
    },
};
use kh_net::{
    Egress, Settings as EgressSettings, SystemRoots,
    http::{HttpClient, Timeouts},
};
use kh_resilience::Backoff;
use kh_security::{
    BearerSource, Collecting, Collector, CollectorClient, Counters, Files, Geo, Log, Parts, SPOOL_MIN, Settings,
    Target, Timing,
};
use prometheus_client::registry::Registry;

pub(crate) struct Rig {
    pub(crate) log: Arc<Log>,
    pub(crate) registry: Registry,
}

/// The secret store: one document.
pub(crate) struct Stored(pub(crate) std::sync::Mutex<&'static str>);

impl SecretSource for Stored {
    fn read<'a>(&'a self, _: &'a SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>> {
        let value = self.0.lock().unwrap().as_bytes().to_vec();
        Box::pin(async move { Ok(StoredSecret { value: SecretBytes::new(value), version: 1 }) })
    }

    fn version<'a>(&'a self, _: &'a SecretReference) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async { Ok(1) })
    }
}

/// Everything fast, so that nothing has to be waited for long.
pub(crate) fn timing() -> Timing {
    Timing {
        delay: Duration::from_millis(5),
        backoff: Backoff { base: Duration::from_millis(5), max: Duration::from_millis(50) },
        retry_after_max: Duration::from_millis(50),
    }
}

pub(crate) fn client(url: &str, gzip: bool, bearer: Option<BearerSource>) -> CollectorClient {
    trusting(Vec::new(), url, gzip, bearer)
}

/// A client that trusts these authorities beside the system's.
pub(crate) fn trusting(extra_ca: Vec<Vec<u8>>, url: &str, gzip: bool, bearer: Option<BearerSource>) -> CollectorClient {
    let roots = SystemRoots::load();
    let egress = Egress::new(EgressSettings { extra_ca, ..EgressSettings::default() }, &roots).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let http = HttpClient::new(Arc::new(egress), Timeouts::default(), clock);
    CollectorClient::new(http, url.parse().unwrap(), gzip, bearer).unwrap()
}

pub(crate) fn start(folder: &Path, client: CollectorClient, file: Option<Target>) -> Rig {
    let mut registry = Registry::default();
    let counters = Counters::register(&mut registry);
    let settings = Collecting { spool: Some((folder.join("spool"), SPOOL_MIN)), timing: timing() };
    let collector = Collector::start(&settings, client, Arc::new(SystemEntropy), &counters).unwrap();
    let parts = Parts {
        geo: Arc::new(Geo::new(Files::default(), &counters)),
        notifier: None,
        collector: Some(Arc::new(collector)),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    let log = Log::start(Settings { target: file, ..Settings::default() }, parts, &counters).unwrap();
    Rig { log, registry }
}

pub(crate) fn failure(subject: &str) -> AuthenticationEvent {
    AuthenticationEvent {
        subject: Some(Told::new(subject)),
        ..AuthenticationEvent::new(SystemClock::new().now().wall, Site::Gateway, Outcome::Failure { reason: "expired" })
    }
}

impl Rig {
    /// The value of one series.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series}\n{text}")).parse().unwrap()
    }
}

/// Polls a bounded number of times.
pub(crate) fn until(what: &str, held: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if held() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came true: {what}");
}
