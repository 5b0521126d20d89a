//! `[security]`: who tried to authenticate, and who has to wait.

use std::{path::PathBuf, time::Duration};

use kh_core::SecretReference;
use kh_platform::Address;
use serde::{Serialize, Serializer};

use super::{address, optional_duration, store_reference};

/// `[security]`. Absent, there is neither a security log nor a guard.
#[derive(Clone, Debug, Serialize)]
pub struct SecurityConfig {
    /// Where its lines go.
    pub log: SecurityTarget,
    /// Which successes are written.
    pub successes: Option<SuccessesChoice>,
    /// Where addresses are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geoip: Option<GeoipConfig>,
    /// Where lines are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector: Option<CollectorConfig>,
    /// Who has to wait.
    pub guard: GuardConfig,
    /// What is told to people.
    pub alerts: AlertsConfig,
}

/// Where the lines of the security log go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SecurityTarget {
    /// Into `security.log` in the state folder.
    #[default]
    Usual,
    /// Nowhere but to the collector.
    Off,
    /// To standard output.
    Stdout,
    /// Into a file.
    File(PathBuf),
}

impl Serialize for SecurityTarget {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Usual => to.serialize_none(),
            Self::Off => to.serialize_str("off"),
            Self::Stdout => to.serialize_str("stdout"),
            Self::File(path) => path.serialize(to),
        }
    }
}

/// Which successes are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SuccessesChoice {
    /// None.
    None,
    /// The first of a subject from a country within a day.
    FirstPerCountry,
    /// All that are recorded: one of a subject from a network within an hour, at least.
    All,
}

/// `[security.geoip]`
#[derive(Clone, Debug, Default, Serialize)]
pub struct GeoipConfig {
    /// A country database.
    pub country: Option<PathBuf>,
    /// A city database.
    pub city: Option<PathBuf>,
    /// A database of autonomous systems.
    pub asn: Option<PathBuf>,
}

impl GeoipConfig {
    /// Each file with its key.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let all = [("country", &self.country), ("city", &self.city), ("asn", &self.asn)];
        all.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)))
    }
}

/// `[security.collector]`
#[derive(Clone, Debug, Serialize)]
pub struct CollectorConfig {
    /// Where.
    #[serde(serialize_with = "address")]
    pub url: Address,
    /// Where its bearer token is.
    #[serde(flatten)]
    pub token: Option<CollectorToken>,
    /// Whether bodies are compressed; none is yes.
    pub gzip: Option<bool>,
    /// The folder of what waits; none is `security-spool` in the state folder.
    pub spool: Option<PathBuf>,
    /// The most that waits there, in MiB.
    pub spool_mib: Option<u64>,
    /// Longest wait until a line is sent.
    #[serde(serialize_with = "optional_duration")]
    pub delay: Option<Duration>,
    /// Longest pause between two tries.
    #[serde(serialize_with = "optional_duration")]
    pub retry_max: Option<Duration>,
    /// PEM file of a private CA to trust beside the system's.
    pub extra_ca: Option<PathBuf>,
}

/// Where the collector's token is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub enum CollectorToken {
    /// In a secret store.
    #[serde(rename = "token_secret", serialize_with = "store_reference")]
    Secret(SecretReference),
    /// In a file.
    #[serde(rename = "token_file")]
    File(PathBuf),
}

/// `[security.guard]`; what is none is the guard's default.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GuardConfig {
    /// Whether anybody has to wait; none is yes.
    pub enabled: Option<bool>,
    /// Failures of an address within the window.
    pub address_failures: Option<u32>,
    /// Failures of a client within the window.
    pub client_failures: Option<u32>,
    /// The window.
    #[serde(serialize_with = "optional_duration")]
    pub window: Option<Duration>,
    /// The first wait.
    #[serde(serialize_with = "optional_duration")]
    pub wait: Option<Duration>,
    /// The longest wait.
    #[serde(serialize_with = "optional_duration")]
    pub wait_max: Option<Duration>,
    /// Networks that are never counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<String>,
}

/// `[security.alerts]`; what is none is the default.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AlertsConfig {
    /// Whether impossible travel is looked for; none is yes, with a city database.
    pub impossible_travel: Option<bool>,
    /// Whether new countries are told; none is yes, with a database that knows countries.
    pub new_country: Option<bool>,
    /// Faster than this is impossible, in km/h.
    pub speed: Option<u32>,
    /// Nearer than this is never looked at, in km.
    pub distance: Option<u32>,
    /// For how long a country is not new.
    #[serde(serialize_with = "optional_duration")]
    pub country_memory: Option<Duration>,
    /// Subjects that are remembered.
    pub subjects: Option<u32>,
    /// Autonomous systems whose addresses say nothing about a place, as `AS64496`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt_asns: Vec<String>,
    /// Networks whose addresses say nothing about a place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt_networks: Vec<String>,
    /// Subjects that are everywhere at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt_subjects: Vec<String>,
}
