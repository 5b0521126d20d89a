//! The security log, the brute-force guard and the alerts, as `[security]` wants them.
//!
//! Invariants: without the section nothing of it runs, and the counters are there all the same; what can fail fails before
//! anything listens; nothing here makes a request wait.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kh_admin::ReadyCheck;
use kh_core::{
    Code,
    port::{
        BoxFuture, Notifier, SecretSource,
        security::{Security, SecurityLog},
    },
};
use kh_net::{
    SystemRoots,
    http::{HttpClient, Timeouts},
};
use kh_security::{
    BearerSource, Collecting, Collector, CollectorClient, Counters, Files, Geo, Guard, Kind, LAST_TRY, LOOK_EVERY,
    Limits, Log, Parts, Rules, Settings, Successes, Target, Timing, examine,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Base, Paths,
    egress::{read_named, sender_egress},
};
use crate::{
    cli::Loaded,
    config::{
        AlertsConfig, CollectorConfig, CollectorToken, GeoipConfig, GuardConfig, SecurityConfig, SecurityTarget,
        SuccessesChoice,
    },
    output::Failure,
};

/// The log's file in the state folder, unless the configuration names one.
const LOG: &str = "security.log";
/// The collector's spool in the state folder, likewise.
const SPOOL: &str = "security-spool";
/// Bytes that may wait there, likewise: a day of some 3 lines a second.
const SPOOL_MIB: u64 = 256;

/// How long the last lines may take at the end, for the file and for the collector each: what the collector does not take
/// stays in the spool.
const END: Duration = Duration::from_secs(3);

// Else the process would be gone before a batch that is on its way from memory is kept or counted.
const _: () = assert!(END.as_secs() > LAST_TRY.as_secs(), "the collector is given longer than its last try takes");

/// What watches over those who authenticate, while it runs.
#[derive(Default)]
pub(crate) struct Watchers {
    log: Option<Arc<Log>>,
    geo: Option<Arc<Geo>>,
    collector: Option<Arc<Collector>>,
    security: Security,
}

/// What it is made of beside the configuration.
pub(crate) struct Sides<'a> {
    pub(crate) base: &'a Base,
    pub(crate) secrets: Arc<dyn SecretSource>,
    pub(crate) notifier: Option<Arc<dyn Notifier>>,
    pub(crate) counters: &'a Counters,
}

impl Watchers {
    /// Opens the log, starts the collector and takes the guard's memory. Must run on the control runtime.
    pub(crate) fn start(
        loaded: &Loaded,
        sides: Sides<'_>,
        (tasks, cancel): (&TaskTracker, &CancellationToken),
    ) -> Result<Self, Failure> {
        let Some(config) = &loaded.config.security else { return Ok(Self::default()) };
        let Sides { base, secrets, notifier, counters } = sides;
        let geo = Arc::new(Geo::new(files(config.geoip.as_ref(), &loaded.paths), counters));
        let collector = config.collector.as_ref().map(|config| collector(config, loaded, (base, secrets, counters)));
        let collector = collector.transpose()?.map(Arc::new);
        let settings = Settings {
            target: target(config, &loaded.paths),
            successes: successes(config.successes),
            alerts: rules(&config.alerts, config.geoip.as_ref())?,
        };
        let parts = Parts {
            geo: Arc::clone(&geo),
            notifier,
            collector: collector.clone(),
            clock: Arc::clone(&base.clock),
            entropy: Arc::clone(&base.entropy),
        };
        let told = match &settings.target {
            Some(Target::File(file)) => format!("the security log {} cannot be opened", file.display()),
            Some(Target::Stdout | Target::Nowhere) | None => "the security log cannot be opened".to_owned(),
        };
        let log = Log::start(settings, parts, counters).map_err(|error| {
            Failure::new(Code::CONFIG_INVALID, told)
                .caused_by(&error)
                .hint("see [security] log in keyholder.toml; its folder must be there and writable")
        })?;
        let guard = limits(&config.guard)?.map(|limits| Guard::new(limits, counters).telling(Arc::clone(&log)));
        if config.geoip.is_some() {
            drop(tasks.spawn(Arc::clone(&geo).watch(LOOK_EVERY, cancel.clone())));
        }
        let security = Security {
            log: Some(Arc::clone(&log) as Arc<dyn SecurityLog>),
            guard: guard.map(|guard| Arc::new(guard) as Arc<dyn kh_core::port::security::AttemptGuard>),
        };
        Ok(Self { log: Some(log), geo: Some(geo), collector, security })
    }

    /// What listeners are given.
    pub(crate) fn security(&self) -> Security {
        self.security.clone()
    }

    /// Opens the file again, for rotation, and looks at the databases now.
    pub(crate) fn reopen(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
        if let Some(geo) = self.geo.clone() {
            // whole files are read
            drop(tokio::task::spawn_blocking(move || geo.refresh()));
        }
    }

    /// What `/readyz` tells of it.
    pub(crate) fn check(&self) -> Option<Arc<dyn ReadyCheck>> {
        let collector = Arc::clone(self.collector.as_ref()?);
        Some(Arc::new(CollectorCheck(collector)))
    }

