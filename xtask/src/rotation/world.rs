//! The servers of the scenario: the sandbox as the platform, a Vault, and keyholder over both. Invariant: the documents
//! live in Vault alone, so that keyholder and the programs beside it read the same place.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{By, CASES, Case, Form, load::DIRECT, run_script};
use crate::{
    process::{self, Environment, Server, get_json, output, text},
    tools::Tools,
};

/// The client with which keyholder and the naive script make secrets.
const ROTATOR: &str = "rotator";

/// The same for the platform whose clients have several secrets: a rotator belongs to one platform.
const ROTATOR_OF_SECRETS: &str = "rotator-of-secrets";

/// How often, and how many times, the state of a run is asked for: 3 min, the longest form takes half of it.
const POLL: Duration = Duration::from_millis(300);
const POLLS: u32 = 600;

/// The sandbox's clients were made 90 days ago: with this interval one is due at once, and not a second time.
const DUE: &str = "30d";

/// What one set of servers is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Whether the platform ends access tokens with the secret that made them.
    pub hard: bool,
    /// Whether `keyholder serve` rotates what is due. A secret whose age nobody knows is.
    pub scheduled: bool,
}

/// Everything that runs.
pub struct World {
    keyholder: PathBuf,
    config: PathBuf,
    sandbox: Value,
    vault: Value,
    addresses: Value,
    /// By the name of the credential.
    applications: Vec<(&'static str, Value)>,
    _servers: [Server; 3],
}

impl World {
    /// Starts them below `folder`.
    pub fn start(keyholder: &Path, fakes: &Path, folder: &Path, form: Form, kind: Kind) -> Result<Self> {
        let at = |name: &str| folder.join(name);
        fs::write(at("sandbox.toml"), sandbox_config(form, kind.hard))?;
        let mut command = Command::new(keyholder);
        command.arg("sandbox").arg("--config").arg(at("sandbox.toml")).arg("--ready-file").arg(at("sandbox.json"));
        let mut sandbox_server = Server::start("keyholder sandbox", &mut command, &at("sandbox.log"))?;
        let sandbox = sandbox_server.wait_for_json(&at("sandbox.json"))?;
        let mut command = Command::new(fakes);
        command.arg("vault").arg("--ready-file").arg(at("vault.json"));
        let mut vault_server = Server::start("vault", &mut command, &at("vault.log"))?;
        let vault = vault_server.wait_for_json(&at("vault.json"))?;

        private(&at("vault.token"), text(&vault, "root_token")?)?;
        let config = at("keyholder.toml");
        fs::write(&config, config_for(&sandbox, &vault, folder, form, kind)?)?;
        for name in CASES.iter().map(|case| case.name).chain([ROTATOR, ROTATOR_OF_SECRETS]) {
            let body = json!({ "data": client(&sandbox, name)? });
            put(&vault, name, &body)?;
        }
        let run = |words: &[&str]| {
            let mut command = Command::new(keyholder);
            command.arg("--config").arg(&config).args(words);
            command
        };
        let mut applications = Vec::new();
        for name in CASES.iter().map(|case| case.name) {
            let words = ["--output", "json", "client", "add", name, "--credential", name, "--allow-all"];
            applications.push((name, serde_json::from_str(&output(&mut run(&words))?)?));
        }
        for case in CASES.iter().filter(|case| kind.scheduled && case.by == By::Serve) {
            process::run(&mut run(&["rotate", "hold", case.name, "--reason", "not before the load"]))?;
        }
        let mut serve = run(&["serve", "--ready-file"]);
        serve.arg(at("serve.json"));
        let mut server = Server::start("keyholder serve", &mut serve, &at("serve.log"))?;
        let addresses = server.wait_for_json(&at("serve.json"))?;
        let keyholder = keyholder.to_owned();
        Ok(Self {
            keyholder,
            config,
            sandbox,
            vault,
            addresses,
            applications,
            _servers: [server, vault_server, sandbox_server],
        })
    }

    /// The limits that are in force at the sandbox.
    pub fn limits(&self) -> Result<Value> {
        get_json(&format!("{}/_sandbox/limits", self.control()?))
    }

    fn control(&self) -> Result<&str> {
        text(&self.sandbox, "sandbox_control_url")
    }

    /// What stands in the store.
    pub fn document(&self, name: &str) -> Result<Value> {
        let url = format!("{}/v1/secret/data/{name}", text(&self.vault, "url")?);
        let mut answer = ureq::get(&url).header("X-Vault-Token", text(&self.vault, "root_token")?).call()?;
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        answer.pointer("/data/data").cloned().with_context(|| format!("no document {name} in Vault"))
    }

    /// The status of a login at the platform with a document.
    pub fn log_in(&self, document: &Value) -> Result<u16> {
        let url = format!("{}/oauth/token", text(&self.sandbox, "sandbox_url")?);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", text(document, "client_id")?),
            ("client_secret", text(document, "client_secret")?),
        ];
        let request = ureq::post(&url).config().http_status_as_error(false).build();
        Ok(request.send_form(form)?.status().as_u16())
    }

