//! `keyholder init`: the first configuration, with its secret stored and its first client added.
//!
//! Invariants: no argument is a secret; nothing is written before everything is known and agreed to; the configuration
//! appears whole, last, and never over another one; after the agreement Ctrl-C waits until everything is written.

mod dialogue;
mod document;
mod files;
mod plan;
mod region;
mod report;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use kh_core::{
    Code, SecretBytes, SecretString,
    audit::AuditEvent,
    port::{AllowRule, ClientRecord, Expected, SecretStore},
};
use kh_issuer::{NewClient, NewTokens};

use super::{Context, Loaded, QUIET, serve::StopSignal};
use crate::{
    compose::{Base, harden},
    config,
    output::{Exit, Failure},
};
use dialogue::Dialogue;
use files::Staged;
use plan::Plan;

/// Write a first configuration, store its secret and add a first client
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(
    after_help = "At a terminal it asks for what no flag says, shows what it will do and asks once more. With --yes, or
without a terminal, it asks nothing. The platform's secret comes from a prompt without echo, from
standard input or from a file, and goes straight into the encrypted store. An existing configuration
is never overwritten; --force keeps it as keyholder.toml.bak.

Examples:
  keyholder init
  keyholder init --platform genesys --region Frankfurt --credential acme-prod
  keyholder init --yes --platform genesys --region eu-central-1 --credential acme-prod \\
      --environment production --client-id 0e8400e2-29b4-41d4-a716-446655440000 \\
      --secret-file /run/secrets/acme --client billing --allow 'GET /api/v2/users/**'
  keyholder init --yes --platform cxone --area na1 --access-key-id KEYID --secret-stdin < secret
  keyholder init --yes --login-url http://127.0.0.1:9000 --client-id ID --secret-file sandbox.secret"
)]
pub(crate) struct InitArgs {
    /// What the platform is [default: genesys]
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Platform")]
    platform: Option<Kind>,
    /// Genesys Cloud: the region, by AWS name, domain, address or place, such as Frankfurt
    #[arg(long, value_name = "REGION", help_heading = "Platform")]
    region: Option<String>,
    /// Genesys Cloud: base of logins instead of a region's, such as the sandbox's
    #[arg(long, value_name = "URL", help_heading = "Platform")]
    login_url: Option<String>,
    /// Base of API calls; for Genesys Cloud without it the region's, or --login-url
    #[arg(long, value_name = "URL", help_heading = "Platform")]
    api_url: Option<String>,
    /// CXone: the global issuer; oauth2: the issuer with RFC 8414 metadata
    #[arg(long, value_name = "URL", help_heading = "Platform")]
    issuer: Option<String>,
    /// CXone: the area of a regional login with the access key alone, such as na1
    #[arg(long, value_name = "AREA", help_heading = "Platform", conflicts_with = "issuer")]
    area: Option<String>,
    /// oauth2: the token endpoint
    #[arg(long, value_name = "URL", help_heading = "Platform", conflicts_with = "issuer")]
    token_url: Option<String>,
    /// oauth2: a scope to ask for
    #[arg(long = "scope", value_name = "SCOPE", help_heading = "Platform")]
    scopes: Vec<String>,
    /// The name of the platform's section [default: the kind]
    #[arg(long, value_name = "NAME", help_heading = "Platform")]
    platform_name: Option<String>,
    /// The credential's name [default: the platform's name and -prod]
    #[arg(long, value_name = "NAME", help_heading = "Credential")]
    credential: Option<String>,
    /// The credential's environment [default: what its name ends in, such as production]
    #[arg(long, value_name = "NAME", help_heading = "Credential")]
    environment: Option<String>,
    /// The id of the platform's OAuth client or application
    #[arg(long, value_name = "ID", help_heading = "Credential")]
    client_id: Option<String>,
    /// CXone: the id of the access key
    #[arg(long, value_name = "ID", help_heading = "Credential")]
    access_key_id: Option<String>,
    /// Read the secret, or the whole JSON document, from standard input
    #[arg(long, help_heading = "Credential", conflicts_with_all = ["secret_file", "secret_later"])]
    secret_stdin: bool,
    /// Read the secret, or the whole JSON document, from this file
    #[arg(long, value_name = "FILE", help_heading = "Credential", conflicts_with = "secret_later")]
    secret_file: Option<PathBuf>,
    /// Store no secret now
    #[arg(long, help_heading = "Credential")]
    secret_later: bool,
    /// Add a first client, an application that may log in at keyholder
    #[arg(long, value_name = "NAME", help_heading = "Client")]
    client: Option<String>,
    /// A call that this client may make, such as 'GET /api/v2/users/**'
    #[arg(long, value_name = "RULE", help_heading = "Client", requires = "client")]
    allow: Vec<String>,
    /// Let this client make every call but the guarded ones
    #[arg(long, help_heading = "Client", requires = "client")]
    allow_all: bool,
    /// Where the gateway listens; admin and broker take the next two ports [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Replace an existing configuration, keeping it as a backup, and a secret of the same name
    #[arg(long)]
    force: bool,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
    /// Catches a secret typed as an argument, so that it is refused without being repeated.
    #[arg(hide = true)]
    surplus: Vec<std::ffi::OsString>,
}

/// The kinds of platforms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// Genesys Cloud CX
    Genesys,
    /// NICE CXone
    Cxone,
    /// Any issuer of RFC 6749
    Oauth2,
}

/// The name of the file where nobody names another.
const FILE_NAME: &str = "keyholder.toml";

