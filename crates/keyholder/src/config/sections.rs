//! Reads the sections of a configuration, other than the platforms.
//!
//! Invariant: a section that is absent reads as its defaults; a section with mistakes reads as far as it goes, so that
//! one mistake does not hide the next.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use kh_core::{CredentialName, EnvironmentName, PlatformName, environment::PRODUCTION};
use kh_platform::{Address, PlainHttp};

use super::{
    deliver::{self, Delivery},
    events, inbound, issuers, keys,
    model::{
        AccessConfig, AccessFormat, AuditConfig, BrokerConfig, Config, CredentialConfig, GatewayConfig, KeySource,
        LimitsConfig, ListenAddress, LogConfig, LogFormat, NetworkConfig, PlatformConfig, StateConfig, StoreConfig,
        TelemetryConfig, TlsConfig,
    },
    network, operators, platform,
    reader::{Located, Section, nearest},
    rotation, security, sessions,
    stores::{self, Stores},
    token_endpoint,
};

/// Most threads of the data plane: more than any machine it was measured on has cores.
const WORKERS_MAX: u64 = 512;

/// Most open connections: above this, file descriptors run out first.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// Shortest inactivity timeout that Genesys Cloud lets an organisation set (platform facts: 300 to 28,800 s).
const IDLE_MIN: Duration = Duration::from_mins(5);

const GATEWAY_PORT: u16 = 8080;
pub(super) const ADMIN_PORT: u16 = 8081;
const BROKER_PORT: u16 = 8082;

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Reads everything.
pub(super) fn read(root: Section<'_>) -> Config {
    let gateway = gateway(&root);
    let admin = operators::admin(&root);
    let operators = operators::operators(&root, &admin);
    let broker = broker(&root);
    let platforms = platforms(&root);
    let stores = stores::read(&root);
    let delivery = deliver::read(&root);
    let credentials = credentials(&root, &platforms, &stores, &delivery);
    let rotation = rotation::defaults(&root, &delivery);
    let token_endpoint = token_endpoint::read(&root);
    let own = token_endpoint.issuer.as_ref().map(ToString::to_string);
    let beside = issuers::Beside { platforms: &platforms, credentials: &credentials, stores: &stores, own };
    let issuers = issuers::read(&root, &beside);
    let inbound = inbound::read(&root, &issuers);
    let events = events::read(&root, &issuers, &stores);
    let config = Config {
        gateway,
        admin,
        operators,
        broker,
        token_endpoint,
        issuers: issuers.into_iter().filter_map(|(name, issuer)| Some((name, issuer?))).collect(),
        inbound,
        events,
        state: state(&root),
        store: store(&root),
        audit: audit(&root),
        log: log(&root),
        security: security::read(&root, &stores),
        network: network(&root),
        telemetry: telemetry(&root),
        platforms: platforms.into_iter().filter_map(|(name, platform)| Some((name, platform?))).collect(),
        credentials,
        rotation,
        secret_stores: stores.into_iter().filter_map(|(name, store)| Some((name, store?))).collect(),
        hooks: delivery.hooks,
        notifiers: delivery.notifiers,
    };
    rotation::check_rotators(&root, &config);
    deliver::check_timeouts(&root, &config);
    root.finish();
    config
}

fn gateway(root: &Section<'_>) -> GatewayConfig {
    let mut config = GatewayConfig {
        listen: vec![ListenAddress::Tcp(loopback(GATEWAY_PORT))],
        socket_mode: None,
        public_url: None,
        trusted_proxies: Vec::new(),
        client_address: None,
        proxy_protocol: Vec::new(),
        workers: None,
        tls: None,
        limits: LimitsConfig::default(),
    };
    let Some(section) = root.section("gateway") else { return config };
    if let Some(listen) = section.listeners("listen") {
        config.listen = listen;
    }
    let hint = "write the permissions as in \"0660\": read and write for the owner and the group";
    config.socket_mode = section.parsed("socket_mode", hint, mode).map(|found| found.value);
    config.public_url = public_url(&section);
    config.trusted_proxies = inbound::networks(&section, "trusted_proxies");
    config.client_address = section.choice("client_address", &inbound::ADDRESS_HEADERS).map(|found| found.value);
    config.proxy_protocol = inbound::networks(&section, "proxy_protocol");
    for (key, other) in [("trusted_proxies", "client_address"), ("client_address", "trusted_proxies")] {
        if let (Some(place), None) = (section.place(key), section.place(other)) {
            section.error(place, format!("{key} without {other}"), format!("write {other} beside it"));
        }
    }
    config.workers = section.number("workers", 1..=WORKERS_MAX).and_then(|count| usize::try_from(count).ok());
    config.tls = tls(&section);
    if config.listen.is_empty() && config.tls.as_ref().is_none_or(|tls| tls.listen.is_empty()) {
        let span = section.place("listen").unwrap_or_else(|| section.span.clone());
        section.error(span, "the gateway listens nowhere", "listen = [\"127.0.0.1:8080\"]");
    }
    let in_clear = config.tls.as_ref().is_none_or(|tls| !tls.listen.is_empty());
    if in_clear && config.listen.iter().any(|address| !address.is_local()) {
        let span = section.place("listen").unwrap_or_else(|| section.span.clone());
        section.warning(
            span,
            "the gateway takes client secrets over plain http from other machines",
            "add [gateway.tls] with cert and key, or listen on 127.0.0.1",
        );
    }
    if let Some(limits) = section.section("limits") {
        config.limits = LimitsConfig {
            connections_per_worker: limits.number("connections_per_worker", 1..=CONNECTIONS_MAX),
            header_timeout: limits.duration("header_timeout").map(|found| found.value),
            body_timeout: limits.duration("body_timeout").map(|found| found.value),
            upstream_timeout: limits.duration("upstream_timeout").map(|found| found.value),
            drain_delay: limits.duration("drain_delay").map(|found| found.value),
            drain: limits.duration("drain").map(|found| found.value),
        };
        limits.finish();
    }
    section.finish();
    config
}

