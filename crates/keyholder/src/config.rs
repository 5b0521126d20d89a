//! The configuration: one `keyholder.toml`, read by a pure function.
//!
//! Invariants: [`parse`] reports every mistake of a file at once, each with its place; an unknown key is a mistake; no
//! value of this module ever holds a secret, so that showing a configuration is always safe.

pub mod calendar;
mod deliver;
pub mod duration;
mod events;
mod inbound;
mod issuers;
mod keys;
pub mod mask;
mod mistake;
mod model;
mod network;
mod operators;
mod platform;
mod reader;
mod render;
mod rotation;
pub mod schema;
mod sections;
mod security;
mod sessions;
mod stores;
mod token_endpoint;
pub(crate) mod wrong;

pub(crate) use deliver::hook_timeout_max;
pub(crate) use issuers::OWN_OPAQUE;
pub use mistake::{Mistake, Mistakes, Severity};
pub use model::{
    AccessConfig, AccessFormat, AddressHeader, AdminConfig, AlertsConfig, ApprovalsConfig, AuditConfig, AzureAuth,
    BrokerConfig, ClientCertificate, ClientsConfig, CollectorConfig, CollectorToken, ConditionConfig, ConditionTest,
    Config, ConsumerConfig, CredentialConfig, CredentialRotationConfig, CxoneLoginConfig, EndpointConfig, EventsConfig,
    GatewayConfig, GeoipConfig, GuardConfig, HookConfig, HookDetail, IdentityHeaderConfig, InboundConfig,
    InboundTlsConfig, IssuerWay, KeySource, KeysConfig, LimitsConfig, ListenAddress, LogConfig, LogFormat, Need,
    NetworkConfig, NotifyConfig, NotifyDetail, OAuth2SourceConfig, PlatformConfig, PlatformDetail, ProxyChoice,
    ProxyConfig, RotationConfig, RotationTimes, RouteConfig, ScalarConfig, SecretStoreConfig, SecretStoreDetail,
    SecurityConfig, SecurityTarget, SessionsConfig, SmtpTls, StateConfig, StoreConfig, SuccessesChoice,
    TelemetryConfig, TlsConfig, TokenEndpointConfig, TokenType, TrustDetail, TrustedIssuerConfig, VaultAuth,
    VerifyConfig,
};
pub(crate) use reader::nearest;
pub use render::render;
pub(crate) use rotation::CALL_MIN;

use mistake::Sink;
use reader::Section;

/// Largest configuration file read, in bytes: a thousand credentials take a quarter of it.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// A commented configuration with every section; `keyholder config example` prints it.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// What a file without errors says.
#[derive(Debug)]
pub struct Parsed {
    /// The configuration.
    pub config: Config,
    /// What works and is risky.
    pub warnings: Mistakes,
}

/// Reads a configuration. Pure: touches no file, no environment and no clock.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Mistakes> {
    if bytes.len() > CONFIG_BYTES_MAX {
        let sink = Sink::new("");
        sink.error(
            0..0,
            format!("the file is larger than {CONFIG_BYTES_MAX} bytes"),
            Some("is it the right file?".to_owned()),
        );
        return Err(sink.finish());
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return Err(not_utf8(bytes, error.valid_up_to())),
    };
    let sink = Sink::new(text);
    let (table, syntax) = toml::de::DeTable::parse_recoverable(text);
    let broken = !syntax.is_empty();
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        sink.error(span, error.message().replace('\n', " "), Some(syntax_hint(error.message())));
    }
    let config = sections::read(Section::root(table.get_ref(), &sink));
    let mistakes = sink.finish();
    if broken || mistakes.errors() > 0 {
        return Err(mistakes);
    }
    Ok(Parsed { config, warnings: mistakes })
}

/// `[state] dir` of a file that may have mistakes, as far as it can be read.
pub fn state_dir(bytes: &[u8]) -> Option<std::path::PathBuf> {
    let text = std::str::from_utf8(bytes.get(..bytes.len().min(CONFIG_BYTES_MAX))?).ok()?;
    let (table, _) = toml::de::DeTable::parse_recoverable(text);
    let state = table.get_ref().get("state")?.get_ref().as_table()?;
    state.get("dir")?.get_ref().as_str().map(std::path::PathBuf::from)
}

/// The configuration as a file that [`parse`] reads back to the same configuration.
pub fn to_toml(config: &Config) -> Result<String, String> {
    let value = serde_json::to_value(config).map_err(|error| error.to_string())?;
    toml::to_string(&without_nulls(value)).map_err(|error| error.to_string())
}

/// TOML has no null: absent values are left out.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn not_utf8(bytes: &[u8], valid: usize) -> Mistakes {
    let good = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default()).into_owned();
    let sink = Sink::new(&good);
    sink.error(valid..valid, "the file is not UTF-8 text from here on", Some("save it as UTF-8".to_owned()));
    sink.finish()
}

fn syntax_hint(message: &str) -> String {
    let hint = if message.contains("duplicate key") {
        "each section and key may stand only once; merge them"
    } else if message.contains("string values must be quoted") || message.contains("invalid basic string") {
        "text stands in double quotes: key = \"value\""
    } else {
        "`keyholder config example` shows how every section is written"
    };
    hint.to_owned()
}

#[cfg(test)]
mod tests;
