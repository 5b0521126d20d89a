//! The load for a profile of the shipped binary: what the benches measure, and what they leave out, TLS on both sides,
//! HTTP/2 and logins.
//!
//! Invariant: an answer that is not a 2xx is an error, since a profile of refusals would serve nobody.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::{
    gateway::{self, AUDIENCE, Algorithm, ISSUER, PATH},
    load::{self, Load, Plan, Slice},
    outbound,
    rig::{self, Certificate, Keyholder},
};
use crate::{
    process::{self, text},
    tools,
};

/// Seconds of each load.
const SECONDS: u32 = 4;
/// Tokens in turn.
const TOKENS: usize = 10_000;
/// Logins of the client.
const LOGINS: u32 = 200;

/// Sends all of it through `keyholder`, whose processes end in order.
pub fn run(keyholder: &Path) -> Result<()> {
    gateway::run(keyholder, &gateway::Options::alone())?;
    outbound::throughput(keyholder, &Plan { pairs: 1, seconds: SECONDS })?;
    outbound::latency(keyholder)?;
    encrypted(keyholder)
}

/// An API of one's own and a platform, each with TLS towards the caller and towards the server behind.
fn encrypted(program: &Path) -> Result<()> {
    let tools = tools::install()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let shows = certificate(folder)?;
    gateway::sign_tokens(&tools, folder, Algorithm::Rs256, TOKENS)?;
    let port = rig::free_port()?;
    let behind = folder.join("behind.conf");
    fs::write(&behind, rig::nginx_config(folder, "behind", &rig::platform_server(port, Some(&shows))))?;
    let _behind = rig::start_nginx(&["taskset", "-c", "1"], &behind, folder, port)?;
    let config = config(folder, port);
    let Keyholder { addresses, client, server: _server } = rig::serve(program, &[], &config, folder)?;

    let url = addresses.pointer("/inbound_urls/bench").and_then(serde_json::Value::as_str).context("no API")?;
    let file = folder.join("rs256.tokens");
    good(&load::wrk_tokens(url, PATH, &Slice { file: &file, skip: 0, count: TOKENS }, SECONDS)?)?;
    let tokens = fs::read_to_string(&file)?;
    let header = format!("Authorization: Bearer {}", tokens.lines().next().context("no token")?);
    // a handshake for each request
    good(&load::wrk_headers(&format!("{url}{PATH}"), &[&header, "Connection: close"], 16, SECONDS)?)?;
    http2(&format!("{url}{PATH}"), &header)?;

    let plain = text(&addresses, "gateway_url")?;
    let mut token = String::new();
    for _ in 0..LOGINS {
        token = rig::login(plain, &client)?;
    }
    let header = format!("Authorization: Bearer {token}");
    for url in [plain, text(&addresses, "gateway_tls_url")?] {
        good(&load::wrk_headers(&format!("{url}{PATH}"), &[&header], load::CONNECTIONS, SECONDS)?)?;
    }
    http2(&format!("{}{PATH}", text(&addresses, "gateway_tls_url")?), &header)
}

fn good(load: &Load) -> Result<()> {
    ensure!(!load.errors, "answers with errors under load");
    Ok(())
}

/// HTTP/2 over TLS, eight streams on each connection.
fn http2(url: &str, header: &str) -> Result<()> {
    let duration = SECONDS.to_string();
    let words = ["-c", "16", "-m", "8", "--duration", &duration, "-H", header, url];
    let said = process::output(Command::new("h2load").args(words))?;
    let codes = said.lines().find(|line| line.starts_with("status codes:")).context("h2load counts no answers")?;
    ensure!(codes.contains(" 0 3xx, 0 4xx, 0 5xx"), "h2load: {codes}");
    Ok(())
}

/// An authority in `ca.pem`, and what a server on loopback shows.
fn certificate(folder: &Path) -> Result<Certificate> {
    let made = Certificate { cert: folder.join("server.pem"), key: folder.join("server.key") };
    let authority = [folder.join("ca.pem"), folder.join("ca.key")];
    let [ca, ca_key] = &authority;
    let request = |name: &str, cert: &Path, key: &Path| {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        openssl.args(["-subj", name, "-out"]).arg(cert).arg("-keyout").arg(key);
        openssl
    };
    process::output(&mut request("/CN=authority", ca, ca_key))?;
    let extensions = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    process::output(
        request("/CN=server", &made.cert, &made.key).arg("-CA").arg(ca).arg("-CAkey").arg(ca_key).args(extensions),
    )?;
    Ok(made)
}

fn config(folder: &Path, behind: u16) -> String {
    let folder = folder.display();
    format!(
        r#"[state]
dir = "{folder}/state"
[gateway]
listen = ["127.0.0.1:0"]
workers = 1
[gateway.tls]
listen = ["127.0.0.1:0"]
cert = "server.pem"
key = "server.key"
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "127.0.0.1:0"
[platform.bench]
kind = "genesys"
login_url = "https://127.0.0.1:{behind}"
api_url = "https://127.0.0.1:{behind}"
extra_ca = "ca.pem"
[credential.bench]
platform = "bench"
secret = "store:bench"
[issuer.bench]
kind = "jwks"
iss = ["{ISSUER}"]
jwks_file = "rs256.jwks.json"
audiences = ["{AUDIENCE}"]
[inbound.bench]
listen = ["127.0.0.1:0"]
upstream = "https://127.0.0.1:{behind}"
extra_ca = "ca.pem"
issuers = ["bench"]
[inbound.bench.tls]
cert = "server.pem"
key = "server.key"
[[inbound.bench.route]]
match = ["GET {PATH}"]
scopes = ["analytics:reports:read", "user:read"]
"#
    )
}
