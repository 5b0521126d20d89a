//! `keyholder token get`: a platform token from the local broker, for scripts.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use kh_core::{Code, CredentialName};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Context;
use crate::{
    compose::{harden, local_http},
    config::duration,
    output::{Exit, Failure},
};

/// The broker answers from memory or after one login; longer than its own limit for that.
const PATIENCE: Duration = Duration::from_secs(40);

/// Get platform tokens from the local broker
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  curl -H \"Authorization: Bearer $(keyholder token get acme-prod)\" https://api.mypurecloud.de/api/v2/users"
)]
pub(crate) enum TokenCommand {
    Get(GetArgs),
}

/// Print a token of this credential that is valid now
#[derive(Debug, Args)]
#[command(
    after_help = "Asks the broker at KEYHOLDER_URL with the guard token in KEYHOLDER_TOKEN_FILE, else the configured
broker.

Examples:
  keyholder token get acme-prod
  keyholder token get acme-prod --min-ttl 15m --output json"
)]
pub(crate) struct GetArgs {
    /// The credential's name
    profile: CredentialName,
    /// It must be valid for at least this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    min_ttl: Option<Duration>,
}

pub(super) fn run(command: TokenCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    let TokenCommand::Get(arguments) = command;
    let (url, token_file) = broker(context)?;
    let guard = kh_admin::guard::read_token(&token_file).map_err(|error| {
        Failure::of(Code::GUARD_REFUSED, &error)
            .hint("name the file with KEYHOLDER_TOKEN_FILE; `keyholder serve` makes it")
    })?;
    let answer = Context::runtime()?.block_on(ask(&url, guard.expose(), &arguments))?;
    let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default().to_owned();
    let token = Zeroizing::new(token);
    context.terminal.answer(&answer, || format!("{}\n", token.as_str()));
    Ok(Exit::Done)
}

/// Where the broker is, and the file with its guard token.
fn broker(context: &Context) -> Result<(String, PathBuf), Failure> {
    let (url, file) = (context.environment.text("KEYHOLDER_URL"), context.environment.path("KEYHOLDER_TOKEN_FILE"));
    if let (Some(url), Some(file)) = (&url, &file) {
        return Ok((url.clone(), file.clone()));
    }
    let loaded = context.load()?;
    let configured = loaded.config.broker.listen.map(|address| format!("http://{address}"));
    let url = url.or(configured).ok_or_else(|| {
        Failure::new(Code::CONFIG_INVALID, "the configuration turns the broker off")
            .hint("name another with KEYHOLDER_URL")
    })?;
    Ok((url, file.unwrap_or(loaded.paths.broker_token)))
}

async fn ask(url: &str, guard: &str, arguments: &GetArgs) -> Result<Value, Failure> {
    let unreachable = |error: reqwest::Error| {
        Failure::new(Code::UPSTREAM_UNREACHABLE, format!("the broker at {url} does not answer"))
            .caused_by(&error.without_url())
            .hint("is `keyholder serve` running? KEYHOLDER_URL names another address")
    };
    let client = local_http(PATIENCE)?;
    let profile = arguments.profile.as_str().replace('/', "%2F");
    let query = arguments.min_ttl.map_or_else(String::new, |ttl| format!("?min_ttl={}", ttl.as_secs()));
    let address = format!("{}/v1/token/{profile}{query}", url.trim_end_matches('/'));
    let response = client.get(address).header("X-Keyholder-Token", guard).send().await.map_err(unreachable)?;
    let status = response.status();
    let body: Value = response.json().await.map_err(unreachable)?;
    if status.is_success() {
        return Ok(body);
    }
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code =
        Code::ALL.iter().map(|(code, ..)| *code).find(|code| code.0 == text("code")).unwrap_or(Code::TOKEN_UNAVAILABLE);
    let mut failure = Failure::new(code, text("detail"));
    if code == Code::NOT_FOUND {
        failure =
            failure.hint("a profile is the name of a [credential.NAME] in the configuration of `keyholder serve`");
    }
    for hint in body.get("hints").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        failure = failure.hint(hint);
    }
    Err(failure)
}