    /// Writes and sends what waits; answers whether all was done in time.
    pub(crate) async fn stop(&self) -> bool {
        let Some(log) = self.log.clone() else { return true };
        tokio::task::spawn_blocking(move || log.stop(END)).await.unwrap_or(false)
    }
}

/// The log of the short form: its lines in one file, and nothing else.
pub(crate) fn plain_log(
    file: PathBuf,
    (clock, entropy): (Arc<dyn kh_core::Clock>, Arc<dyn kh_core::Entropy>),
    counters: &Counters,
) -> Result<Arc<Log>, Failure> {
    let geo = Arc::new(Geo::new(Files::default(), counters));
    let parts = Parts { geo, notifier: None, collector: None, clock, entropy };
    let told = format!("the security log {} cannot be opened", file.display());
    let settings = Settings { target: Some(Target::File(file)), ..Settings::default() };
    Log::start(settings, parts, counters).map_err(|error| Failure::new(Code::USAGE, told).caused_by(&error))
}

/// A collector that takes no lines is told, and callers are served all the same: the lines wait.
struct CollectorCheck(Arc<Collector>);

impl ReadyCheck for CollectorCheck {
    fn name(&self) -> &'static str {
        "security_collector"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Code>> {
        let failing = self.0.is_failing();
        Box::pin(async move { if failing { Err(Code::UPSTREAM_UNREACHABLE) } else { Ok(()) } })
    }

    fn is_advisory(&self) -> bool {
        true
    }
}

/// What is wrong with what `[security]` names, with the key that names it. Changes nothing; reads whole databases.
pub(crate) fn broken_security(loaded: &Loaded) -> Vec<(String, Failure)> {
    let Some(config) = &loaded.config.security else { return Vec::new() };
    let paths = &loaded.paths;
    let mut broken = Vec::new();
    for (key, path) in config.geoip.iter().flat_map(GeoipConfig::files) {
        let path = paths.resolve(path);
        let kind = match key {
            "country" => Kind::Country,
            "city" => Kind::City,
            _ => Kind::Asn,
        };
        if let Err(reason) = examine(kind, &path) {
            let problem = format!("{} is no {key} database that can be used: {reason}", path.display());
            broken.push((format!("[security.geoip] {key}"), Failure::new(Code::CONFIG_INVALID, problem)));
        }
    }
    if let Some(Target::File(file)) = target(config, paths) {
        broken.extend(not_writable(&file, &[&paths.state]).map(|failure| ("[security] log".to_owned(), failure)));
    }
    if let Some(collector) = &config.collector {
        let section = "[security.collector]";
        let of = |result: Result<(), Failure>| result.err().map(|failure| (section.to_owned(), failure));
        let spool = spool(collector, paths);
        let unusable = not_writable(&spool.join("segment"), &[&paths.state, &spool]);
        broken.extend(unusable.map(|failure| ("[security.collector] spool".to_owned(), failure)));
        let egress = sender_egress(section, collector.extra_ca.as_deref(), loaded, &SystemRoots::load());
        broken.extend(of(egress.map(drop)));
        if let Some(CollectorToken::File(file)) = &collector.token {
            broken.extend(of(read_named(&paths.resolve(file)).map(drop)));
        }
    }
    broken
}

/// Why `file` could not be written. The folders `made`, with those around them, are made at the start; no other one is.
pub(super) fn not_writable(file: &Path, made: &[&Path]) -> Option<Failure> {
    let refused = |path: &Path, error: std::io::Error| {
        Failure::new(Code::CONFIG_INVALID, format!("{} cannot be written", path.display())).caused_by(&error)
    };
    if let Ok(about) = file.metadata() {
        let tried = if about.is_file() || about.is_dir() {
            std::fs::OpenOptions::new().append(true).open(file).map(drop)
        } else {
            // to open a pipe is to wait for its reader
            rustix::fs::access(file, rustix::fs::Access::WRITE_OK).map_err(std::io::Error::from)
        };
        return tried.err().map(|error| refused(file, error));
    }
    let folder = file.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.exists())?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !folder.is_dir() {
        return Some(refused(file, std::io::ErrorKind::NotADirectory.into()));
    }
    let mut missing =
        file.ancestors().skip(1).take_while(|missing| *missing != folder && !missing.as_os_str().is_empty());
    if missing.any(|missing| !made.iter().any(|made| made.starts_with(missing))) {
        return Some(refused(file, std::io::ErrorKind::NotFound.into()));
    }
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).err().map(|error| refused(folder, error.into()))
}

fn target(config: &SecurityConfig, paths: &Paths) -> Option<Target> {
    match &config.log {
        SecurityTarget::Off => None,
        SecurityTarget::Stdout => Some(Target::Stdout),
        SecurityTarget::Usual => Some(Target::File(paths.state.join(LOG))),
        SecurityTarget::File(path) => Some(Target::File(paths.resolve(path))),
    }
}

