//! keyholder as an authorization server, asked by the libraries that clients and resource servers use, with every
//! signature algorithm and across a change of keys.
//!
//! Invariant: the libraries are given the issuer identifier and their logins; everything else they find by themselves.

mod bound;
mod issuers;

use std::{fs, net::TcpListener, path::Path, process::Command};

use anyhow::Result;
use serde_json::Value;

use crate::{
    process::{self, Server, output, text},
    root, scenario,
    tools::{self, Tools},
};

const AUDIENCE: &str = "https://api.example";

/// The `authorization` command: installs, builds unless it is given a binary, runs.
pub fn run(binary: Option<&str>) -> Result<()> {
    let tools = tools::install()?;
    match binary {
        Some(binary) => run_with(&tools, Path::new(binary)),
        None => run_with(&tools, &scenario::build()?),
    }
}

/// Runs it with each algorithm.
pub fn run_with(tools: &Tools, keyholder: &Path) -> Result<()> {
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        println!("keyholder as an authorization server, {algorithm}");
        with(tools, keyholder, algorithm)?;
    }
    bound::run(tools, keyholder)?;
    issuers::run(tools, keyholder)
}

fn with(tools: &Tools, keyholder: &Path, algorithm: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    process::run(Command::new(tools.python()).arg(root().join("tests/sdk/make_ca.py")).arg(folder.path()))?;
    // the issuer has a port in it, so one has to be known before the start
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let issuer = format!("https://127.0.0.1:{port}/acme");
    fs::write(at("keyholder.toml"), config(folder.path(), port, &issuer, algorithm))?;
    let command = |words: &[&str]| {
        let mut command = Command::new(keyholder);
        command.arg("--config").arg(at("keyholder.toml")).args(words);
        command
    };
    let add = |name: &str, words: &[&str]| -> Result<String> {
        login(&mut command(&[&["--output", "json", "client", "add", name], words].concat()))
    };
    let scopes = ["--scope", "orders:read", "--scope", "orders:write"];
    let audience = ["--audience", AUDIENCE];
    let jwt = add("actions", &[&["--token-format", "jwt"][..], &audience, &scopes].concat())?;
    let api = add("api", &[&["--introspect"][..], &audience].concat())?;
    let opaque = add("batch", &audience)?;
    let mut serve = command(&["serve", "--ready-file"]);
    serve.arg(at("serve.json"));
    let mut server = Server::start("keyholder serve", &mut serve, &at("serve.log"))?;
    server.wait_for_json(&at("serve.json"))?;

    let ca = at("ca.pem").display().to_string();
    let environment = |phase: &str| {
        [
            ("KH_ISSUER", issuer.clone()),
            ("KH_ALGORITHM", algorithm.to_owned()),
            ("KH_AUDIENCE", AUDIENCE.to_owned()),
            ("KH_JWT", jwt.clone()),
            ("KH_API", api.clone()),
            ("KH_OPAQUE", opaque.clone()),
            ("KH_TOKEN_FILE", at("token").display().to_string()),
            ("KH_PHASE", phase.to_owned()),
            ("NODE_EXTRA_CA_CERTS", ca.clone()),
            ("REQUESTS_CA_BUNDLE", ca.clone()),
            ("NODE_PATH", tools.node_modules().display().to_string()),
        ]
    };
    let scripts = root().join("tests/sdk");
    let node =
        |phase| process::run(Command::new("node").arg(scripts.join("authorization_node.cjs")).envs(environment(phase)));
    node("1")?;
    process::run(Command::new(tools.python()).arg(scripts.join("authorization_python.py")).envs(environment("1")))?;
    let rotated: Value =
        serde_json::from_str(&output(&mut command(&["--output", "json", "signing-key", "rotate", "--now"]))?)?;
    let (kid, url) = (text(&rotated, "kid")?, format!("{issuer}/oauth/jwks"));
    let shown =
        || output(Command::new("curl").args(["--silent", "--cacert", &ca, &url])).is_ok_and(|keys| keys.contains(kid));
    server.wait_until("the new key in its key set", shown)?;
    node("2")
}

/// `CLIENT_ID:CLIENT_SECRET` of the client that `add` adds.
fn login(add: &mut Command) -> Result<String> {
    let answer: Value = serde_json::from_str(&output(add)?)?;
    Ok(format!("{}:{}", text(&answer, "client_id")?, text(&answer, "client_secret")?))
}

fn config(folder: &Path, port: u16, issuer: &str, algorithm: &str) -> String {
    let folder = folder.display();
    format!(
        r#"[state]
dir = "{folder}/state"
[gateway]
listen = ["127.0.0.1:{port}"]
[gateway.tls]
cert = "{folder}/server.pem"
key = "{folder}/server.key"
[token_endpoint]
issuer = "{issuer}"
signing_algorithm = "{algorithm}"
[admin]
listen = "off"
[broker]
listen = "off"
"#
    )
}
