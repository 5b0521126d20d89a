//! `keyholder token`: a platform token from the local broker, for scripts; whether a token is what it says.

mod verify;

use std::time::Duration;

use super::{
    Context,
    local_broker::{LocalBroker, Wish},
    token_form::{self, TokenForm},
};
use crate::{
    compose::harden,
    config::duration,
    output::{Exit, Failure},
};
use clap::{Args, Subcommand};
use kh_core::{CredentialName, EnvironmentName};

/// Get platform tokens from the local broker; verify tokens
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  curl -H \"Authorization: Bearer $(keyholder token get acme-prod)\" https://api.mypurecloud.de/api/v2/users
  keyholder token verify --jwks keys.json --issuer https://login.example.com/ < token")]
pub(crate) enum TokenCommand {
    Get(GetArgs),
    Verify(verify::VerifyArgs),
}

/// Print a token of this credential that is valid now
#[derive(Debug, Args)]
#[command(after_help = "Asks the broker at KEYHOLDER_URL (http://127.0.0.1:PORT or unix:/PATH) with the guard token in
KEYHOLDER_TOKEN_FILE, else the configured broker.

Examples:
  keyholder token get acme-test
  keyholder token get acme-prod --environment production --min-ttl 15m --output json
  keyholder token get acme-test --format header | curl -H @- https://api.mypurecloud.de/api/v2/users")]
pub(crate) struct GetArgs {
    /// The credential's name
    profile: CredentialName,
    /// It must be valid for at least this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    min_ttl: Option<Duration>,
    /// The credential's environment; production is refused without it
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// What is printed
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    format: TokenForm,
}

pub(super) fn run(command: TokenCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    match command {
        TokenCommand::Get(arguments) => get(&arguments, context),
        TokenCommand::Verify(arguments) => verify::run(&arguments, context),
    }
}

fn get(arguments: &GetArgs, context: &Context) -> Result<Exit, Failure> {
    let broker = LocalBroker::of(context)?;
    let wish =
        Wish { profile: &arguments.profile, min_ttl: arguments.min_ttl, environment: arguments.environment.as_ref() };
    let token = Context::runtime()?.block_on(broker.token(&wish))?;
    if context.terminal.is_json() {
        context.terminal.out(&token_form::json(&token)?);
    } else {
        context.terminal.out(&token_form::text(arguments.format, &token)?);
    }
    Ok(Exit::Done)
}
