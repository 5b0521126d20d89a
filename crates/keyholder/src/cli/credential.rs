//! `keyholder credential`: what the configuration logs in with, and how it is doing where keyholder runs.

use std::collections::BTreeMap;

use clap::Subcommand;
use kh_core::CredentialName;
use serde_json::{Value, json};

use super::{
    Context,
    admin_api::{Which, find},
};
use crate::{
    compose::harden,
    config::CredentialConfig,
    output::{Exit, Failure, Table},
};

/// Show what keyholder logs in with
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  keyholder credential list\n  keyholder credential list --output json")]
pub(crate) enum CredentialCommand {
    /// The configured credentials, with their state if keyholder runs
    #[command(after_help = "Exit code 0, whether keyholder runs or not: what is not known is left out.

Examples:
  keyholder credential list
  keyholder credential list --config /etc/keyholder/keyholder.toml --output json")]
    List {
        #[command(flatten)]
        which: Which,
    },
}

pub(super) fn run(command: &CredentialCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    let CredentialCommand::List { which } = command;
    let loaded = context.load_file()?;
    context.start_logging_at(super::QUIET)?;
    let status = find(which, context).and_then(|found| found.status());
    let known = status.as_ref().map(by_name).unwrap_or_default();
    let rows: Vec<Value> =
        loaded.config.credentials.iter().map(|(name, credential)| described(name, credential, &known)).collect();
    let answer = json!({ "running": status.is_ok(), "credentials": rows });
    context.terminal.answer(&answer, || table(&rows).text());
    if let Err(failure) = &status {
        context.terminal.note(&format!("no states: {}", failure.detail()));
    }
    Ok(Exit::Done)
}

fn by_name(status: &Value) -> BTreeMap<String, Value> {
    let all = status.get("credentials").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|found| Some((found.get("name")?.as_str()?.to_owned(), found.clone()))).collect()
}

fn described(name: &CredentialName, credential: &CredentialConfig, known: &BTreeMap<String, Value>) -> Value {
    let told = |member: &str| known.get(name.as_str()).and_then(|found| found.get(member)).cloned().unwrap_or_default();
    // 0 is what a broker says that did not read the document yet.
    let version = Some(told("secret_version")).filter(|version| version.as_u64() != Some(0));
    json!({
        "name": name,
        "platform": credential.platform,
        "environment": credential.environment,
        "secret": credential.secret,
        "secret_version": version,
        "state": told("state"),
        "last_error": told("last_error"),
    })
}

fn table(rows: &[Value]) -> Table {
    let headings = ["name", "platform", "environment", "secret", "secret version", "state", "last error"];
    let mut table = Table::new(&headings);
    for row in rows {
        let cell = |member: &str| match row.get(member) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => "-".to_owned(),
        };
        let members = ["name", "platform", "environment", "secret", "secret_version", "state", "last_error"];
        table.row(members.iter().map(|member| cell(member)).collect());
    }
    table
}