    /// The number of the newest request that the platform saw.
    pub fn last_request(&self) -> Result<u64> {
        let journal = get_json(&format!("{}/_sandbox/requests?limit=1", self.control()?))?;
        journal.get("total").and_then(Value::as_u64).context("the journal has a total")
    }

    /// What the platform saw after the request of that number.
    pub fn requests_after(&self, from: u64, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let journal =
            get_json(&format!("{}/_sandbox/requests?method=POST&after={from}&limit={JOURNAL}", self.control()?))?;
        let requests = journal.get("requests").and_then(Value::as_array).context("the journal has requests")?;
        Ok(requests.iter().filter(|request| wanted(request)).cloned().collect())
    }

    /// `keyholder rotate run`, to the end.
    pub fn rotate(&self, case: &Case) -> Result<()> {
        process::run(&mut self.rotation(&["run", case.name, "--wait"]))?;
        Self::completed(case, &self.status(case.name)?)
    }

    /// Until the schedule has begun: it waits for the hold under which it was started.
    pub fn wait_for_schedule(&self, case: &Case) -> Result<()> {
        self.until(case.name, |status| status.get("run_id").is_some_and(Value::is_string)).map(drop)
    }

    /// Lifts the hold and waits for the end.
    pub fn let_schedule(&self, case: &Case) -> Result<()> {
        let run = text(&self.status(case.name)?, "run_id")?.to_owned();
        process::run(&mut self.rotation(&["hold", case.name, "--lift"]))?;
        let status = self.until(&run, |status| text(status, "state").ok() == Some("completed"))?;
        Self::completed(case, &status)
    }

