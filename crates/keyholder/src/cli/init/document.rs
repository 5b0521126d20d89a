//! The configuration that `init` writes.
//!
//! Invariant: it parses without a mistake or warning, says what it leaves at its default, and holds no secret.

use std::net::{Ipv4Addr, SocketAddr};

use super::plan::{Plan, Platform};
use crate::config::schema::DIRECTIVE;

/// The whole file. `state` is the state folder if the file has to name it.
pub(super) fn write(plan: &Plan, state: Option<&str>) -> String {
    [head(), listeners(plan.listen), places(state), platform(plan), credential(plan)].concat()
}

fn head() -> String {
    format!(
        "{DIRECTIVE}
# Written by `keyholder init`. All keys and their defaults: `keyholder config example`; check it: `keyholder check`.
# No secret belongs into this file: each credential names a document of the encrypted secret store.

"
    )
}

fn listeners(gateway: SocketAddr) -> String {
    let beside = |steps: u16| {
        let port = if gateway.port() == 0 { 0 } else { gateway.port().wrapping_add(steps) };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    };
    format!(
        "[gateway]
# Where applications point their official SDK. Other machines need [gateway.tls].
listen = [{}]

[admin]
# /livez, /readyz and /metrics, on loopback only; \"off\" is off.
listen = {}

[broker]
# Tokens for local programs, on loopback only; \"off\" is off.
listen = {}

",
        quoted(&gateway.to_string()),
        quoted(&beside(1).to_string()),
        quoted(&beside(2).to_string())
    )
}

fn places(state: Option<&str>) -> String {
    let dir = match state {
        Some(folder) => format!("dir = {}", quoted(folder)),
        None => "# dir = \"/var/lib/keyholder\"".to_owned(),
    };
    format!(
        "[state]
# Clients, issued tokens and the secret store; without it the user's XDG state folder.
{dir}

[store]
# What opens the secret store. Without any, store.key in the state folder: keep a copy of it apart from the backups.
# key_file = \"/run/credentials/keyholder/store.key\"

[log]
level = \"info\"
format = \"human\"         # or \"json\"

"
    )
}

fn platform(plan: &Plan) -> String {
    let mut lines = vec![format!("[platform.{}]", key(plan.platform_name.as_str()))];
    let mut set = |name: &str, value: Option<&str>| {
        lines.extend(value.map(|value| format!("{name} = {}", quoted(value))));
    };
    match &plan.platform {
        Platform::Genesys { region, login_url, api_url } => {
            set("kind", Some("genesys"));
            set("region", region.map(|region| region.aws_region.as_str()));
            set("login_url", login_url.as_deref());
            set("api_url", api_url.as_deref());
        }
        Platform::CxoneGlobal { issuer } => {
            set("kind", Some("cxone"));
            set("issuer", Some(issuer));
        }
        Platform::CxoneRegional { area, api_url } => {
            set("kind", Some("cxone"));
            set("area", Some(area));
            set("api_url", api_url.as_deref());
        }
        Platform::Oauth2 { issuer, token_url, api_url, scopes } => {
            set("kind", Some("oauth2"));
            set("issuer", issuer.as_deref());
            set("token_url", token_url.as_deref());
            set("api_url", Some(api_url));
            if !scopes.is_empty() {
                let listed: Vec<_> = scopes.iter().map(|scope| quoted(scope)).collect();
                lines.push(format!("scopes = [{}]", listed.join(", ")));
            }
        }
    }
    lines.push("# extra_ca = \"tls/private-ca.pem\"\n\n".to_owned());
    lines.join("\n")
}

fn credential(plan: &Plan) -> String {
    let name = plan.credential.as_str();
    let environment = plan.environment.as_ref().map_or_else(
        || "# environment = \"production\"".to_owned(),
        |environment| format!("environment = {}", quoted(environment.as_str())),
    );
    format!(
        "[credential.{}]
platform = {}
# The document in the store; `keyholder secret set {name}` stores a new version.
secret = {}
{environment}
# idle_timeout = \"15m\"     # the organisation's inactivity timeout for tokens, if it has one
",
        key(name),
        quoted(plan.platform_name.as_str()),
        quoted(&format!("store:{}", plan.secret)),
    )
}

/// A key of a table, in quotes where it must be.
fn key(name: &str) -> String {
    let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