fn successes(choice: Option<SuccessesChoice>) -> Successes {
    match choice {
        None | Some(SuccessesChoice::None) => Successes::No,
        Some(SuccessesChoice::FirstPerCountry) => Successes::FirstPerCountry,
        Some(SuccessesChoice::All) => Successes::All,
    }
}

fn files(config: Option<&GeoipConfig>, paths: &Paths) -> Files {
    let path = |of: fn(&GeoipConfig) -> &Option<PathBuf>| Some(paths.resolve(of(config?).as_ref()?));
    Files {
        country: path(|config| &config.country),
        city: path(|config| &config.city),
        asn: path(|config| &config.asn),
    }
}

fn spool(config: &CollectorConfig, paths: &Paths) -> PathBuf {
    config.spool.as_ref().map_or_else(|| paths.state.join(SPOOL), |path| paths.resolve(path))
}

fn collector(
    config: &CollectorConfig,
    loaded: &Loaded,
    (base, secrets, counters): (&Base, Arc<dyn SecretSource>, &Counters),
) -> Result<Collector, Failure> {
    const SECTION: &str = "[security.collector]";
    let see = |failure: Failure| failure.hint("see [security.collector] in keyholder.toml");
    let egress = Arc::new(sender_egress(SECTION, config.extra_ca.as_deref(), loaded, &SystemRoots::load())?);
    let client = HttpClient::new(egress, Timeouts::default(), Arc::clone(&base.clock));
    let bearer = match &config.token {
        None => None,
        Some(CollectorToken::Secret(reference)) => Some(BearerSource::new(secrets, reference.clone())),
        Some(CollectorToken::File(file)) => {
            let file = loaded.paths.resolve(file);
            // what is wrong with it is told at the start; it is read again when it is used
            read_named(&file).map_err(see)?;
            Some(BearerSource::reading(move || read_named(&file).map_err(|failure| failure.in_one_line())))
        }
    };
    let url = config.url.text().parse().map_err(|_| Failure::bug("an address is no URL"))?;
    let client = CollectorClient::new(client, url, config.gzip.unwrap_or(true), bearer)
        .map_err(|error| see(Failure::of(Code::CONFIG_INVALID, &error)))?;
    let mut timing = Timing::default();
    timing.delay = config.delay.unwrap_or(timing.delay);
    timing.backoff.max = config.retry_max.unwrap_or(timing.backoff.max);
    let folder = spool(config, &loaded.paths);
    let bytes = config.spool_mib.unwrap_or(SPOOL_MIB).saturating_mul(1024 * 1024);
    let settings = Collecting { spool: Some((folder.clone(), bytes)), timing };
    Collector::start(&settings, client, Arc::clone(&base.entropy), counters).map_err(|error| {
        let told = format!("the spool {} cannot be used", folder.display());
        see(Failure::new(Code::CONFIG_INVALID, told).caused_by(&error))
    })
}

fn networks(texts: &[String]) -> Result<Vec<kh_security::Network>, Failure> {
    let parsed = texts.iter().map(|text| text.parse());
    parsed.collect::<Result<_, kh_security::NetworkError>>().map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))
}

/// The guard's limits; none: there is no guard.
fn limits(config: &GuardConfig) -> Result<Option<Limits>, Failure> {
    if config.enabled == Some(false) {
        return Ok(None);
    }
    let usual = Limits::default();
    let wait_first = config.wait.unwrap_or(usual.wait_first);
    Ok(Some(Limits {
        address_failures: config.address_failures.unwrap_or(usual.address_failures),
        client_failures: config.client_failures.unwrap_or(usual.client_failures),
        window: config.window.unwrap_or(usual.window),
        wait_first,
        wait_max: config.wait_max.unwrap_or(usual.wait_max).max(wait_first),
        exempt: networks(&config.exempt)?,
        ..usual
    }))
}

/// What is looked for; none where the databases cannot tell it or nobody wants to know.
fn rules(config: &AlertsConfig, geoip: Option<&GeoipConfig>) -> Result<Option<Rules>, Failure> {
    let usual = Rules::default();
    let city = geoip.is_some_and(|geoip| geoip.city.is_some());
    let country = city || geoip.is_some_and(|geoip| geoip.country.is_some());
    let rules = Rules {
        impossible_travel: city && config.impossible_travel.unwrap_or(true),
        new_country: country && config.new_country.unwrap_or(true),
        speed_max_kmh: config.speed.map_or(usual.speed_max_kmh, f64::from),
        distance_min_km: config.distance.map_or(usual.distance_min_km, f64::from),
        country_memory: config.country_memory.unwrap_or(usual.country_memory),
        subjects_max: config.subjects.and_then(|count| usize::try_from(count).ok()).unwrap_or(usual.subjects_max),
        exempt_asns: config.exempt_asns.iter().filter_map(|asn| asn.trim_start_matches("AS").parse().ok()).collect(),
        exempt_networks: networks(&config.exempt_networks)?,
        exempt_subjects: config.exempt_subjects.clone(),
        quiet: usual.quiet,
    };
    Ok((rules.impossible_travel || rules.new_country).then_some(rules))
}
