//! `keyholder check`: the configuration's mistakes, and whether what it names is there.
//!
//! Invariant: changes nothing; a store that does not exist yet is not made.

mod environments;

use clap::Args;
use kh_core::{Code, port::SecretStore};
use serde::Serialize;

use super::{Context, Loaded, QUIET};
use crate::{
    compose::{Base, broken_ways, certificate},
    config::{self, KeySource},
    output::{Exit, Failure},
};

/// Check the configuration and what it names
#[derive(Debug, Args)]
#[command(after_help = "Exit 0: everything is fine. Exit 2: mistakes in the file, each told with line and hint.
Exit 1: the file is fine and something it names is not there, such as a secret.

Examples:
  keyholder check
  keyholder check --config /etc/keyholder/keyholder.toml --output json
  keyholder check --syntax")]
pub(crate) struct CheckArgs {
    /// Check the file alone, not the files and secrets that it names
    #[arg(long)]
    syntax: bool,
}

/// What is not there.
#[derive(Debug, Serialize)]
struct Finding {
    subject: String,
    problem: String,
    hint: String,
}

pub(super) fn run(arguments: &CheckArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load_file()?;
    context.start_logging_at(QUIET)?;
    let file = loaded.file_name();
    if !loaded.warnings.all.is_empty() && !context.terminal.is_json() {
        let report = config::render(&file, &loaded.warnings, context.terminal.colors_errors());
        context.terminal.note(report.trim_end());
    }
    let mut shared = environments::shared_documents(&loaded.config);
    let findings = if arguments.syntax { Vec::new() } else { findings(&loaded, context, &mut shared)? };
    for warning in &shared {
        context.terminal.warn(warning);
    }
    if !findings.is_empty() {
        let json = serde_json::to_value(&findings).unwrap_or_default();
        let mut failure =
            Failure::new(Code::NOT_FOUND, format!("{file} names what is not there")).with("findings", json);
        for finding in &findings {
            failure = failure.hint(format!("{}: {}; {}", finding.subject, finding.problem, finding.hint));
        }
        return Err(failure.exiting(Exit::No));
    }
    let answer = serde_json::json!({
        "valid": true,
        "file": loaded.file,
        "platforms": loaded.config.platforms.len(),
        "credentials": loaded.config.credentials.len(),
        "warnings": loaded.warnings.all,
        "shared_between_environments": shared,
    });
    context.terminal.answer(&answer, || {
        format!(
            "{file} is fine: {}, {}\n",
            counted(loaded.config.platforms.len(), "platform"),
            counted(loaded.config.credentials.len(), "credential")
        )
    });
    Ok(Exit::Done)
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn findings(loaded: &Loaded, context: &Context, shared: &mut Vec<String>) -> Result<Vec<Finding>, Failure> {
    let mut all = Vec::new();
    let mut of = |subject: &str, result: Result<(), Failure>| {
        if let Err(failure) = result {
            let (subject, problem) = (subject.to_owned(), failure.detail().to_owned());
            all.push(Finding { subject, problem, hint: "see that section of the file".to_owned() });
        }
    };
    for (name, failure) in broken_ways(loaded) {
        of(&format!("[platform.{name}]"), Err(failure));
    }
    if let Some(tls) = &loaded.config.gateway.tls {
        of("[gateway.tls]", certificate(tls, &loaded.paths).map(drop));
    }
    all.extend(of_installation(loaded, context, shared)?);
    Ok(all)
}

/// What is only known once the installation is open, if there is one.
fn of_installation(loaded: &Loaded, context: &Context, shared: &mut Vec<String>) -> Result<Vec<Finding>, Failure> {
    let missing = |secret: &kh_core::SecretName, problem: &str| Finding {
        subject: format!("secret {secret}"),
        problem: problem.to_owned(),
        hint: format!("keyholder secret set {secret}"),
    };
    let wanted: std::collections::BTreeSet<_> =
        loaded.config.credentials.values().map(|credential| credential.secret.clone()).collect();
    let keyless = loaded.config.store.key != KeySource::Generated
        && loaded.paths.key_file(&loaded.config.store.key).is_some_and(|path| !path.exists());
    if keyless {
        let subject = "[store]".to_owned();
        let hint = "make it, or name another".to_owned();
        return Ok(vec![Finding { subject, problem: "the key's file does not exist".to_owned(), hint }]);
    }
    if !loaded.paths.store.exists() {
        return Ok(wanted.iter().map(|secret| missing(secret, "the secret store does not exist yet")).collect());
    }
    let base = Base::open(loaded, &context.environment)?;
    Context::runtime()?.block_on(async {
        let known = base.store.list().await?;
        let absent = wanted.iter().filter(|secret| !known.iter().any(|found| found.name == **secret));
        let mut all: Vec<_> = absent.map(|secret| missing(secret, "it is not in the secret store")).collect();
        all.extend(environments::misplaced_clients(loaded, &base).await?);
        shared.extend(environments::shared_clients(&loaded.config, &base).await);
        Ok(all)
    })
}