    fn rotation(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.keyholder);
        command.arg("--config").arg(&self.config).arg("rotate").args(words);
        command
    }

    /// Of a run or of a credential's newest one.
    fn status(&self, which: &str) -> Result<Value> {
        // its exit code tells whether the run is over
        let told = self.rotation(&["status", which, "--output", "json"]).output()?;
        serde_json::from_slice(&told.stdout).with_context(|| String::from_utf8_lossy(&told.stderr).into_owned())
    }

    fn until(&self, which: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        for _ in 0..POLLS {
            let status = self.status(which)?;
            if is_so(&status) {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        bail!("{which} does not get there: {}", self.status(which)?)
    }

    fn completed(case: &Case, status: &Value) -> Result<()> {
        ensure!(text(status, "state")? == "completed", "{}: {status}", case.name);
        ensure!(text(status, "strategy")? == case.strategy, "{}: {status}", case.name);
        let seen = status.get("evidence").and_then(Value::as_array).context("a run tells its evidence")?;
        for name in DIRECT.iter().filter(|_| case.direct) {
            let used =
                |seen: &Value| text(seen, "consumer").ok() == Some(name) && text(seen, "grade").ok() == Some("used");
            ensure!(seen.iter().any(used), "{}: {name} was not seen with the new secret: {status}", case.name);
        }
        if let Some(gap) = status.pointer("/gap/ms").and_then(Value::as_u64) {
            println!("  nobody could log in for {gap} ms at the most");
        }
        Ok(())
    }

    /// The same by a script.
    pub fn rotate_naively(&self, tools: &Tools, case: &Case, form: Form) -> Result<()> {
        let admin = client(&self.sandbox, ROTATOR)?;
        let mut environment = self.environment_of_store(case)?;
        environment.extend([
            ("KH_ADMIN_ID".into(), text(&admin, "client_id")?.into()),
            ("KH_ADMIN_SECRET".into(), text(&admin, "client_secret")?.into()),
            ("KH_HOW".into(), case.strategy.into()),
            ("KH_SLEEP".into(), form.naive_sleep.to_string()),
        ]);
        run_script(tools, "naive.py", environment)
    }

    /// What an SDK needs to call through keyholder.
    pub fn environment_of_application(&self, case: &Case) -> Result<Environment> {
        let found = self.applications.iter().find(|(name, _)| *name == case.name);
        let (_, login) = found.with_context(|| format!("no application {}", case.name))?;
        Ok(vec![
            ("KH_URL".into(), text(&self.addresses, "gateway_url")?.into()),
            ("KH_CLIENT_ID".into(), text(login, "client_id")?.into()),
            ("KH_CLIENT_SECRET".into(), text(login, "client_secret")?.into()),
        ])
    }

    /// What a program needs that reads the store itself and reports.
    pub fn environment_of_program(&self, case: &Case) -> Result<Environment> {
        let mut environment = self.environment_of_store(case)?;
        environment.extend([
            ("KEYHOLDER_URL".into(), text(&self.addresses, "broker_url")?.into()),
            ("KEYHOLDER_TOKEN_FILE".into(), text(&self.addresses, "broker_token_file")?.into()),
            ("KH_PROFILE".into(), case.name.into()),
        ]);
        Ok(environment)
    }

    fn environment_of_store(&self, case: &Case) -> Result<Environment> {
        Ok(vec![
            ("KH_API".into(), text(&self.sandbox, "sandbox_url")?.into()),
            ("KH_VAULT".into(), text(&self.vault, "url")?.into()),
            ("KH_VAULT_TOKEN".into(), text(&self.vault, "root_token")?.into()),
            ("KH_PATH".into(), case.name.into()),
        ])
    }
}

/// Entries that the sandbox's journal keeps: the longest form makes a fifth of them in one case.
const JOURNAL: u32 = 500_000;

fn sandbox_config(form: Form, hard: bool) -> String {
    let head = format!(
        "[limits]\nrequests_per_token = 1000000\nrequests_per_client_minute = 1000000\nlogins_per_minute = 10000\n\
         journal_entries_max = {JOURNAL}\n\
         [behaviours]\nsecrets_api = true\ntoken_life_bounds = [{}, 172800]\n\
         tokens_survive_regeneration = {survive}\ntokens_survive_inactive = {survive}\n\
         [[genesys.roles]]\nname = \"application\"\npermissions = [\"directory:user:view\"]\n",
        form.token,
        survive = !hard,
    );
    let rotator = |name| format!("[[genesys.clients]]\nname = \"{name}\"\nroles = [\"admin\", \"application\"]\n");
    let application = |case: &Case| {
        let (name, token) = (case.name, form.token);
        format!("[[genesys.clients]]\nname = \"{name}\"\nroles = [\"application\"]\ntoken_seconds = {token}\n")
    };
    let clients = [ROTATOR, ROTATOR_OF_SECRETS].into_iter().map(rotator).chain(CASES.iter().map(application));
    std::iter::once(head).chain(clients).collect()
}

fn config_for(sandbox: &Value, vault: &Value, folder: &Path, form: Form, kind: Kind) -> Result<String> {
    let (genesys, vault) = (text(sandbox, "sandbox_url")?, text(vault, "url")?);
    let folder = folder.display();
    let platform = format!("kind = \"genesys\"\nlogin_url = \"{genesys}\"\napi_url = \"{genesys}\"\n");
    let mut config = format!(
        r#"[state]
dir = "{folder}/state"
[gateway]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "127.0.0.1:0"
[rotation]
call_max = "20s"
scheduler = {}
[secret_store.vault]
kind = "vault"
address = "{vault}"
token_file = "{folder}/vault.token"
[platform.clients]
{platform}rotator = "{ROTATOR}"
[platform.secrets]
{platform}rotator = "{ROTATOR_OF_SECRETS}"
secrets_api = true
[credential.{ROTATOR}]
platform = "clients"
secret = "vault:{ROTATOR}"
[credential.{ROTATOR_OF_SECRETS}]
platform = "secrets"
secret = "vault:{ROTATOR_OF_SECRETS}"
"#,
        kind.scheduled
    );
    for case in &CASES {
        let (name, strategy) = (case.name, case.strategy);
        let platform = if strategy == "overlap" { "secrets" } else { "clients" };
        write!(config, "[credential.{name}]\nplatform = \"{platform}\"\nsecret = \"vault:{name}\"\n")?;
        if case.by == By::Script || (case.by == By::Serve) != kind.scheduled {
            continue;
        }
        let program = |name: &&str| format!("{{ name = \"{name}\", direct = true, cache = \"{}s\" }}", form.cache);
        let programs: Vec<_> = DIRECT.iter().filter(|_| case.direct).map(program).collect();
        write!(
            config,
            "[credential.{name}.rotation]\ninterval = \"{DUE}\"\nstrategy = \"{strategy}\"\noverlap_min = \"1s\"\nquiet = \"1s\"\n\
             watch = \"{}s\"\nverify = {{ successes = 3, deadline = \"1m\" }}\nconsumers = [{}]\n",
            form.token,
            programs.join(", ")
        )?;
    }
    Ok(config)
}

/// The login of one of the sandbox's clients.
fn client(sandbox: &Value, name: &str) -> Result<Value> {
    let clients = sandbox.get("clients").and_then(Value::as_array).context("the sandbox tells its clients")?;
    let found = clients.iter().find(|client| text(client, "name").ok() == Some(name));
    let found = found.with_context(|| format!("the sandbox has no client {name}"))?;
    Ok(json!({ "client_id": text(found, "client_id")?, "client_secret": text(found, "client_secret")? }))
}

fn put(vault: &Value, name: &str, body: &Value) -> Result<()> {
    let url = format!("{}/v1/secret/data/{name}", text(vault, "url")?);
    let request = ureq::post(&url).header("X-Vault-Token", text(vault, "root_token")?);
    request.header("Content-Type", "application/json").send(body.to_string()).context("a document for Vault")?;
    Ok(())
}

/// A file for its owner alone.
fn private(path: &Path, content: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, content.as_bytes())?;
    Ok(())
}