pub(super) fn run(arguments: &InitArgs, context: &Context) -> Result<Exit, Failure> {
    harden();
    context.start_logging_at(QUIET)?;
    if !arguments.surplus.is_empty() {
        return Err(Failure::usage("init takes no argument but flags; a secret must not stand on the command line")
            .hint("let keyholder prompt for it, or use --secret-stdin or --secret-file")
            .hint("rotate the secret if it was a real one: it may be in your shell's history"));
    }
    let named = context.globals.config.clone().or_else(|| context.environment.path("KEYHOLDER_CONFIG"));
    let file = named.unwrap_or_else(|| PathBuf::from(FILE_NAME));
    let target = context.environment.folder.join(&file);
    refuse_existing(&target, &file, arguments.force)?;
    let mut dialogue = Dialogue::new(context, !arguments.yes && !arguments.secret_stdin);
    let plan = plan::make(arguments, &mut dialogue)?;
    let text = document::write(&plan, state_line(context, &target).as_deref());
    let loaded = context.load_draft(&target, text.as_bytes())?;
    let document = plan::secret(arguments, &plan)?;
    if !loaded.warnings.all.is_empty() {
        let report = config::render(&file.display().to_string(), &loaded.warnings, context.terminal.colors_errors());
        context.terminal.note(report.trim_end());
    }
    dialogue.say(&report::summary(&plan, &loaded, document.is_some()));
    if dialogue.asks() && !dialogue.agrees("Write it?")? {
        return Err(Failure::new(Code::USAGE, "nothing was written").exiting(Exit::No));
    }
    let done = Context::runtime()?.block_on(async {
        // From here on Ctrl-C and SIGTERM wait: the rest takes no time, and half of it would be of no use.
        let _signals = StopSignal::new()?;
        carry_out(&plan, &loaded, document, &text, arguments.force, context).await
    })?;
    report::answer(&plan, &loaded, &file, &done, context);
    Ok(Exit::Done)
}

/// Told before anything is asked, so that nobody answers in vain.
fn refuse_existing(target: &std::path::Path, file: &std::path::Path, force: bool) -> Result<(), Failure> {
    let there = target.symlink_metadata().is_ok();
    if !there || force {
        return Ok(());
    }
    Err(Failure::usage(format!("{} is there already", file.display()))
        .hint("--force replaces it and keeps it as a backup")
        .hint("--config FILE writes another one"))
}

/// `[state] dir`, where the file must say it: the folder was named for this command, or there is no home folder.
fn state_line(context: &Context, target: &std::path::Path) -> Option<String> {
    let environment = &context.environment;
    if let Some(given) = &context.globals.state {
        let beside = target.parent() == Some(environment.folder.as_path());
        let path = if beside { given.clone() } else { environment.folder.join(given) };
        return Some(path.display().to_string());
    }
    let found = environment.path("KEYHOLDER_STATE").or_else(|| environment.xdg("XDG_STATE_HOME", ".local/state"));
    found.is_none().then(|| "state".to_owned())
}

/// What was done.
struct Done {
    secret_version: Option<u64>,
    client: Option<(ClientRecord, SecretString)>,
    backup: Option<PathBuf>,
    schema: Option<PathBuf>,
}

async fn carry_out(
    plan: &Plan,
    loaded: &Loaded,
    document: Option<SecretBytes>,
    text: &str,
    force: bool,
    context: &Context,
) -> Result<Done, Failure> {
    let target = loaded.file.clone().unwrap_or_default();
    // Staged first: a folder that cannot be written is found before a secret is stored.
    let staged = Staged::new(&target, text)?;
    let base = Base::open(loaded, &context.environment)?;
    let issuer = base.issuer().await?;
    let secret = &plan.secret;
    if let Some(client) = plan.client.as_ref().filter(|client| issuer.client(client.name.as_str()).is_some()) {
        return Err(Failure::usage(format!(
            "there is a client {} in {} already",
            client.name,
            loaded.paths.state.display()
        ))
        .hint("choose another name with --client, or another state folder with --state"));
    }
    let known = base.store.list().await?.iter().any(|found| found.name == *secret);
    if known && document.is_some() && !force {
        return Err(Failure::usage(format!("the secret {secret} is in {} already", loaded.paths.store.display()))
            .hint("--secret-later keeps it, --force stores a new version of it")
            .hint("or choose another name with --credential, or another state folder with --state"));
    }
    let actor = context.environment.actor();
    let mut secret_version = None;
    if let Some(document) = document {
        let fingerprint = base.fingerprinter.fingerprint(document.expose());
        let now = base.clock.now().wall;
        let event = AuditEvent::new(&*base.entropy, now, &actor, "secret.set", secret.as_str())
            .with("fingerprint", &fingerprint);
        let expected = if known { Expected::Any } else { Expected::Absent };
        secret_version = Some(base.store.put(secret, document, expected, event).await?);
    }
    let client = match &plan.client {
        Some(client) => Some(issuer.add_client(new_client(plan, client), &actor).await?),
        None => None,
    };
    let published = match staged.publish(force) {
        Ok(published) => published,
        Err(mut failure) => {
            let state = loaded.paths.state.display();
            // its secret was never shown
            if let Some((record, _)) = &client
                && issuer.remove_client(record.name.as_str(), &actor).await.is_err()
            {
                failure = failure.hint(format!("keyholder --state {state} client rm {}", record.name));
            }
            return Err(failure.hint(format!("the store in {state} is made already; run init again with --force")));
        }
    };
    Ok(Done { secret_version, client, backup: published.backup, schema: published.schema })
}

fn new_client(plan: &Plan, client: &plan::FirstClient) -> NewClient {
    NewClient {
        name: client.name.clone(),
        credential: Some(plan.credential.clone()),
        environment: plan.environment.clone(),
        scopes: Vec::new(),
        tokens: NewTokens::default(),
        allow: client.allow.iter().cloned().map(AllowRule).collect(),
        allow_all: client.allow_all,
        allow_secret_operations: false,
        ttl: None,
    }
}