/// An origin: what comes before the path belongs to whatever stands before keyholder.
fn public_url(section: &Section<'_>) -> Option<Address> {
    let hint = "write it like \"https://keyholder.example.com\"";
    let origin = |text: &str| match Address::parse(text, PlainHttp::LoopbackOnly) {
        Ok(address) if address.path().is_empty() => Ok(address),
        Ok(_) => Err("a public URL has no path".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    section.parsed("public_url", hint, origin).map(|found| found.value)
}

/// Permissions in octal digits.
fn mode(text: &str) -> Result<u32, &'static str> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 && mode & 0o600 == 0o600 => Ok(mode),
        _ => Err("it is not a file mode that lets keyholder use its own socket"),
    }
}

fn tls(gateway: &Section<'_>) -> Option<TlsConfig> {
    let section = gateway.section("tls")?;
    let listen = section.listeners("listen").unwrap_or_default();
    let cert = section.path("cert").map(|found| found.value);
    let key = section.path("key").map(|found| found.value);
    section.keeps(&keys::TLS);
    let clients = inbound::clients(&section);
    section.finish();
    Some(TlsConfig { listen, cert: cert?, key: key?, clients })
}

fn broker(root: &Section<'_>) -> BrokerConfig {
    let usual =
        BrokerConfig { listen: Some(loopback(BROKER_PORT)), socket: None, allow_uids: Vec::new(), token_file: None };
    let Some(section) = root.section("broker") else { return usual };
    let config = BrokerConfig {
        listen: local_listener(&section, BROKER_PORT),
        socket: section.path("socket").map(|found| found.value),
        allow_uids: section.uids("allow_uids").unwrap_or_default(),
        token_file: section.path("token_file").map(|found| found.value),
    };
    if config.socket.is_none()
        && let Some(span) = section.place("allow_uids")
        && section.place("socket").is_none()
    {
        let hint = "add socket = \"/run/keyholder/broker.sock\"";
        section.warning(span, "allow_uids is about the socket, and there is none", hint);
    }
    section.finish();
    config
}

/// Where a listener for this machine alone is, by default at `port`.
pub(super) fn local_listener(section: &Section<'_>, port: u16) -> Option<SocketAddr> {
    let off = section.place("listen").is_some_and(|_| section.text("listen").is_some_and(|text| text.value == "off"));
    let listen = if off { None } else { section.address("listen") };
    let listen = match listen {
        None if !off && section.place("listen").is_none() => Some(loopback(port)),
        other => other,
    };
    if listen.is_some_and(|address| !address.ip().is_loopback()) {
        let span = section.place("listen").unwrap_or_else(|| section.span.clone());
        section.error(
            span,
            format!("the {} listener speaks plain http and may listen on loopback only", section.path),
            format!("listen = \"127.0.0.1:{port}\", or \"off\""),
        );
    }
    listen
}

fn state(root: &Section<'_>) -> StateConfig {
    let Some(section) = root.section("state") else { return StateConfig::default() };
    let dir = section.path("dir").map(|found| found.value);
    section.finish();
    StateConfig { dir }
}

