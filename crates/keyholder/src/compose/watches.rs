//! What watches the process, as the configuration and the OpenTelemetry variables want it.
//!
//! Invariant: a header for the collector comes from the environment, or from a file that nobody but its owner and group
//! may read, and is never shown.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use kh_core::{Code, SecretString, metric::help};
use kh_net::{Egress, Settings as Way, SystemRoots};
use kh_telemetry::{
    Settings, Telemetry,
    access::{Form, Target},
    logging::{LogCounters, LogHandle},
    otlp::{OtlpSettings, Ratio, parse_headers},
};

use percent_encoding::percent_decode_str;
use prometheus_client::registry::Registry;

use super::{Base, egress::read_named, security::not_writable, tls::read_pem};
use crate::{
    cli::Loaded,
    config::{AccessConfig, AccessFormat},
    environment::Environment,
    output::Failure,
};

/// The collector's base address (OpenTelemetry specification, "OTLP Exporter Configuration"); beats the file's.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Headers for the collector; beat the file's.
pub(crate) const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// `true` turns the export off, whatever else is set.
const DISABLED: &str = "OTEL_SDK_DISABLED";
/// `key=value,key=value`: what is told about this process, before what keyholder itself would say.
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// Instead of `keyholder`; beats the `service.name` of the attributes (OpenTelemetry specification, "General SDK
/// Configuration").
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// Most attributes of the resource that are taken from the environment.
const RESOURCE_MAX: usize = 32;

/// What watches a keyholder that is about to start.
pub(crate) struct Watches {
    settings: Settings,
    egress: Arc<Egress>,
    log: LogCounters,
}

impl Watches {
    /// What `loaded` and the environment want. Reads every file that it needs.
    pub(crate) fn of(
        loaded: &Loaded,
        environment: &Environment,
        base: &Base,
        log: &LogHandle,
    ) -> Result<Self, Failure> {
        let mut instance = [0; 16];
        base.entropy.fill(&mut instance);
        let instance = uuid::Builder::from_random_bytes(instance).into_uuid().to_string();
        let settings = Settings { access: access(loaded), otlp: otlp(loaded, environment, instance)? };
        Ok(Self { settings, egress: egress(loaded)?, log: log.counters() })
    }

    /// Nothing but the metrics: for a keyholder that must not reach anybody.
    pub(crate) fn none() -> Result<Self, Failure> {
        let egress = Egress::trusting(&[]).map_err(|error| Failure::of(Code::INTERNAL, &error))?;
        Ok(Self { settings: Settings::default(), egress: Arc::new(egress), log: LogCounters::default() })
    }

    /// Starts it, before anything can be watched. Must run on the control runtime.
    pub(super) fn start(self, base: &Base, registry: &mut Registry) -> Result<Arc<Telemetry>, Failure> {
        const LOG_ERRORS: &str = "keyholder_log_file_errors";
        const LOG_DROPPED: &str = "keyholder_log_lines_dropped";
        registry.register(LOG_ERRORS, help(LOG_ERRORS), self.log.file_errors);
        registry.register(LOG_DROPPED, help(LOG_DROPPED), self.log.dropped);
        let (clock, entropy) = (Arc::clone(&base.clock), Arc::clone(&base.entropy));
        let runtime = tokio::runtime::Handle::current();
        Telemetry::start(self.settings, registry, self.egress, clock, entropy, &runtime).map_err(|error| {
            Failure::new(Code::CONFIG_INVALID, "the access log cannot be opened")
                .caused_by(&error)
                .hint("see [log] access in keyholder.toml; its folder must be there and writable")
        })
    }
}

/// What is wrong with what `[telemetry]` and the environment name for the collector. Reaches nobody.
pub(crate) fn broken_telemetry(loaded: &Loaded, environment: &Environment) -> Vec<(String, Failure)> {
    let made = [otlp(loaded, environment, String::new()).map(drop), egress(loaded).map(drop)];
    made.into_iter().filter_map(|made| Some(("[telemetry]".to_owned(), made.err()?))).collect()
}

