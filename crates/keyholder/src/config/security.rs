//! Reads `[security]`.
//!
//! Invariant: the log goes somewhere: to a file, to standard output, or to a collector.

use std::time::Duration;

use kh_platform::{Address, PlainHttp};
use kh_security::Network;

use super::{
    keys::words,
    model::{
        AlertsConfig, CollectorConfig, CollectorToken, GeoipConfig, GuardConfig, SecurityConfig, SecurityTarget,
        SuccessesChoice,
    },
    reader::{Located, Section},
    stores::{self, Stores},
};

const SUCCESSES: [(&str, SuccessesChoice); 3] = [
    ("none", SuccessesChoice::None),
    ("first_per_country", SuccessesChoice::FirstPerCountry),
    ("all", SuccessesChoice::All),
];

/// Shorter windows than this count nothing that a person would call guessing.
const WINDOW_MIN: Duration = Duration::from_secs(10);

/// Reads it; none where there is no such section.
pub(super) fn read(root: &Section<'_>, stores: &Stores) -> Option<SecurityConfig> {
    let section = root.section("security")?;
    let log = section.parsed("log", "write \"off\", \"stdout\" or the path of a file", |text| match text {
        "" => Err("the path is empty"),
        "off" => Ok(SecurityTarget::Off),
        "stdout" => Ok(SecurityTarget::Stdout),
        path => Ok(SecurityTarget::File(path.into())),
    });
    let geoip = section.section("geoip").map(geoip);
    let has_collector = section.place("collector").is_some();
    let collector = section.section("collector").and_then(|section| collector(section, stores));
    if let Some(found) = log.as_ref().filter(|found| found.value == SecurityTarget::Off && !has_collector) {
        let hint = "name a file, add [security.collector], or leave the key out";
        section.warning(found.span.clone(), "the security log goes nowhere", hint);
    }
    let config = SecurityConfig {
        log: log.map(|found| found.value).unwrap_or_default(),
        successes: section.choice("successes", &SUCCESSES).map(|found| found.value),
        guard: section.section("guard").map(guard).unwrap_or_default(),
        alerts: section.section("alerts").map(|section| alerts(section, geoip.as_ref())).unwrap_or_default(),
        geoip,
        collector,
    };
    section.finish();
    Some(config)
}

fn geoip(section: Section<'_>) -> GeoipConfig {
    let path = |key| section.path(key).map(|found| found.value);
    let config = GeoipConfig { country: path("country"), city: path("city"), asn: path("asn") };
    if ["country", "city", "asn"].iter().all(|key| section.place(key).is_none()) {
        let hint = "city = \"/var/lib/GeoIP/GeoLite2-City.mmdb\"";
        section.error(section.span.clone(), format!("[{}] names no database", section.path), hint);
    }
    section.finish();
    config
}

fn collector(section: Section<'_>, stores: &Stores) -> Option<CollectorConfig> {
    section.lacking(&[("url", "url = \"https://siem.example.com/ingest\"")]);
    let hint = "write it like \"https://siem.example.com/ingest\"";
    let url = section.parsed("url", hint, |text| Address::parse(text, PlainHttp::LoopbackOnly));
    let secret = section
        .text("token_secret")
        .and_then(|found| stores::reference(&section, "token_secret", &found, stores))
        .map(CollectorToken::Secret);
    let file = section.path("token_file").map(|found| CollectorToken::File(found.value));
    if let (Some(_), Some(second)) = (section.place("token_secret"), section.place("token_file")) {
        section.error(second, "the collector has two tokens", "keep one of token_secret and token_file");
    }
    let (gzip, spool, extra_ca) = (section.flag("gzip"), section.path("spool"), section.path("extra_ca"));
    let spool_mib = section.number("spool_mib", 8..=65_536);
    let (delay, retry_max) = (section.duration("delay"), section.duration("retry_max"));
    section.finish();
    Some(CollectorConfig {
        url: url?.value,
        token: secret.or(file),
        gzip,
        spool: spool.map(|found| found.value),
        spool_mib,
        delay: delay.map(|found| found.value),
        retry_max: retry_max.map(|found| found.value),
        extra_ca: extra_ca.map(|found| found.value),
    })
}

fn guard(section: Section<'_>) -> GuardConfig {
    let window = section.duration("window").map(|found| {
        if found.value < WINDOW_MIN {
            section.warning(found.span, "the window is shorter than 10s", "10m counts what one caller does in a row");
        }
        found.value
    });
    let config = GuardConfig {
        enabled: section.flag("enabled"),
        address_failures: number(&section, "address_failures", 1..=1_000_000),
        client_failures: number(&section, "client_failures", 1..=1_000_000),
        window,
        wait: section.duration("wait").map(|found| found.value),
        wait_max: section.duration("wait_max").map(|found| found.value),
        exempt: networks(&section, "exempt"),
    };
    section.finish();
    config
}

fn alerts(section: Section<'_>, geoip: Option<&GeoipConfig>) -> AlertsConfig {
    let config = AlertsConfig {
        impossible_travel: section.flag("impossible_travel"),
        new_country: section.flag("new_country"),
        speed: number(&section, "speed", 100..=100_000),
        distance: number(&section, "distance", 1..=20_000),
        country_memory: section.duration("country_memory").map(|found| found.value),
        subjects: number(&section, "subjects", 100..=1_000_000),
        exempt_asns: words(&section, "exempt_asns"),
        exempt_networks: networks(&section, "exempt_networks"),
        exempt_subjects: section
            .texts("exempt_subjects")
            .unwrap_or_default()
            .into_iter()
            .map(|item| item.value.to_owned())
            .collect(),
    };
    let countries = geoip.is_some_and(|geoip| geoip.city.is_some() || geoip.country.is_some());
    let needs = [
        ("impossible_travel", config.impossible_travel, geoip.is_some_and(|geoip| geoip.city.is_some()), "city"),
        ("new_country", config.new_country, countries, "country or city"),
    ];
    for (key, wanted, can, database) in needs {
        if let Some(place) = section.place(key).filter(|_| wanted == Some(true) && !can) {
            let problem = format!("{key} cannot be told without a {database} database");
            section.warning(place, problem, "name one in [security.geoip]");
        }
    }
    section.finish();
    config
}

fn number(section: &Section<'_>, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u32> {
    section.number(key, range).and_then(|number| u32::try_from(number).ok())
}

fn words(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let found = section.words(key, &words::ASN).unwrap_or_default();
    found.into_iter().map(|item| item.value).collect()
}

fn networks(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let found = section.words(key, &words::NETWORK).unwrap_or_default();
    for Located { value, span } in &found {
        if let Err(error) = value.parse::<Network>() {
            section.error(span.clone(), format!("{key}: {error}"), words::NETWORK.hint);
        }
    }
    found.into_iter().map(|item| item.value).collect()
}