fn store(root: &Section<'_>) -> StoreConfig {
    let Some(section) = root.section("store") else { return StoreConfig::default() };
    let variable = |key| {
        section.parsed(key, "write the name of an environment variable, such as \"KEYHOLDER_STORE_KEY\"", |text| {
            let name = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
            if name && !text.is_empty() { Ok(text.to_owned()) } else { Err("not the name of an environment variable") }
        })
    };
    let credential = |key| {
        section.parsed(key, "write the name of a file without a folder, such as \"store.key\"", |text| {
            let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if plain && first && text.len() <= 255 { Ok(text.to_owned()) } else { Err("not the name of a file") }
        })
    };
    let given: Vec<(&str, Option<KeySource>)> = vec![
        ("key_file", section.path("key_file").map(|found| KeySource::KeyFile(found.value))),
        ("key_credential", credential("key_credential").map(|found| KeySource::KeyCredential(found.value))),
        ("key_env", variable("key_env").map(|found| KeySource::KeyEnv(found.value))),
        ("passphrase_file", section.path("passphrase_file").map(|found| KeySource::PassphraseFile(found.value))),
        ("passphrase_env", variable("passphrase_env").map(|found| KeySource::PassphraseEnv(found.value))),
    ];
    let places: Vec<_> = given.iter().filter_map(|(key, _)| section.place(key)).collect();
    if let [_, second, ..] = places.as_slice() {
        section.error(
            second.clone(),
            "the store has more than one key",
            "keep one of key_file, key_credential, key_env, passphrase_file and passphrase_env",
        );
    }
    section.finish();
    let key = given.into_iter().find_map(|(_, source)| source).unwrap_or_default();
    StoreConfig { key }
}

fn audit(root: &Section<'_>) -> AuditConfig {
    let Some(section) = root.section("audit") else { return AuditConfig::default() };
    let path = section.path("path");
    let checkpoints = section.path("checkpoints");
    if let (Some(path), Some(checkpoints)) = (&path, &checkpoints)
        && path.value == checkpoints.value
    {
        let hint = "keep the checkpoints where whoever can write the log cannot write";
        section.error(checkpoints.span.clone(), "the log and its checkpoints are the same file", hint);
    }
    section.finish();
    AuditConfig { path: path.map(|found| found.value), checkpoints: checkpoints.map(|found| found.value) }
}

fn network(root: &Section<'_>) -> NetworkConfig {
    let Some(section) = root.section("network") else { return NetworkConfig::default() };
    let config = network::read(&section);
    section.finish();
    config
}

fn log(root: &Section<'_>) -> LogConfig {
    let Some(section) = root.section("log") else { return LogConfig::default() };
    let level =
        section.parsed("level", "write \"info\", \"debug\" or a filter such as \"info,kh_broker=debug\"", |text| {
            tracing_subscriber::EnvFilter::builder()
                .parse(text)
                .map(|_| text.to_owned())
                .map_err(|_| "not a log filter")
        });
    let format = section.parsed("format", "write \"human\" or \"json\"", |text| match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("there is no such format"),
    });
    let file = section.path("file");
    let access = section.parsed("access", "write \"off\", \"stdout\" or the path of a file", |text| match text {
        "" => Err("the path is empty"),
        "off" => Ok(AccessConfig::Off),
        "stdout" => Ok(AccessConfig::Stdout),
        path => Ok(AccessConfig::File(path.into())),
    });
    let access_format = section.parsed("access_format", "write \"json\" or \"text\"", |text| match text {
        "json" => Ok(AccessFormat::Json),
        "text" => Ok(AccessFormat::Text),
        _ => Err("there is no such format"),
    });
    if let (Some(file), Some(access)) = (&file, &access)
        && access.value == AccessConfig::File(file.value.clone())
    {
        let hint = "give each a file of its own: their lines are of different kinds";
        section.error(access.span.clone(), "the log and the access log are the same file", hint);
    }
    section.finish();
    LogConfig {
        level: level.map(|found| found.value),
        format: format.map(|found| found.value),
        file: file.map(|found| found.value),
        access: access.map(|found| found.value).unwrap_or_default(),
        access_format: access_format.map(|found| found.value),
    }
}

/// Shortest time between two exports of the metrics: more often says nothing new and costs the collector.
const METRICS_INTERVAL_MIN: Duration = Duration::from_secs(5);

