//! Rotation under load: the official SDKs call through keyholder, and programs that read the store themselves call
//! beside them, while `keyholder rotate run` replaces the secret; then the same with a naive script.
//!
//! Invariants: not one call may fail with keyholder, not even where the platform ends access tokens with the secret that is
//! replaced in place; the sandbox's own journal must show one new secret and a refused login with the old one; the naive
//! script must make calls fail, or the load would notice nothing.

mod load;
mod world;

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::{
    process::{self, text},
    root, scenario,
    tools::{self, Tools},
};
use load::{Load, Told};
use world::{Kind, World};

/// How long things take in one form of the scenario, in seconds.
#[derive(Clone, Copy)]
pub struct Form {
    /// Life of the platform's access tokens. Real ones live for an hour or a day.
    token: u64,
    /// How long a program that reads the store keeps what it read. Real ones often take 15 min.
    cache: u64,
    /// Load before the rotation begins.
    before: u64,
    /// What the naive script waits before it deletes.
    naive_sleep: u64,
}

/// In `cargo xtask test`.
const SHORT: Form = Form { token: 6, cache: 9, before: 3, naive_sleep: 2 };

/// With `--long`. The naive script would have to wait for longer than the cache.
const LONG: Form = Form { token: 60, cache: 90, before: 30, naive_sleep: 20 };

/// One secret that is replaced under load.
struct Case {
    /// Of the credential, its client at the platform, and its document in the store.
    name: &'static str,
    strategy: &'static str,
    /// Whether programs read the store themselves; a secret that is replaced in place cannot have such.
    direct: bool,
    /// What makes a new secret, as the journal of the sandbox names it.
    makes: &'static str,
    /// Whether the platform ends access tokens with the secret that made them.
    hard: bool,
    by: By,
}

/// Who replaces it, and so what is expected of the calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A command beside the `keyholder serve` that the calls go through: none fails.
    Command,
    /// That `serve` itself, by its schedule: none fails.
    Serve,
    /// The naive script: some fail.
    Script,
}

impl Case {
    fn kind(&self) -> Kind {
        Kind { hard: self.hard, scheduled: self.by == By::Serve }
    }
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Command | Self::Serve => "keyholder",
            Self::Script => "naive script",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Command => "by `keyholder rotate run` beside `keyholder serve`",
            Self::Serve => "by the schedule of `keyholder serve`",
            Self::Script => "by a naive script",
        }
    }
}

const ADD: &str = "POST /api/v2/oauth/clients/{clientId}/secrets";
const CREATE: &str = "POST /api/v2/oauth/clients";
const REGENERATE: &str = "POST /api/v2/oauth/clients/{clientId}/secret";

const CASES: [Case; 7] = [
    Case { name: "swap", strategy: "swap", direct: false, makes: REGENERATE, hard: false, by: By::Command },
    Case { name: "overlap", strategy: "overlap", direct: true, makes: ADD, hard: true, by: By::Command },
    Case { name: "pair", strategy: "pair", direct: true, makes: CREATE, hard: true, by: By::Command },
    Case { name: "hard-swap", strategy: "swap", direct: false, makes: REGENERATE, hard: true, by: By::Command },
    Case { name: "scheduled-swap", strategy: "swap", direct: false, makes: REGENERATE, hard: true, by: By::Serve },
    Case { name: "naive-overlap", strategy: "overlap", direct: true, makes: ADD, hard: true, by: By::Script },
    Case { name: "naive-pair", strategy: "pair", direct: true, makes: CREATE, hard: true, by: By::Script },
];

/// The `rotation` command: installs, builds, runs.
pub fn run(options: &[&str]) -> Result<()> {
    let (form, names) = match options {
        ["--long", names @ ..] => (LONG, names),
        names => (SHORT, names),
    };
    if let Some(unknown) = names.iter().find(|name| CASES.iter().all(|case| case.name != **name)) {
        bail!("there is no case {unknown}, only {:?}", CASES.map(|case| case.name));
    }
    let tools = tools::install()?;
    let (keyholder, fakes) = (scenario::build()?, crate::stores::build()?);
    run_form(&tools, &keyholder, &fakes, form, names)
}

/// The cases of `cargo xtask test`: every strategy, and the script once to see that the load notices an outage.
const IN_TEST: [&str; 6] = ["swap", "overlap", "pair", "hard-swap", "scheduled-swap", "naive-pair"];

/// The short form.
pub fn short(tools: &Tools, keyholder: &Path) -> Result<()> {
    run_form(tools, keyholder, &crate::stores::build()?, SHORT, &IN_TEST)
}

