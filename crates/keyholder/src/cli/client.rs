//! `keyholder client`: the registry of applications that may log in at keyholder.
//!
//! Invariants: a client's secret is shown once, in the answer to the command that made it, and stored as a digest; what a
//! command says of a client's calls holds in every serving keyholder when it has ended.

use std::{path::Path, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use kh_core::{
    ClientName, Code, CredentialName, EnvironmentName, SecretString, environment,
    port::{AllowRule, ClientRecord, TokenBinding, TokenFormat},
};
use kh_issuer::{Issuer, NewClient, NewTokens, SecretOverlap};
use serde_json::{Value, json};

use super::{
    Context, Loaded, QUIET,
    secret::{input::confirm, time},
};
use crate::{
    compose::{Base, client_fits, environment_of, harden, seen_by_all},
    config::{Config, duration, nearest},
    output::{Exit, Failure, Table},
};

/// Shortest life of a client's tokens that is not remarked on: official SDKs do not log in again on a 401.
const TTL_RISKY: Duration = Duration::from_hours(1);

/// Issue ids and secrets to applications
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  keyholder client add billing --credential acme-test --allow 'GET /api/v2/users/**'
  keyholder client rotate-secret billing --overlap 24h
  keyholder client disable billing")]
pub(crate) enum ClientCommand {
    Add(AddArgs),
    /// List all clients
    List,
    /// Show one client
    Show {
        /// Its name or id
        client: String,
    },
    RotateSecret(RotateArgs),
    Bind(BindArgs),
    Edit(EditArgs),
    /// Refuse its logins and its calls at once
    Disable {
        /// Its name or id
        client: String,
    },
    /// Let it log in and call again
    Enable {
        /// Its name or id
        client: String,
    },
    Rm(RmArgs),
}

/// Add a client; its secret is shown once
#[derive(Debug, Args)]
#[command(
    after_help = "A rule is METHOD, one space and a path. `*` is any method; in the path, `*` or {id} is one segment
and `**` at the end any rest. Operations that return or change platform secrets stay refused unless
--allow-secret-operations is given.

Examples:
  keyholder client add billing --credential acme-test --allow 'GET /api/v2/users/**'
  keyholder client add payroll --credential acme-prod --environment production --allow 'GET /api/v2/users/**'
  keyholder client add importer --credential acme-test --allow-all --ttl 12h --output json
  keyholder client add data-actions --token-format jwt --audience https://api.example.com --scope orders:read
  keyholder client add orders-api --introspect --audience https://api.example.com"
)]
pub(crate) struct AddArgs {
    /// What people call it; unique
    name: ClientName,
    /// The credential of keyholder.toml that its calls use
    #[arg(long, value_name = "NAME")]
    credential: Option<CredentialName>,
    /// The credential's environment; required for production
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// A scope that its tokens may have
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// What its tokens are: opaque, or JWTs (RFC 9068) that your own API verifies
    #[arg(long, value_name = "FORMAT", default_value = "opaque", value_parser = ["opaque", "jwt"])]
    token_format: String,
    /// An API that its tokens are for: `aud` of a JWT
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// Let it ask what a token is (RFC 7662): tokens for its --audience, or all without one
    #[arg(long)]
    introspect: bool,
    /// What its tokens must be bound to: its client certificate (RFC 8705), or its own key (DPoP, RFC 9449)
    #[arg(long, value_name = "BINDING", default_value = "none", value_parser = ["none", "certificate", "dpop"])]
    token_binding: String,
    /// A call it may make, such as 'GET /api/v2/users/**'
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
    /// Let it make every call but the guarded ones
    #[arg(long)]
    allow_all: bool,
    /// Let it also call what returns or changes platform secrets
    #[arg(long)]
    allow_secret_operations: bool,
    /// Life of its tokens [default: 24h, of JWTs 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    ttl: Option<Duration>,
}

/// Make a new secret; it is shown once
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keyholder client rotate-secret billing\n  keyholder client rotate-secret billing --overlap 24h"
)]
pub(crate) struct RotateArgs {
    /// Its name or id
    client: String,
    /// Keep the old secret working for this long [default: it stops at once]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    overlap: Option<Duration>,
}

/// Say that a client belongs to the environment that its credential has now
#[derive(Debug, Args)]
#[command(
    after_help = "A client belongs to the environment of its credential. When the configuration gives that credential another
environment, the client's logins and calls are refused until somebody confirms it with this command.

Examples:
  keyholder client bind billing --environment staging"
)]
pub(crate) struct BindArgs {
    /// Its name or id
    client: String,
    /// The environment of its credential, as the configuration has it
    #[arg(long, value_name = "NAME")]
    environment: EnvironmentName,
}

