//! The SDK scenarios: a sandbox and keyholder on loopback, and unmodified official clients that talk to them.
//!
//! Invariant: the sandbox's own journal has the last word. It must show that the platform saw keyholder's one login
//! and its token, and never a login of the application.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process::{self, Environment, Server, get_json, output, text},
    root,
    tools::{self, Tools},
};

/// Runs every scenario.
pub fn run_with(tools: &Tools, keyholder: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    process::run(Command::new(tools.python()).arg(root().join("tests/sdk/make_ca.py")).arg(folder.path()))?;
    let world = World::start(keyholder, &folder)?;
    let ca = folder.path().join("ca.pem");

    println!("sandbox itself, http (does it please the vendor's own clients?)");
    let direct = world.environment_of_sandbox();
    genesys(tools, &direct)?;
    for (what, url, tls) in [("http", &world.http, false), ("https, private CA", &world.https, true)] {
        for prefixed in [false, true] {
            println!("keyholder, {what}{}", if prefixed { ", SDK gateway with path prefixes" } else { "" });
            let mut environment = world.genesys_client.environment(url);
            if tls {
                environment.push(("KH_CA".into(), ca.display().to_string()));
                environment.push(("NODE_EXTRA_CA_CERTS".into(), ca.display().to_string()));
            }
            environment.push(("KH_PREFIX".into(), if prefixed { "1" } else { "0" }.into()));
            genesys(tools, &environment)?;
        }
        let mut environment = world.cxone_client.environment(url);
        environment.push(("KH_TENANT".into(), world.tenant.clone()));
        if tls {
            environment.push(("REQUESTS_CA_BUNDLE".into(), ca.display().to_string()));
        }
        println!("keyholder, CXone, {what}");
        process::run(Command::new(tools.python()).arg(root().join("tests/sdk/cxone_authlib.py")).envs(environment))?;
    }
    println!("broker: AWS's credential_process, and the SDK through the proxy");
    process::run(
        Command::new(tools.python())
            .arg(root().join("tests/broker/real_clients.py"))
            .env("KH_BINARY", keyholder)
            .envs(world.environment_of_broker()?),
    )?;
    world.check_journal()
}

/// The `sdk` command: installs, builds, runs.
pub fn run() -> Result<()> {
    let tools = tools::install()?;
    run_with(&tools, &build()?)
}

/// With these words cargo gives each dependency the features that it has in the tests, so that what the tests have
/// compiled is not compiled once more: those of the whole workspace with its examples, of which there are none.
pub const SHARED: [&str; 2] = ["--workspace", "--examples"];

/// Builds keyholder as it is usually built, in the profile of the tests, and returns the binary.
pub fn build() -> Result<PathBuf> {
    let words = ["build", "--quiet", "--bin", "keyholder"];
    process::run(Command::new("cargo").current_dir(root()).args(words).args(SHARED))?;
    binary("debug")
}

/// Where cargo puts the binary of `profile`.
pub fn binary(profile: &str) -> Result<PathBuf> {
    Ok(target_directory()?.join(profile).join("keyholder"))
}