/// What is wrong with the files of `[log]`, by key. Makes none of them.
pub(crate) fn broken_logs(loaded: &Loaded) -> Vec<(String, Failure)> {
    let paths = &loaded.paths;
    let file = loaded.config.log.file.as_ref().map(|file| paths.resolve(file));
    // it is opened before the state folder is made
    let file = file.and_then(|file| not_writable(&file, &[]));
    let access = match &loaded.config.log.access {
        AccessConfig::File(path) => not_writable(&paths.resolve(path), &[&paths.state]),
        AccessConfig::Off | AccessConfig::Stdout => None,
    };
    let all = [("[log] file", file), ("[log] access", access)];
    all.into_iter().filter_map(|(key, failure)| Some((key.to_owned(), failure?))).collect()
}

fn access(loaded: &Loaded) -> Option<(Target, Form)> {
    let log = &loaded.config.log;
    let form = match log.access_format.unwrap_or_default() {
        AccessFormat::Json => Form::Json,
        AccessFormat::Text => Form::Text,
    };
    let target = match &log.access {
        AccessConfig::Off => return None,
        AccessConfig::Stdout => Target::Stdout,
        AccessConfig::File(path) => Target::File(loaded.paths.resolve(path)),
    };
    Some((target, form))
}

fn otlp(loaded: &Loaded, environment: &Environment, instance: String) -> Result<Option<OtlpSettings>, Failure> {
    let config = &loaded.config.telemetry;
    let named = environment.text(ENDPOINT).map(|text| (text, ENDPOINT));
    let endpoint = named.or_else(|| Some((config.otlp_endpoint.as_ref()?.text().to_owned(), "otlp_endpoint")));
    let disabled = environment.text(DISABLED).is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let Some((endpoint, source)) = endpoint.filter(|_| !disabled) else { return Ok(None) };
    let mut settings = OtlpSettings::for_collector(&endpoint)
        .map_err(|error| Failure::of(Code::CONFIG_INVALID, &error).hint(format!("it is the value of {source}")))?;
    if config.traces == Some(false) {
        settings.traces_url = None;
    }
    if config.metrics == Some(false) {
        settings.metrics_url = None;
    }
    if let Some(headers) = headers(loaded, environment)? {
        settings.headers = parse_headers(&headers).map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))?;
    }
    settings.ratio = config.sample_ratio.and_then(Ratio::new).unwrap_or(Ratio::ALL);
    settings.metrics_interval = config.metrics_interval.unwrap_or(settings.metrics_interval);
    settings.resource = resource(environment, instance);
    Ok(Some(settings))
}

fn headers(loaded: &Loaded, environment: &Environment) -> Result<Option<SecretString>, Failure> {
    if let Some(headers) = environment.secret(HEADERS) {
        return Ok(Some(headers));
    }
    let path = loaded.config.telemetry.headers_file.as_ref().map(|path| loaded.paths.resolve(path));
    path.as_deref().map(headers_of).transpose()
}

fn headers_of(path: &Path) -> Result<SecretString, Failure> {
    read_named(path).map_err(|failure| failure.hint("see [telemetry] headers_file in keyholder.toml"))
}

fn resource(environment: &Environment, instance: String) -> Vec<(String, String)> {
    let mut all = attributes(&environment.text(RESOURCE).unwrap_or_default());
    if let Some(name) = environment.text(SERVICE_NAME) {
        all.insert("service.name".to_owned(), name);
    }
    for (key, value) in [
        ("service.name", "keyholder".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", instance),
        ("process.pid", std::process::id().to_string()),
    ] {
        all.entry(key.to_owned()).or_insert(value);
    }
    all.into_iter().collect()
}

/// Keys and values are percent-encoded (OpenTelemetry specification, "Specifying resource information via an environment
/// variable"). What is no pair or no text is left out alone; the specification would give all of it up, and the service's
/// name with it.
fn attributes(text: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((decoded(key)?, decoded(value)?))
    };
    text.split(',')
        .filter_map(pair)
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .take(RESOURCE_MAX)
        .collect()
}