/// Say what a client's tokens must be bound to
#[derive(Debug, Args)]
#[command(
    after_help = "A token that is bound to a client certificate (RFC 8705) or to a key of the client (DPoP, RFC 9449) is good for
nothing in anybody else's hands. Tokens of the client that are not bound like that stop working at once.

Examples:
  keyholder client edit billing --token-binding dpop"
)]
pub(crate) struct EditArgs {
    /// Its name or id
    client: String,
    /// What its tokens must be bound to
    #[arg(long, value_name = "BINDING", value_parser = ["none", "certificate", "dpop"])]
    token_binding: String,
}

/// Remove a client with its secrets and tokens
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  keyholder client rm billing --yes")]
pub(crate) struct RmArgs {
    /// Its name or id
    client: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(command: ClientCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    let loaded = context.load()?;
    context.start_logging_at(QUIET)?;
    let (environment, base) = match &command {
        ClientCommand::Add(arguments) => {
            (check_credential(arguments, &loaded)?, Base::open(&loaded, &context.environment)?)
        }
        _ => (None, Base::open_existing(&loaded, &context.environment)?),
    };
    let actor = context.environment.actor();
    let state = loaded.paths.state.as_path();
    Context::runtime()?.block_on(async {
        let issuer = base.issuer().await?;
        match command {
            ClientCommand::Add(arguments) => {
                add(arguments, environment, (&issuer, &loaded.config), &actor, context).await
            }
            ClientCommand::List => {
                list(&issuer, &loaded.config, context);
                Ok(Exit::Done)
            }
            ClientCommand::Show { client } => show(&client, &issuer, &loaded.config, context),
            ClientCommand::RotateSecret(arguments) => rotate(&arguments, (&issuer, state), &actor, context).await,
            ClientCommand::Bind(BindArgs { client, environment }) => {
                let of = |name: &CredentialName| environment_of(&loaded.config, name);
                let record = issuer.set_environment(&client, &environment, &of, &actor).await?;
                seen_by_all(state).await;
                Ok(told(&record, &format!("a client of {environment}"), context))
            }
            ClientCommand::Edit(EditArgs { client, token_binding }) => {
                let binding = binding_of(&token_binding)?;
                let record = issuer.set_token_binding(&client, binding, &actor).await?;
                seen_by_all(state).await;
                warn_of_binding(&record, &loaded.config, context);
                let done = match binding {
                    TokenBinding::None => "issued tokens that need no proof",
                    TokenBinding::Certificate => "issued tokens that are bound to its client certificate",
                    TokenBinding::Dpop => "issued tokens that are bound to its key",
                };
                Ok(told(&record, done, context))
            }
            ClientCommand::Disable { client } => {
                let record = issuer.set_enabled(&client, false, &actor).await?;
                seen_by_all(state).await;
                Ok(told(&record, "disabled: its logins and calls are refused", context))
            }
            ClientCommand::Enable { client } => {
                let record = issuer.set_enabled(&client, true, &actor).await?;
                seen_by_all(state).await;
                Ok(told(&record, "enabled", context))
            }
            ClientCommand::Rm(arguments) => remove(&arguments, (&issuer, state), &actor, context).await,
        }
    })
}

/// The environment of the new client: its credential's, which has to be asked for if it is production. A credential
/// that the configuration does not have would refuse every call later, with less help.
fn check_credential(arguments: &AddArgs, loaded: &Loaded) -> Result<Option<EnvironmentName>, Failure> {
    let Some(wanted) = &arguments.credential else {
        return match &arguments.environment {
            Some(_) => Err(Failure::usage("--environment is the environment of a --credential, and none is given")),
            None => Ok(None),
        };
    };
    let known = &loaded.config.credentials;
    if known.contains_key(wanted) {
        let own = environment_of(&loaded.config, wanted);
        environment::permit(own.as_ref(), arguments.environment.as_ref()).map_err(|refused| {
            let failure = Failure::of(Code::ENVIRONMENT_REFUSED, &refused).exiting(Exit::Usage);
            match &own {
                Some(own) => failure.hint(format!("add --environment {own}, if that is what you mean")),
                None => failure.hint(format!("[credential.{wanted}] has no environment: leave --environment out")),
            }
        })?;
        return Ok(own);
    }
    let failure = Failure::usage(format!("{} has no credential {wanted}", loaded.file_name()));
    Err(match nearest(wanted.as_str(), known.keys().map(CredentialName::as_str)) {
        Some(similar) => failure.hint(format!("did you mean {similar}?")),
        None => failure.hint(format!("add [credential.{wanted}] to the configuration first")),
    })
}

async fn add(
    arguments: AddArgs,
    environment: Option<EnvironmentName>,
    (issuer, config): (&Arc<Issuer>, &Config),
    actor: &str,
    context: &Context,
) -> Result<Exit, Failure> {
    let callless = arguments.allow.is_empty() && !arguments.allow_all;
    let format: TokenFormat = arguments.token_format.parse().map_err(|error: &str| Failure::usage(error))?;
    let new = NewClient {
        name: arguments.name,
        credential: arguments.credential,
        environment,
        scopes: arguments.scopes,
        tokens: NewTokens {
            format,
            audience: arguments.audience,
            may_introspect: arguments.introspect,
            binding: binding_of(&arguments.token_binding)?,
        },
        allow: arguments.allow.into_iter().map(AllowRule).collect(),
        allow_all: arguments.allow_all,
        allow_secret_operations: arguments.allow_secret_operations,
        ttl: arguments.ttl,
    };
    let (record, secret) = issuer.add_client(new, actor).await?;
    issued(&record, &secret, "added", context)?;
    let terminal = &context.terminal;
    let own_api = record.token_format == TokenFormat::Jwt;
    warn_of_binding(&record, config, context);
    if own_api && config.token_endpoint.issuer.is_none() {
        terminal
            .warn("keyholder.toml has no [token_endpoint] issuer: until it has one, this client's logins are refused");
    }
    // one that introspects asks about tokens, and calls nothing
    let calls = !own_api && !record.may_introspect;
    if calls && record.credential.is_none() {
        terminal.warn("it has no --credential, so it may call no platform");
    } else if calls && callless {
        terminal.warn("without --allow or --allow-all it may call nothing on the platform");
    }
    if record.allow_secret_operations {
        terminal.warn("it may call operations that return or change the platform's own secrets");
    }
    if record.credential.is_some() && arguments.ttl.is_some_and(|ttl| ttl < TTL_RISKY) {
        terminal.warn("official SDKs do not log in again by themselves when their token ends: a short --ttl needs an application that does");
    }
    Ok(Exit::Done)
}

fn binding_of(text: &str) -> Result<TokenBinding, Failure> {
    text.parse().map_err(|error: &str| Failure::usage(error))
}

/// A certificate that no listener asks for is never there.
fn warn_of_binding(record: &ClientRecord, config: &Config, context: &Context) {
    let asked = config.gateway.tls.as_ref().is_some_and(|tls| tls.clients.client_ca.is_some());
    if record.token_binding == TokenBinding::Certificate && !asked {
        let text =
            "keyholder.toml has no client_ca in [gateway.tls]: until it has one, this client's logins are refused";
        context.terminal.warn(text);
    }
}

/// Shows the secret, the one time that it can be shown. Whoever went away before that has none.
fn issued(record: &ClientRecord, secret: &SecretString, done: &str, context: &Context) -> Result<(), Failure> {
    let mut answer = as_json(record);
    if let Some(object) = answer.as_object_mut() {
        object.insert("client_secret".to_owned(), Value::String(secret.expose().to_owned()));
    }
    context.terminal.answer(&answer, || {
        format!(
            "{} is {done}\nclient_id      {}\nclient_secret  {}\n\nThe secret is not shown again.\n",
            record.name,
            record.id,
            secret.expose()
        )
    });
    let Some(error) = context.terminal.lost() else { return Ok(()) };
    Err(Failure::unwritten(error).hint(format!(
        "{} is {done}, and nobody saw its secret: `keyholder client rotate-secret {}` makes another",
        record.name, record.name
    )))
}

async fn rotate(
    arguments: &RotateArgs,
    (issuer, state): (&Arc<Issuer>, &Path),
    actor: &str,
    context: &Context,
) -> Result<Exit, Failure> {
    let overlap = arguments.overlap.map_or(SecretOverlap::None, SecretOverlap::For);
    let (record, secret) = issuer.rotate_secret(&arguments.client, overlap, actor).await?;
    // first of all: whatever ends this command now, the secret is told
    issued(&record, &secret, "on a new secret", context)?;
    seen_by_all(state).await;
    if arguments.overlap.is_none() {
        context.terminal.note("The old secret works no more; tokens that were issued stay valid until they expire.");
    }
    Ok(Exit::Done)
}

async fn remove(
    arguments: &RmArgs,
    (issuer, state): (&Arc<Issuer>, &Path),
    actor: &str,
    context: &Context,
) -> Result<Exit, Failure> {
    if !arguments.yes && !confirm(&format!("Remove the client {} with its tokens?", arguments.client), context)? {
        return Err(Failure::usage("nothing was removed").exiting(Exit::No));
    }
    let record = issuer.remove_client(&arguments.client, actor).await?;
    seen_by_all(state).await;
    let answer = json!({ "client_id": record.id, "name": record.name, "removed": true });
    context.terminal.answer(&answer, || format!("{} is removed\n", record.name));
    Ok(Exit::Done)
}

fn told(record: &ClientRecord, done: &str, context: &Context) -> Exit {
    context.terminal.answer(&as_json(record), || format!("{} is {done}\n", record.name));
    Exit::Done
}

fn as_json(record: &ClientRecord) -> Value {
    json!({
        "client_id": record.id,
        "name": record.name,
        "credential": record.credential,
        "environment": record.environment,
        "scopes": record.scopes,
        "token_format": record.token_format,
        "audience": record.audience,
        "may_introspect": record.may_introspect,
        "token_binding": record.token_binding,
        "allow": record.allow,
        "allow_all": record.allow_all,
        "allow_secret_operations": record.allow_secret_operations,
        "token_ttl_s": record.token_ttl_s,
        "enabled": record.enabled,
        "created_at": time(record.created_at),
        "updated_at": time(record.updated_at),
    })
}

/// What sets its tokens apart, a line each.
fn tokens(record: &ClientRecord) -> String {
    let format = (record.token_format == TokenFormat::Jwt).then(|| "tokens      JWT\n".to_owned());
    let lists = [("audience", &record.audience), ("scopes", &record.scopes)];
    let lists = lists.into_iter().filter(|(_, values)| !values.is_empty());
    let lists = lists.map(|(name, values)| format!("{name:<12}{}\n", values.join(" ")));
    let introspects = record.may_introspect.then(|| "introspects tokens\n".to_owned());
    let bound = match record.token_binding {
        TokenBinding::None => None,
        TokenBinding::Certificate => Some("bound to    its client certificate\n".to_owned()),
        TokenBinding::Dpop => Some("bound to    its key (DPoP)\n".to_owned()),
    };
    format.into_iter().chain(bound).chain(lists).chain(introspects).collect()
}

/// What it may call, in a few words.
fn allowed(record: &ClientRecord) -> String {
    let calls = match (record.allow_all, record.allow.len()) {
        (true, _) => "everything".to_owned(),
        (false, 0) => "nothing".to_owned(),
        (false, 1) => record.allow.iter().map(|rule| rule.0.clone()).collect(),
        (false, rules) => format!("{rules} rules"),
    };
    if record.allow_secret_operations { format!("{calls}, secret operations") } else { calls }
}

/// As [`as_json`], with why its logins and calls are refused, if they are.
fn judged(record: &ClientRecord, config: &Config) -> Value {
    let mut answer = as_json(record);
    if let (Some(object), Err(refused)) = (answer.as_object_mut(), client_fits(config, record)) {
        object.insert("refused".to_owned(), json!({ "code": refused.code(), "detail": refused.to_string() }));
    }
    answer
}

/// Whether it may log in and call, in one word.
fn state(record: &ClientRecord, config: &Config) -> &'static str {
    match (record.enabled, client_fits(config, record)) {
        (false, _) => "disabled",
        (true, Err(_)) => "refused",
        (true, Ok(())) => "enabled",
    }
}