/// Where cargo puts what it makes.
pub fn target_directory() -> Result<PathBuf> {
    let metadata =
        output(Command::new("cargo").current_dir(root()).args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    Ok(text(&metadata, "target_directory")?.into())
}

fn genesys(tools: &Tools, environment: &Environment) -> Result<()> {
    let scripts = root().join("tests/sdk");
    process::run(Command::new(tools.python()).arg(scripts.join("genesys_python.py")).envs(environment.clone()))?;
    process::run(
        Command::new("node")
            .arg(scripts.join("genesys_node.cjs"))
            .env("NODE_PATH", tools.node_modules())
            .envs(environment.clone()),
    )
}

/// A client of keyholder or of the sandbox.
struct Login {
    id: String,
    secret: String,
}

impl Login {
    fn of(document: &Value) -> Result<Self> {
        Ok(Self { id: text(document, "client_id")?.into(), secret: text(document, "client_secret")?.into() })
    }

    fn environment(&self, url: &str) -> Environment {
        vec![
            ("KH_URL".into(), url.into()),
            ("KH_CLIENT_ID".into(), self.id.clone()),
            ("KH_CLIENT_SECRET".into(), self.secret.clone()),
        ]
    }
}

/// The running servers.
struct World {
    http: String,
    https: String,
    /// Its address and the file with its guard token.
    broker: (String, String),
    tenant: String,
    sandbox: Value,
    genesys_client: Login,
    cxone_client: Login,
    _servers: [Server; 2],
}

impl World {
    fn start(keyholder: &Path, folder: &TempDir) -> Result<Self> {
        let at = |name: &str| folder.path().join(name);
        // the scenarios make about 1,000 calls within a minute; the platform's own limit is 300 per token
        fs::write(
            at("sandbox.toml"),
            "[limits]\nrequests_per_token = 100000\nrequests_per_client_minute = 100000\nlogins_per_minute = 1000\n",
        )?;
        let mut command = Command::new(keyholder);
        command.arg("sandbox").arg("--config").arg(at("sandbox.toml")).arg("--ready-file").arg(at("sandbox.json"));
        let mut sandbox_server = Server::start("keyholder sandbox", &mut command, &at("sandbox.log"))?;
        let sandbox = sandbox_server.wait_for_json(&at("sandbox.json"))?;

        let config = at("keyholder.toml");
        fs::write(&config, config_for(&sandbox, folder.path())?)?;
        let keyholder_command = |words: &[&str]| {
            let mut command = Command::new(keyholder);
            command.arg("--config").arg(&config).args(words);
            command
        };
        store_secret(
            &keyholder_command,
            "genesys",
            &serde_json::json!({
                "client_id": text(&sandbox, "client_id")?, "client_secret": text(&sandbox, "client_secret")?,
            }),
            folder.path(),
        )?;
        let cxone = sandbox.get("cxone").cloned().unwrap_or_default();
        store_secret(
            &keyholder_command,
            "cxone",
            &serde_json::json!({
                "client_id": text(&cxone, "client_id")?, "client_secret": text(&cxone, "client_secret")?,
                "access_key_id": text(&cxone, "access_key_id")?, "access_key_secret": text(&cxone, "access_key_secret")?,
            }),
            folder.path(),
        )?;
        let add = |name: &str| -> Result<Login> {
            let words = ["--output", "json", "client", "add", name, "--credential", name, "--allow-all"];
            Login::of(&serde_json::from_str(&output(&mut keyholder_command(&words))?)?)
        };
        let (genesys_client, cxone_client) = (add("genesys")?, add("cxone")?);
        let ready = at("serve.json");
        let mut serve = keyholder_command(&["serve", "--ready-file"]);
        serve.arg(&ready);
        let mut server = Server::start("keyholder serve", &mut serve, &at("serve.log"))?;
        let addresses = server.wait_for_json(&ready)?;
        Ok(Self {
            http: text(&addresses, "gateway_url")?.into(),
            https: text(&addresses, "gateway_tls_url")?.into(),
            broker: (text(&addresses, "broker_url")?.into(), text(&addresses, "broker_token_file")?.into()),
            tenant: text(&cxone, "tenant_id")?.into(),
            sandbox,
            genesys_client,
            cxone_client,
            _servers: [server, sandbox_server],
        })
    }

    fn environment_of_broker(&self) -> Result<Environment> {
        let (url, file) = &self.broker;
        Ok(vec![
            ("KEYHOLDER_URL".into(), url.clone()),
            ("KEYHOLDER_TOKEN_FILE".into(), file.clone()),
            ("KH_PROFILE".into(), "genesys".into()),
            ("KH_API".into(), text(&self.sandbox, "sandbox_url")?.into()),
            ("KH_SECRET".into(), text(&self.sandbox, "client_secret")?.into()),
        ])
    }

    fn environment_of_sandbox(&self) -> Environment {
        let field = |name: &str| self.sandbox.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        vec![
            ("KH_URL".into(), field("sandbox_url")),
            ("KH_CLIENT_ID".into(), field("client_id")),
            ("KH_CLIENT_SECRET".into(), field("client_secret")),
            ("KH_SANDBOX".into(), "1".into()),
        ]
    }

    /// Two logins by the SDKs at the sandbox itself, and one by keyholder for all its callers.
    fn check_journal(&self) -> Result<()> {
        let journal = get_json(&format!("{}/_sandbox/requests", text(&self.sandbox, "sandbox_control_url")?))?;
        let logins = journal
            .get("requests")
            .and_then(Value::as_array)
            .map(|requests| requests.iter().filter(|request| is_login(request)).count());
        ensure!(logins == Some(3), "the sandbox saw {logins:?} Genesys logins, not the SDKs' own 2 and keyholder's 1");
        println!("sdk: the platform saw one login of keyholder for 8 SDK runs");
        Ok(())
    }
}

fn is_login(request: &Value) -> bool {
    request.get("path").and_then(Value::as_str).is_some_and(|path| path.ends_with("/oauth/token"))
}

fn store_secret(keyholder: &dyn Fn(&[&str]) -> Command, name: &str, document: &Value, folder: &Path) -> Result<()> {
    let file = folder.join(format!("{name}.secret"));
    fs::write(&file, document.to_string())?;
    let mut command = keyholder(&["secret", "set", name, "--file"]);
    process::run(command.arg(&file))?;
    Ok(fs::remove_file(&file)?)
}

fn config_for(sandbox: &Value, folder: &Path) -> Result<String> {
    let (genesys, cxone) = (text(sandbox, "sandbox_url")?, text(sandbox, "cxone_url")?);
    let folder = folder.display();
    Ok(format!(
        r#"[state]
dir = "{folder}/state"
[gateway]
listen = ["127.0.0.1:0"]
[gateway.tls]
listen = ["127.0.0.1:0"]
cert = "{folder}/server.pem"
key = "{folder}/server.key"
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "127.0.0.1:0"
[platform.genesys]
kind = "genesys"
login_url = "{genesys}"
api_url = "{genesys}"
[platform.cxone]
kind = "cxone"
issuer = "{cxone}"
allowed_origins = ["{cxone}"]
[credential.genesys]
platform = "genesys"
secret = "store:genesys"
[credential.cxone]
platform = "cxone"
secret = "store:cxone"
"#
    ))
}
