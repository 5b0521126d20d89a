//! `keyholder signing-key`: the keys that sign JWT access tokens.
//!
//! Invariant: no private part is ever shown.

use clap::{Args, Subcommand};
use kh_issuer::{KeyDescription, Order};
use serde_json::{Value, json};

use super::{Context, QUIET, secret::time};
use crate::{
    compose::{Base, harden},
    config::{TokenEndpointConfig, duration},
    output::{Exit, Failure, Table},
};

/// Look at the keys that sign JWTs, or replace them
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  keyholder signing-key list
  keyholder signing-key rotate
  keyholder signing-key rotate --compromised")]
pub(crate) enum SigningKeyCommand {
    /// List the keys and what each is doing
    List,
    Rotate(RotateArgs),
}

/// Make a new key; it is published before it signs
#[derive(Debug, Args)]
#[command(
    after_help = "A new key is published for a day (or half of key_interval) before it signs, so that verifiers that keep the key
set know it by then. The key before stays published until the last token that it signed has expired. serve does the
same by itself every key_interval.

Examples:
  keyholder signing-key rotate
  keyholder signing-key rotate --now
  keyholder signing-key rotate --compromised"
)]
pub(crate) struct RotateArgs {
    /// Let the new key sign at once, or the one that waits already: for verifiers that fetch an unknown key
    #[arg(long)]
    now: bool,
    /// The present keys are known to somebody: forget all of them at once, with every token that they signed
    #[arg(long, conflicts_with = "now")]
    compromised: bool,
}

pub(super) fn run(command: &SigningKeyCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    let loaded = context.load()?;
    context.start_logging_at(QUIET)?;
    let config = &loaded.config.token_endpoint;
    if matches!(command, SigningKeyCommand::Rotate(_)) && config.issuer.is_none() {
        let told = format!("{} has no [token_endpoint] issuer, so nothing is signed", loaded.file_name());
        return Err(Failure::usage(told).hint("issuer = \"https://keys.example.com\""));
    }
    let base = Base::open_existing(&loaded, &context.environment)?;
    Context::runtime()?.block_on(async {
        let keys = base.signing_keys(config).await?;
        let ordered = match command {
            SigningKeyCommand::List => None,
            SigningKeyCommand::Rotate(arguments) => {
                let order = match (arguments.compromised, arguments.now) {
                    (true, _) => Order::Compromised,
                    (false, true) => Order::Now,
                    (false, false) => Order::Ahead,
                };
                Some(keys.order(order, &context.environment.actor()).await?)
            }
        };
        let described = keys.describe();
        let answer = as_json(config, &described, ordered.as_deref());
        context.terminal.answer(&answer, || shown(&described, ordered.as_deref()));
        Ok(Exit::Done)
    })
}

fn as_json(config: &TokenEndpointConfig, keys: &[KeyDescription], ordered: Option<&str>) -> Value {
    let policy = config.policy();
    let keys = keys.iter().map(|key| {
        json!({
            "kid": key.kid,
            "algorithm": key.algorithm,
            "state": key.state.as_str(),
            "made_at": time(key.made_at),
            "signs_from": time(key.signs_from),
            "published_until": key.published_until.map(time),
        })
    });
    let mut answer = json!({
        "issuer": config.issuer.as_ref().map(ToString::to_string),
        "signing_algorithm": policy.algorithm,
        "key_interval": duration::format(policy.interval),
        "keys": keys.collect::<Vec<_>>(),
    });
    if let (Some(object), Some(kid)) = (answer.as_object_mut(), ordered) {
        object.insert("kid".to_owned(), kid.into());
    }
    answer
}

fn shown(keys: &[KeyDescription], ordered: Option<&str>) -> String {
    if keys.is_empty() {
        return "there are no signing keys yet; `keyholder serve` makes the first one\n".to_owned();
    }
    let mut table = Table::new(&["kid", "algorithm", "state", "signs from", "published until"]);
    for key in keys {
        table.row(vec![
            key.kid.clone(),
            key.algorithm.as_str().to_owned(),
            key.state.as_str().to_owned(),
            time(key.signs_from),
            key.published_until.map_or_else(|| "-".to_owned(), time),
        ]);
    }
    let told = ordered.map(|kid| format!("{kid} signs next\n\n")).unwrap_or_default();
    format!("{told}{}", table.text())
}
