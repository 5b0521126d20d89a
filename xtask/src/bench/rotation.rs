//! How long a dry run of many credentials takes: `keyholder rotate plan` for all of them, a process each, over the real
//! store and the sandbox with the platform's own limits.
//!
//! Planned means everything that `plan` looks at. A request for each credential could not hold (the platform allows 300
//! a minute), so that one look at the organisation serves all; the number of requests is printed beside the time.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    process::{self, Server, get_json, text},
    stats::Spread,
};

/// The client that looks.
const ROTATOR: &str = "rotator";

/// What is planned, and how often.
pub struct Form {
    /// Credentials.
    pub credentials: usize,
    /// Runs of the command.
    pub runs: usize,
}

impl Form {
    /// From `--credentials N --runs N --short`.
    pub fn parse(options: &[&str]) -> Result<Self> {
        let mut form = Self { credentials: 1000, runs: 5 };
        let mut rest = options;
        loop {
            rest = match rest {
                [] => return Ok(form),
                ["--short", tail @ ..] => {
                    form = Self::short();
                    tail
                }
                ["--credentials", number, tail @ ..] => {
                    form.credentials = number.parse()?;
                    tail
                }
                ["--runs", number, tail @ ..] => {
                    form.runs = number.parse()?;
                    tail
                }
                [other, ..] => bail!("unknown option {other}"),
            }
        }
    }

    /// For CI: that it works, not how fast it is.
    pub fn short() -> Self {
        Self { credentials: 20, runs: 1 }
    }
}

fn name(number: usize) -> String {
    format!("app-{number:04}")
}

fn sandbox_config(form: &Form) -> Result<String> {
    // the platform does not publish how many clients an organisation may have
    let mut config = String::from(
        "[behaviours]\nmax_clients = 100000\n[[genesys.roles]]\nname = \"application\"\n\
         permissions = [\"directory:user:view\"]\n",
    );
    write!(config, "[[genesys.clients]]\nname = \"{ROTATOR}\"\nroles = [\"admin\", \"application\"]\n")?;
    for number in 0..form.credentials {
        write!(config, "[[genesys.clients]]\nname = \"{}\"\nroles = [\"application\"]\n", name(number))?;
    }
    Ok(config)
}

fn config(form: &Form, folder: &Path, sandbox: &str) -> Result<String> {
    let folder = folder.display();
    let mut config = format!(
        "[state]\ndir = \"{folder}/state\"\n[platform.genesys]\nkind = \"genesys\"\nlogin_url = \"{sandbox}\"\n\
         api_url = \"{sandbox}\"\nrotator = \"{ROTATOR}\"\n[credential.{ROTATOR}]\nplatform = \"genesys\"\n\
         secret = \"store:{ROTATOR}\"\n"
    );
    for number in 0..form.credentials {
        let name = name(number);
        write!(
            config,
            "[credential.{name}]\nplatform = \"genesys\"\nsecret = \"store:{name}\"\n\
             [credential.{name}.rotation]\nstrategy = \"pair\"\n"
        )?;
    }
    Ok(config)
}

/// Requests that the platform saw, and those that its limits refused.
fn requests(control: &str) -> Result<(u64, usize)> {
    let seen = get_json(&format!("{control}/_sandbox/requests?limit=20000"))?;
    let total = seen.get("total").and_then(Value::as_u64).context("the journal has a total")?;
    let all = seen.get("requests").and_then(Value::as_array).context("the journal has requests")?;
    Ok((total, all.iter().filter(|request| request.get("status") == Some(&json!(429))).count()))
}

/// Runs it and prints the times.
pub fn plan(keyholder: &Path, form: &Form) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("sandbox.toml"), sandbox_config(form)?)?;
    let mut command = Command::new(keyholder);
    command.arg("sandbox").arg("--config").arg(at("sandbox.toml")).arg("--ready-file").arg(at("sandbox.json"));
    let mut server = Server::start("keyholder sandbox", &mut command, &at("sandbox.log"))?;
    let sandbox = server.wait_for_json(&at("sandbox.json"))?;
    let file = at("keyholder.toml");
    fs::write(&file, config(form, folder.path(), text(&sandbox, "sandbox_url")?)?)?;
    let run = |words: &[&str]| {
        let mut command = Command::new(keyholder);
        command.arg("--config").arg(&file).args(words);
        command
    };
    for client in sandbox.get("clients").and_then(Value::as_array).context("the sandbox tells its clients")? {
        let document =
            json!({ "client_id": text(client, "client_id")?, "client_secret": text(client, "client_secret")? });
        fs::write(at("document.json"), document.to_string())?;
        process::output(run(&["secret", "set", text(client, "name")?, "--file"]).arg(at("document.json")))?;
    }
    let control = text(&sandbox, "sandbox_control_url")?;
    let (before, _) = requests(control)?;
    let mut times = Vec::new();
    for _ in 0..form.runs {
        #[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
        let start = Instant::now();
        let said = process::output(&mut run(&["--output", "json", "rotate", "plan"]))?;
        times.push(start.elapsed().as_secs_f64());
        let said: Value = serde_json::from_str(&said)?;
        let plans = said.get("plans").and_then(Value::as_array).context("it tells its plans")?;
        ensure!(plans.len() == form.credentials, "{} plans", plans.len());
    }
    let (after, refused) = requests(control)?;
    let each = (after - before) / u64::try_from(form.runs.max(1))?;
    println!(
        "rotate plan of {} credentials: {} s in {} runs, {each} requests each, {refused} refused by a limit",
        form.credentials,
        Spread::of(&times),
        form.runs
    );
    Ok(())
}