fn telemetry(root: &Section<'_>) -> TelemetryConfig {
    let Some(section) = root.section("telemetry") else { return TelemetryConfig::default() };
    let endpoint = section.parsed("otlp_endpoint", "write a base address such as \"http://127.0.0.1:4318\"", |text| {
        Address::parse(text, PlainHttp::Allowed)
    });
    if let Some(found) = &endpoint
        && !found.value.is_https()
        && !found.value.is_loopback()
    {
        let hint = "use https, or a collector on this machine";
        section.warning(found.span.clone(), "names of clients and headers go to the collector in the clear", hint);
    }
    let interval = section.duration("metrics_interval").map(|found| {
        if found.value < METRICS_INTERVAL_MIN {
            section.warning(found.span, "metrics_interval is shorter than 5s", "collectors usually expect 10s to 60s");
        }
        found.value
    });
    let config = TelemetryConfig {
        otlp_endpoint: endpoint.map(|found| found.value),
        traces: section.flag("traces"),
        metrics: section.flag("metrics"),
        sample_ratio: section.share("sample_ratio"),
        metrics_interval: interval,
        headers_file: section.path("headers_file").map(|found| found.value),
        extra_ca: section.path("extra_ca").map(|found| found.value),
    };
    section.finish();
    config
}

/// Every platform by name; one with mistakes has a name and no value, so that its credentials are not blamed for it.
fn platforms(root: &Section<'_>) -> BTreeMap<PlatformName, Option<PlatformConfig>> {
    let mut all = BTreeMap::new();
    for (name, section) in root.named_sections("platform") {
        match name.value.parse::<PlatformName>() {
            Ok(parsed) => {
                all.insert(parsed, platform::read(section));
            }
            Err(error) => root.error(name.span, error.to_string(), "rename the section"),
        }
    }
    all
}

fn credentials(
    root: &Section<'_>,
    platforms: &BTreeMap<PlatformName, Option<PlatformConfig>>,
    stores: &Stores,
    delivery: &Delivery,
) -> BTreeMap<CredentialName, CredentialConfig> {
    let mut all = BTreeMap::new();
    for (name, section) in root.named_sections("credential") {
        let parsed = name.value.parse::<CredentialName>();
        let credential = credential(&section, platforms, stores, delivery);
        section.finish();
        match (parsed, credential) {
            (Ok(parsed), Some(credential)) => {
                all.insert(parsed, credential);
            }
            (Ok(_), None) => {}
            (Err(error), _) => root.error(name.span, error.to_string(), "rename the section"),
        }
    }
    all
}

fn credential(
    section: &Section<'_>,
    platforms: &BTreeMap<PlatformName, Option<PlatformConfig>>,
    stores: &Stores,
    delivery: &Delivery,
) -> Option<CredentialConfig> {
    let platform = section.text("platform").and_then(|found| known_platform(section, &found, platforms));
    let secret = section.text("secret").and_then(|found| stores::reference(section, "secret", &found, stores));
    let rotation = rotation::of_a_credential(section, stores, delivery);
    let kind = platform.as_ref().and_then(|name| platforms.get(name)?.as_ref()).map(PlatformConfig::kind);
    let sessions = sessions::of_a_credential(section, kind, rotation.as_ref());
    let environment = environment(section);
    let early_refresh = section.duration("early_refresh").map(|found| found.value);
    let idle_timeout = section.duration("idle_timeout").map(|found| {
        if found.value < IDLE_MIN {
            section.warning(
                found.span,
                "no Genesys Cloud organisation can have an inactivity timeout below 5m",
                "take the value of the organisation's settings",
            );
        }
        found.value
    });
    for key in ["platform", "secret"] {
        if section.place(key).is_none() {
            let hint =
                if key == "platform" { "platform = \"NAME\" of a [platform.NAME]" } else { "secret = \"store:NAME\"" };
            section.error(section.span.clone(), format!("[{}] lacks {key}", section.path), hint);
        }
    }
    let (platform, secret) = (platform?, secret?);
    Some(CredentialConfig { platform, secret, environment, early_refresh, idle_timeout, rotation, sessions })
}

fn environment(section: &Section<'_>) -> Option<EnvironmentName> {
    let hint = "write a word such as \"production\" or \"staging\"";
    let found = section.parsed("environment", hint, str::parse::<EnvironmentName>)?;
    if found.value.looks_like_production() {
        section.warning(
            found.span,
            format!("only the environment \"{PRODUCTION}\" has to be asked for by name, and this one is another"),
            "environment = \"production\", if it is production",
        );
    }
    Some(found.value)
}

pub(super) fn known_platform(
    section: &Section<'_>,
    found: &Located<&str>,
    platforms: &BTreeMap<PlatformName, Option<PlatformConfig>>,
) -> Option<PlatformName> {
    let name = found.value.parse::<PlatformName>().ok().filter(|name| platforms.contains_key(name));
    if name.is_none() {
        let hint = match nearest(found.value, platforms.keys().map(PlatformName::as_str)) {
            Some(similar) => format!("did you mean \"{similar}\"?"),
            None => "add the section [platform.NAME] for it".to_owned(),
        };
        section.error(found.span.clone(), "there is no platform of this name", hint);
    }
    name
}
