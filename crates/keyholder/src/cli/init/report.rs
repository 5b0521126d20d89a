//! What `init` tells: before it is agreed to, and after it is done.
//!
//! Invariant: the first client's secret is shown once, here, and the platform's secret never.

use std::path::Path;

use serde_json::{Value, json};

use super::{Done, FILE_NAME, plan::Plan};
use crate::cli::{Context, Loaded};

/// What will be done, before it is agreed to.
pub(super) fn summary(plan: &Plan, loaded: &Loaded, with_secret: bool) -> String {
    let secret = if with_secret { "goes into the encrypted store" } else { "is stored later" };
    let mut rows = vec![
        ("file", loaded.file_name()),
        ("platform", plan.platform_summary()),
        ("credential", plan.credential_summary()),
        ("secret", format!("{} {secret}", plan.secret)),
        ("state", loaded.paths.state.display().to_string()),
    ];
    if let Some(client) = &plan.client {
        rows.push(("client", client.summary()));
    }
    let rows: Vec<_> = rows.into_iter().map(|(name, text)| format!("  {name:<12}{text}")).collect();
    format!("\n{}\n", rows.join("\n"))
}

pub(super) fn answer(plan: &Plan, loaded: &Loaded, file: &Path, done: &Done, context: &Context) {
    let next = next_commands(plan, file, done);
    let client = done.client.as_ref().map(
        |(record, secret)| json!({ "name": record.name, "client_id": record.id, "client_secret": secret.expose() }),
    );
    let secret = json!({ "name": plan.secret, "version": done.secret_version });
    let json = json!({
        "file": file, "schema": done.schema, "backup": done.backup, "state": loaded.paths.state,
        "platform": plan.platform_name, "credential": plan.credential, "environment": plan.environment,
        "secret": secret, "client": client.unwrap_or(Value::Null), "next": next,
    });
    if done.schema.is_none() {
        context.terminal.warn(&format!(
            "{} is there already and is something else; editors will not complete keyholder.toml",
            crate::config::schema::FILE_NAME
        ));
    }
    context.terminal.answer(&json, || {
        let mut lines = vec![format!("{} is written\n", file.display())];
        lines.extend(done.backup.as_ref().map(|backup| format!("the older one is kept as {}\n", backup.display())));
        let secret = &plan.secret;
        lines
            .extend(done.secret_version.map(|version| format!("the secret {secret} is stored at version {version}\n")));
        if let Some((record, secret)) = &done.client {
            let (name, id) = (&record.name, &record.id);
            lines.push(format!("the client {name} is added\n\nclient_id      {id}\n"));
            lines.push(format!("client_secret  {}\n\nThe secret is not shown again.\n", secret.expose()));
        }
        lines.push("\nNext:\n".to_owned());
        lines.extend(next.iter().map(|line| format!("  {line}\n")));
        lines.concat()
    });
}

/// What to type next.
fn next_commands(plan: &Plan, file: &Path, done: &Done) -> Vec<String> {
    let config = if file == Path::new(FILE_NAME) { String::new() } else { format!(" --config {}", file.display()) };
    let mut next = Vec::new();
    if done.secret_version.is_none() {
        next.push(format!("keyholder{config} secret set {}{}", plan.secret, plan.id_flags()));
    }
    if done.client.is_none() {
        let credential = &plan.credential;
        next.push(format!(
            "keyholder{config} client add billing --credential {credential} --allow '{}'",
            plan.sample_rule()
        ));
    }
    next.push(format!("keyholder{config} check --online"));
    next.push(format!("keyholder{config} serve"));
    next
}
