//! keyholder in front of an API, with tokens of a real authorization server: the npm package oidc-provider.
//!
//! Invariant: keyholder finds the issuers by their metadata; their tokens are got and shown by OAuth libraries, and what
//! the API behind keyholder saw has the last word.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    process::{self, Server, text},
    root,
    tools::Tools,
};

/// Runs it.
pub fn run(tools: &Tools, keyholder: &Path) -> Result<()> {
    println!("keyholder in front of an API, with tokens of oidc-provider");
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let scripts = root().join("tests/sdk");
    let certificates = ["machine=machine.example", "other=other.example"];
    process::run(Command::new(tools.python()).arg(scripts.join("make_ca.py")).arg(folder.path()).args(certificates))?;
    let node = |script: &str| {
        let mut node = Command::new("node");
        node.arg(scripts.join(script)).env("KH_FOLDER", folder.path()).env("NODE_PATH", tools.node_modules());
        node
    };
    let mut provider = Server::start("oidc-provider", &mut node("issuer_oidc_provider.cjs"), &at("issuers.log"))?;
    let issuers = provider.wait_for_json(&at("issuers.json"))?;

    let (port, backend) = free_ports()?;
    fs::write(at("keyholder.toml"), config(folder.path(), &issuers, port, backend)?)?;
    let command = |words: &[&str]| {
        let mut command = Command::new(keyholder);
        command.arg("--config").arg(at("keyholder.toml")).args(words);
        command
    };
    let secret = text(issuer(&issuers, "opaque")?, "introspector")?;
    fs::write(at("secret"), json!({ "client_id": "introspector", "client_secret": secret }).to_string())?;
    process::run(command(&["secret", "set", "introspection", "--file"]).arg(at("secret")))?;
    let started = now_ms()?;
    let mut serve = command(&["serve", "--ready-file"]);
    serve.arg(at("serve.json"));
    let mut server = Server::start("keyholder serve", &mut serve, &at("serve.log"))?;
    let addresses = server.wait_for_json(&at("serve.json"))?;
    let api = |name: &str| {
        let found = addresses.get("inbound_urls").and_then(|urls| urls.get(name)).and_then(Value::as_str);
        found.with_context(|| format!("no address of {name} in {addresses}"))
    };
    process::run(
        node("issuers_node.cjs")
            .env("KH_URL", api("orders")?)
            .env("KH_TURNING_URL", api("turning")?)
            .env("KH_METRICS", format!("{}/metrics", text(&addresses, "admin_url")?))
            .env("KH_BACKEND_PORT", backend.to_string())
            .env("KH_STARTED", started.to_string())
            .env("NODE_EXTRA_CA_CERTS", at("ca.pem")),
    )
}

/// The bound on requests to the issuer counts from here.
fn now_ms() -> Result<u128> {
    #[allow(clippy::disallowed_methods, reason = "a test of running programs, whose clock this is")]
    let now = SystemTime::now();
    Ok(now.duration_since(UNIX_EPOCH)?.as_millis())
}

/// Free until others take them: the API's own address and its backend's stand in the configuration.
pub(super) fn free_ports() -> Result<(u16, u16)> {
    let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

fn issuer<'a>(issuers: &'a Value, name: &str) -> Result<&'a Value> {
    issuers.get("issuers").and_then(|all| all.get(name)).with_context(|| format!("no issuer {name}"))
}

fn config(folder: &Path, issuers: &Value, port: u16, backend: u16) -> Result<String> {
    let folder = folder.display();
    let url = |name: &str| text(issuer(issuers, name)?, "url");
    let section = |name: &str, more: &str| -> Result<String> {
        let url = url(name)?;
        Ok(format!(
            "[issuer.{name}]\niss = [\"{url}\"]\ndiscover = \"{url}\"\nleeway = \"1s\"\n{more}\nprivate_network = true\n\
             extra_ca = \"{folder}/ca.pem\"\n"
        ))
    };
    let by_keys = "kind = \"jwks\"\ntyp = \"at+jwt\"";
    let by_asking = "kind = \"introspection\"\nsecret = \"store:introspection\"\nmax_age = \"3s\"";
    let (structured, turning) = (section("structured", by_keys)?, section("turning", by_keys)?);
    let opaque = section("opaque", by_asking)?;
    Ok(format!(
        r#"{structured}{turning}{opaque}
[state]
dir = "{folder}/state"
[gateway]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "off"

[inbound.orders]
listen = ["127.0.0.1:{port}"]
upstream = "http://127.0.0.1:{backend}"
issuers = ["structured", "opaque"]
audiences = ["https://api.example"]
addresses = ["https://127.0.0.1:{port}"]
tls = {{ cert = "{folder}/server.pem", key = "{folder}/server.key", client_ca = "{folder}/ca.pem" }}
identity_header = [
  {{ name = "X-Subject", field = "subject" }},
  {{ name = "X-Client", field = "client" }},
  {{ name = "X-Tenant", claim = "tenant" }},
]
route = [
  {{ match = ["GET /orders"], scopes = ["orders:read"] }},
  {{ match = ["POST /orders"], scopes = ["orders:write"] }},
  {{ match = ["GET /tenants/acme"], any_token = true, condition = [{{ claim = "tenant", equals = "acme" }}] }},
]

[inbound.turning]
listen = ["127.0.0.1:0"]
upstream = "http://127.0.0.1:{backend}"
issuers = ["turning"]
audiences = ["https://api.example"]
route = [{{ match = ["GET /orders"], scopes = ["orders:read"] }}]
"#
    ))
}
