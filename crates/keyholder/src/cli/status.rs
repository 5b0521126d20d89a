//! `keyholder status`: how the running keyholder is doing.
//!
//! Invariant: whatever makes it unhealthy is named in the answer, and the exit code says so.

use clap::Args;
use serde_json::{Value, json};

use super::{
    Context,
    admin_api::{Which, find},
};
use crate::{
    compose::harden,
    output::{Exit, Failure, Style, Table},
};

/// Show how the running keyholder is doing
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 healthy, 1 something is wrong and named, 3 no keyholder runs or it does not answer.

Examples:
  keyholder status
  keyholder status --output json
  keyholder status --url http://127.0.0.1:8081 --token-file /var/lib/keyholder/admin.token"
)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(arguments: &StatusArgs, context: &Context) -> Result<Exit, Failure> {
    harden();
    context.start_logging_at(super::QUIET)?;
    let found = find(&arguments.which, context)?;
    let status = found.status()?;
    let problems = problems(&status);
    let healthy = problems.is_empty();
    let mut answer = status.clone();
    if let Some(object) = answer.as_object_mut() {
        object.insert("healthy".to_owned(), healthy.into());
        object.insert("problems".to_owned(), json!(problems));
        object.insert("other_pids".to_owned(), json!(found.others));
    }
    let style = context.terminal.out_style;
    context.terminal.answer(&answer, || report(&status, &problems, &found.others, style));
    Ok(if healthy { Exit::Done } else { Exit::No })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_u64)
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// What is wrong, one sentence each.
fn problems(status: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for credential in list(status, "credentials") {
        let (name, error) = (text(credential, "name"), text(credential, "last_error"));
        match text(credential, "state") {
            "rejected" => found.push(format!("the platform refuses the credential {name} ({error})")),
            "waiting" => {
                let rest = number(credential, "retry_in_seconds").map(span).unwrap_or_default();
                found.push(format!("the credential {name} has no token and waits {rest} ({error})"));
            }
            _ if !error.is_empty() => {
                found.push(format!(
                    "the last login of the credential {name} failed ({error}); its token is good until it expires"
                ));
            }
            _ => {}
        }
    }
    for store in list(status, "stores").filter(|store| store.get("ready") == Some(&Value::Bool(false))) {
        found.push(format!("the store of {} cannot be read ({})", text(store, "name"), text(store, "code")));
    }
    if status.pointer("/audit/ready") == Some(&Value::Bool(false)) {
        found.push("the audit log cannot be read or does not verify".to_owned());
    }
    if let Some(last) = status.pointer("/config/last_reload").filter(|last| text(last, "result") == "refused") {
        let detail = last.pointer("/problem/detail").and_then(Value::as_str).unwrap_or_default();
        found.push(format!("the changed configuration was refused and the old one is in force: {detail}"));
    }
    if status.get("draining") == Some(&Value::Bool(true)) {
        found.push("it is stopping".to_owned());
    }
    found
}

