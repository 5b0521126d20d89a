//! Tokens of keyholder's own that are bound to their client by DPoP or by its certificate, with nonces and without:
//! OAuth libraries get them at keyholder's token endpoint and use them at a protected API behind keyholder.
//!
//! Invariant: what the API behind keyholder saw has the last word.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{issuers::free_ports, login};
use crate::{
    process::{self, Server},
    root,
    tools::Tools,
};

/// Runs it.
pub fn run(tools: &Tools, keyholder: &Path) -> Result<()> {
    for nonce in [false, true] {
        println!("keyholder's own tokens bound to their client, {} nonces", if nonce { "with" } else { "without" });
        with(tools, keyholder, nonce)?;
    }
    Ok(())
}

fn with(tools: &Tools, keyholder: &Path, nonce: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let scripts = root().join("tests/sdk");
    let certificates = ["machine=machine.example", "other=other.example"];
    process::run(Command::new(tools.python()).arg(scripts.join("make_ca.py")).arg(folder.path()).args(certificates))?;
    // the issuer has a port in it, so one has to be known before the start
    let (port, backend) = free_ports()?;
    let issuer = format!("https://127.0.0.1:{port}");
    fs::write(at("keyholder.toml"), config(folder.path(), &issuer, (port, backend), nonce))?;
    let command = |words: &[&str]| {
        let mut command = Command::new(keyholder);
        command.arg("--config").arg(at("keyholder.toml")).args(words);
        command
    };
    let add = |name: &str, words: &[&str]| {
        login(&mut command(&[&["--output", "json", "client", "add", name], words].concat()))
    };
    let audience = ["--audience", "https://api.example", "--scope", "orders:read"];
    let jwt = [&audience[..], &["--token-format", "jwt"]].concat();
    let bound = |words: &[&'static str], to| [words, &["--token-binding", to]].concat();
    let logins = [
        ("KH_BY_KEY", add("by-key", &bound(&jwt, "dpop"))?),
        ("KH_BY_CERTIFICATE", add("by-certificate", &bound(&jwt, "certificate"))?),
        ("KH_FREE", add("free", &jwt)?),
        ("KH_OPAQUE", add("opaque", &bound(&audience, "dpop"))?),
        ("KH_API", add("api", &["--introspect", "--audience", "https://api.example"])?),
    ];
    let mut serve = command(&["serve", "--ready-file"]);
    serve.arg(at("serve.json"));
    let mut server = Server::start("keyholder serve", &mut serve, &at("serve.log"))?;
    let addresses = server.wait_for_json(&at("serve.json"))?;
    let api = addresses.get("inbound_urls").and_then(|urls| urls.get("orders")).and_then(Value::as_str);
    process::run(
        Command::new("node")
            .arg(scripts.join("bound_node.cjs"))
            .env("KH_FOLDER", folder.path())
            .env("KH_ISSUER", &issuer)
            .env("KH_URL", api.with_context(|| format!("no protected API in {addresses}"))?)
            .env("KH_BACKEND_PORT", backend.to_string())
            .envs(logins)
            .env("NODE_PATH", tools.node_modules())
            .env("NODE_EXTRA_CA_CERTS", at("ca.pem")),
    )
}

fn config(folder: &Path, issuer: &str, (port, backend): (u16, u16), nonce: bool) -> String {
    let folder = folder.display();
    format!(
        r#"[state]
dir = "{folder}/state"
[gateway]
listen = ["127.0.0.1:{port}"]
[gateway.tls]
cert = "{folder}/server.pem"
key = "{folder}/server.key"
client_ca = "{folder}/ca.pem"
[token_endpoint]
issuer = "{issuer}"
dpop_nonce = {nonce}
[admin]
listen = "off"
[broker]
listen = "off"
[issuer.own]
kind = "keyholder"
[inbound.orders]
listen = ["127.0.0.1:0"]
upstream = "http://127.0.0.1:{backend}"
issuers = ["own"]
audiences = ["https://api.example"]
binding = "required"
tls = {{ cert = "{folder}/server.pem", key = "{folder}/server.key", client_ca = "{folder}/ca.pem" }}
identity_header = [{{ name = "X-Client", field = "client" }}]
route = [{{ match = ["GET /orders"], scopes = ["orders:read"] }}]
"#
    )
}