fn run_form(tools: &Tools, keyholder: &Path, fakes: &Path, form: Form, names: &[&str]) -> Result<()> {
    let wanted = |case: &&Case| names.is_empty() || names.contains(&case.name);
    let mut lines = Vec::new();
    for (hard, scheduled) in [(false, false), (true, false), (true, true)] {
        let kind = Kind { hard, scheduled };
        let cases: Vec<_> = CASES.iter().filter(wanted).filter(|case| case.kind() == kind).collect();
        if cases.is_empty() {
            continue;
        }
        let folder = tempfile::tempdir()?;
        let world = World::start(keyholder, fakes, folder.path(), form, kind)?;
        let limits = world.limits()?;
        println!("the sandbox's limits are raised: {limits}");
        let tokens = if hard { "end with their secret" } else { "outlive their secret" };
        println!("its tokens live for {} s and {tokens}; programs keep a secret for {} s", form.token, form.cache);
        for case in cases {
            lines.push(run_case(tools, &world, case, form)?);
        }
    }
    println!("rotation: calls and failures");
    for line in lines {
        println!("  {line}");
    }
    Ok(())
}

/// Replaces one secret under load, and tells what became of the calls.
fn run_case(tools: &Tools, world: &World, case: &Case, form: Form) -> Result<String> {
    println!("{}, {}", case.strategy, case.by.sentence());
    if case.by == By::Serve {
        world.wait_for_schedule(case)?;
    }
    let old = world.document(case.name)?;
    let from = world.last_request()?;
    let load = Load::start(tools, world, case, form)?;
    pass(form.before);
    match case.by {
        By::Script => {
            world.rotate_naively(tools, case, form)?;
            // every program reads the store again within this time, and logs in with what it has at least once
            pass(form.cache);
        }
        By::Command => world.rotate(case)?,
        By::Serve => world.let_schedule(case)?,
    }
    pass(form.token);
    let told = load.end()?;
    check_platform(world, case, from, &old)?;
    let line = line(case, &told);
    println!("  {line}");
    for example in told.iter().filter_map(|told| told.examples.first()) {
        println!("    {example}");
    }
    let failures: u64 = told.iter().map(|told| told.failures).sum();
    match case.by {
        By::Command | By::Serve => ensure!(failures == 0, "{}: {failures} calls failed", case.name),
        By::Script => ensure!(failures > 0, "the naive script broke nothing: this load would not notice an outage"),
    }
    Ok(line)
}

fn line(case: &Case, told: &[Told]) -> String {
    let parts: Vec<_> = told.iter().map(ToString::to_string).collect();
    format!("{:<14} {:<13} {}", case.name, case.by.word(), parts.join("; "))
}

/// One new secret, and a login with the old one is refused: by the platform's own journal.
fn check_platform(world: &World, case: &Case, from: u64, old: &Value) -> Result<()> {
    let new = world.document(case.name)?;
    ensure!(new.get("client_secret") != old.get("client_secret"), "{}: the secret is the old one", case.name);
    let made = world.requests_after(from, |request| {
        let named = format!("{} {}", field(request, "method"), field(request, "endpoint"));
        [ADD, CREATE, REGENERATE].contains(&named.as_str())
    })?;
    let shown: Vec<_> =
        made.iter().map(|request| format!("{} {}", field(request, "method"), field(request, "endpoint"))).collect();
    ensure!(shown == [case.makes], "{}: the platform made secrets by {shown:?}, not once by {}", case.name, case.makes);
    let from = world.last_request()?;
    ensure!(world.log_in(&new)? == 200, "{}: a login with the new secret is refused", case.name);
    let status = world.log_in(old)?;
    ensure!(status == 400 || status == 401, "{}: a login with the old secret got {status}", case.name);
    let logins = world.requests_after(from, |request| field(request, "endpoint") == "/oauth/token")?;
    let refused = logins.iter().filter(|request| request.get("status").and_then(Value::as_u64) == Some(status.into()));
    ensure!(refused.count() >= 1, "{}: the sandbox's journal has no refused login: {logins:?}", case.name);
    println!("  the platform made one secret ({}), and refuses the old one ({status})", case.makes);
    Ok(())
}

fn field<'a>(document: &'a Value, name: &str) -> &'a str {
    text(document, name).unwrap_or_default()
}

fn pass(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// A program of `tests/rotation`.
fn script(tools: &Tools, name: &str) -> Command {
    let path = root().join("tests/rotation").join(name);
    let is_python = path.extension().is_some_and(|extension| extension == "py");
    let mut command = if is_python { Command::new(tools.python()) } else { Command::new("node") };
    command.arg(path).env("NODE_PATH", tools.node_modules());
    command
}

/// Runs it to its end.
fn run_script(tools: &Tools, name: &str, environment: process::Environment) -> Result<()> {
    process::run(script(tools, name).envs(environment))
}