/// The way to the collector: direct, with the system's CAs and the one that the configuration names.
fn egress(loaded: &Loaded) -> Result<Arc<Egress>, Failure> {
    let bundle = loaded.config.telemetry.extra_ca.as_ref().map(|path| loaded.paths.resolve(path));
    let extra_ca = bundle.iter().map(|path| read_pem(path)).collect::<Result<Vec<_>, _>>()?;
    let egress = Egress::new(Way { extra_ca, ..Way::default() }, &SystemRoots::load());
    egress
        .map(Arc::new)
        .map_err(|error| Failure::of(Code::CONFIG_INVALID, &error).hint("see [telemetry] extra_ca in keyholder.toml"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{Permissions, set_permissions},
        os::unix::fs::PermissionsExt,
    };

    use super::*;

    #[test]
    fn headers_come_from_a_file_that_others_may_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("otlp.headers");
        std::fs::write(&path, "x-team=a\nx-api-key=collector-key-0123456789\n").unwrap();
        for mode in [0o400, 0o440, 0o600, 0o640] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let headers = headers_of(&path).unwrap();
            assert_eq!(headers.expose(), "x-team=a\nx-api-key=collector-key-0123456789", "{mode:o}");
            assert_eq!(parse_headers(&headers).unwrap().len(), 2, "{mode:o}");
        }
        for mode in [0o444, 0o604, 0o644, 0o660] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let failure = headers_of(&path).unwrap_err();
            assert_eq!(failure.code(), Code::CONFIG_INVALID, "{mode:o}");
            assert!(failure.detail().contains("may be read by others"), "{mode:o}: {failure:?}");
            assert!(!format!("{failure:?}").contains("collector-key"), "{mode:o}: {failure:?}");
        }
    }

    fn told(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        resource(&Environment::of_pairs(variables), "i-1".to_owned()).into_iter().collect()
    }

    #[test]
    fn the_resource_is_named_and_extended_by_the_environment() {
        let all = told(&[
            (SERVICE_NAME, "gateway-eu"),
            (RESOURCE, "deployment.environment=prod, service.name=other,=x,broken"),
        ]);
        let of = |key: &str| all.get(key).map(String::as_str);
        assert_eq!((of("service.name"), of("service.instance.id")), (Some("gateway-eu"), Some("i-1")));
        assert_eq!((of("deployment.environment"), all.len()), (Some("prod"), 5));
    }

    #[test]
    fn what_the_attributes_say_goes_before_what_keyholder_says_and_is_decoded() {
        let all = told(&[(
            RESOURCE,
            "service.name=gateway-eu,service.instance.id=prod.pod-1, team = a%20b ,a%2Cb=c%3Dd,bad=%FF,rest=50%",
        )]);
        for (key, value) in [
            ("service.name", Some("gateway-eu")),
            ("service.instance.id", Some("prod.pod-1")),
            ("service.version", Some(env!("CARGO_PKG_VERSION"))),
            ("team", Some("a b")),
            ("a,b", Some("c=d")),
            ("bad", None),
            ("rest", Some("50%")),
        ] {
            assert_eq!(all.get(key).map(String::as_str), value, "{key}");
        }
        for nothing in [told(&[]), told(&[(RESOURCE, "service.name=,service.instance.id=")])] {
            let of = |key: &str| nothing.get(key).map(String::as_str);
            assert_eq!((of("service.name"), of("service.instance.id")), (Some("keyholder"), Some("i-1")));
        }
        let many: Vec<String> = (0..100).map(|number| format!("key-{number}=x")).collect();
        assert_eq!(attributes(&many.join(",")).len(), RESOURCE_MAX);
    }
}