fn report(status: &Value, problems: &[String], others: &[u32], style: Style) -> String {
    let config = status.get("config").unwrap_or(&Value::Null);
    let mut lines = vec![
        format!(
            "{} {}, process {}, up {}",
            style.bold("keyholder"),
            text(status, "version"),
            number(status, "pid").unwrap_or_default(),
            number(status, "uptime_seconds").map(span).unwrap_or_default()
        ),
        row("config", &format!("{}, {}", text(config, "file"), in_force(status, config))),
    ];
    for listener in list(status, "listeners") {
        let name = format!("{} {}", text(listener, "name"), text(listener, "api"));
        lines.push(row(name.trim_end(), text(listener, "address")));
    }
    if let Some(tls) = status.get("tls").filter(|tls| !tls.is_null()) {
        lines.push(row("certificate", &format!("sha256 {}", short(text(tls, "certificate_sha256")))));
    }
    for store in list(status, "stores") {
        let ready = if text(store, "code").is_empty() { "readable" } else { text(store, "code") };
        lines.push(row(text(store, "name"), &format!("{}, {ready}", text(store, "path"))));
    }
    lines.push(row("audit", &audit(status)));
    lines.push(row("calls", &format!("{} in flight", status.get("in_flight").and_then(Value::as_i64).unwrap_or(0))));
    let (clients, tokens) = (number(status, "clients").unwrap_or(0), number(status, "live_tokens").unwrap_or(0));
    lines.push(row("clients", &format!("{clients}, with {tokens} valid tokens")));
    lines.push(row("limits", &limits(status)));
    if !others.is_empty() {
        let pids: Vec<_> = others.iter().map(ToString::to_string).collect();
        lines.push(row("beside it", &format!("process {} serves the same state", pids.join(", "))));
    }
    let table = credentials(status).text();
    let verdict = match problems {
        [] => style.green("healthy"),
        some => {
            some.iter().map(|problem| format!("{} {problem}", style.red("problem:"))).collect::<Vec<_>>().join("\n")
        }
    };
    format!("{}\n\n{table}\n{verdict}\n", lines.join("\n"))
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<12} {value}")
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn in_force(status: &Value, config: &Value) -> String {
    let now = number(status, "started_at").unwrap_or(0) + 1000 * number(status, "uptime_seconds").unwrap_or(0);
    let ago = |time: Option<u64>| time.map(|time| span(now.saturating_sub(time) / 1000)).unwrap_or_default();
    let since = ago(number(config, "loaded_at"));
    let last = config.get("last_reload").filter(|last| !last.is_null());
    let last = last.map(|last| format!(", last reload {} {} ago", text(last, "result"), ago(number(last, "at"))));
    format!("sha256 {}, in force for {since}{}", short(text(config, "sha256")), last.unwrap_or_default())
}

fn audit(status: &Value) -> String {
    let audit = status.get("audit").unwrap_or(&Value::Null);
    let entries = number(audit, "entries").unwrap_or(0);
    let head = audit.get("head").and_then(Value::as_str).map(|head| format!(", head {}", short(head)));
    format!("{}, {entries} entries{}", text(audit, "path"), head.unwrap_or_default())
}

fn limits(status: &Value) -> String {
    let limits = status.get("limits").and_then(Value::as_object);
    let each =
        limits.into_iter().flatten().map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()));
    each.collect::<Vec<_>>().join(", ")
}

fn credentials(status: &Value) -> Table {
    let mut table = Table::new(&[
        "credential",
        "platform",
        "environment",
        "state",
        "token age",
        "expires in",
        "last error",
        "retry in",
    ]);
    let now = number(status, "started_at").unwrap_or(0) + 1000 * number(status, "uptime_seconds").unwrap_or(0);
    for credential in list(status, "credentials") {
        let expires = number(credential, "expires_at").map(|at| span(at.saturating_sub(now) / 1000));
        table.row(vec![
            text(credential, "name").to_owned(),
            text(credential, "platform").to_owned(),
            or_dash(text(credential, "environment")),
            text(credential, "state").to_owned(),
            number(credential, "age_seconds").map_or_else(|| "-".to_owned(), span),
            expires.unwrap_or_else(|| "-".to_owned()),
            or_dash(text(credential, "last_error")),
            number(credential, "retry_in_seconds").map_or_else(|| "-".to_owned(), span),
        ]);
    }
    table
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Seconds in the two largest units that a person needs.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3_599, "59m 59s"), (3_661, "1h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(span(seconds), expected);
        }
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        let fine = json!({
            "credentials": [{ "name": "a", "state": "ready", "last_error": null }, { "name": "b", "state": "empty" }],
            "stores": [{ "name": "state", "ready": true }],
            "audit": { "ready": true },
            "config": { "last_reload": { "result": "applied" } },
            "draining": false,
        });
        assert!(problems(&fine).is_empty());
        for (pointer, value, expected) in [
            ("/credentials/0/state", json!("rejected"), "refuses the credential a"),
            ("/credentials/1/state", json!("waiting"), "the credential b has no token"),
            ("/credentials/0/last_error", json!("keyholder.credential.rejected"), "the last login of the credential a"),
            ("/stores/0/ready", json!(false), "the store of state cannot be read"),
            ("/audit/ready", json!(false), "audit log"),
            ("/config/last_reload/result", json!("refused"), "was refused"),
            ("/draining", json!(true), "it is stopping"),
        ] {
            let mut bad = fine.clone();
            *bad.pointer_mut(pointer).expect("it is there") = value;
            let told = problems(&bad);
            assert!(matches!(told.as_slice(), [one] if one.contains(expected)), "{told:?}");
        }
    }
}