fn list(issuer: &Arc<Issuer>, config: &Config, context: &Context) {
    let clients = issuer.clients();
    let all: Vec<_> = clients.iter().map(|client| judged(&client.record, config)).collect();
    context.terminal.answer(&json!({ "clients": all }), || {
        if clients.is_empty() {
            return "there are no clients yet; `keyholder client add NAME` adds one\n".to_owned();
        }
        let mut table = Table::new(&["name", "client id", "credential", "environment", "may call", "state"]);
        for client in &clients {
            let record = &client.record;
            table.row(vec![
                record.name.to_string(),
                record.id.to_string(),
                record.credential.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                record.environment.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                allowed(record),
                state(record, config).to_owned(),
            ]);
        }
        table.text()
    });
}

fn show(client: &str, issuer: &Arc<Issuer>, config: &Config, context: &Context) -> Result<Exit, Failure> {
    let found = issuer.client(client).ok_or_else(|| {
        Failure::new(Code::NOT_FOUND, format!("there is no client {client:?}"))
            .hint("`keyholder client list` shows the names")
    })?;
    let record = &found.record;
    context.terminal.answer(&judged(record, config), || {
        let rules: Vec<_> = record.allow.iter().map(|rule| format!("  {}\n", rule.0)).collect();
        let rules = rules.concat();
        let tokens = tokens(record);
        format!(
            "name        {}\nclient id   {}\nstate       {}\ncredential  {}\nenvironment {}\ntoken life  {}\nadded       {}\nmay call    {}\n{rules}{tokens}",
            record.name,
            record.id,
            state(record, config),
            record.credential.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string),
            record.environment.as_ref().map_or_else(|| "none yet".to_owned(), ToString::to_string),
            duration::format(Duration::from_secs(record.token_ttl_s)),
            time(record.created_at),
            allowed(record),
        )
    });
    if let Err(refused) = client_fits(config, record) {
        context.terminal.warn(&format!("its logins and calls are refused: {refused}"));
    }
    Ok(Exit::Done)
}
