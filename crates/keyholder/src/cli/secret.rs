//! `keyholder secret`: what is in the secret store, and putting things there.
//!
//! Invariant: a value comes from a prompt, standard input, a file or another store, never from the command line, and
//! leaves for another store alone.

mod copy;
pub(in crate::cli) mod input;
mod report;

use std::{path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use kh_core::{
    Code, PlatformKind, SecretBytes, SecretName, SecretString, UnixMillis,
    audit::AuditEvent,
    credential::CredentialDocument,
    port::{Expected, SecretMetadata, SecretStore},
};

use super::{Context, Loaded, QUIET};
use crate::{
    compose::{Base, harden},
    config::{CxoneLoginConfig, PlatformDetail},
    output::{Exit, Failure, Table},
};

/// Keep platform secrets in the encrypted store
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  keyholder secret set acme-prod --client-id 0e84...            prompts for the client secret
  keyholder secret set acme-prod < document.json                {\"client_id\":\"...\",\"client_secret\":\"...\"}
  keyholder secret set acme-prod --file document.json --expect-version 3
  keyholder secret list")]
pub(crate) enum SecretCommand {
    Set(SetArgs),
    /// List all secrets: names and versions, never values
    List,
    /// Show one secret's versions, never its value
    ShowMetadata {
        /// The secret's name
        name: SecretName,
    },
    Rm(RmArgs),
    Copy(copy::CopyArgs),
    Report(report::ReportArgs),
    Fingerprint(FingerprintArgs),
}

/// Name a secret without telling it, as findings and the audit log do
#[derive(Debug, Args)]
#[command(
    after_help = "Reads one secret from a prompt, standard input or a file, and prints its keyed fingerprint: equal for equal
secrets of this installation, and of no use to anybody else. With --finding it prints a whole findings
file, for `keyholder rotate now --from-finding`.

Examples:
  keyholder secret fingerprint
  pbpaste | keyholder secret fingerprint --finding wiki-1 > leak.json
  keyholder rotate now --from-finding leak.json#wiki-1"
)]
pub(crate) struct FingerprintArgs {
    /// Read the secret from this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print a findings file with this one finding
    #[arg(long, value_name = "ID")]
    finding: Option<String>,
}

/// Store a new version of a secret, read from a prompt, standard input or a file
#[derive(Debug, Args)]
#[command(after_help = "The value is a JSON document with the fields client_id, client_secret, access_key_id,
access_key_secret and refresh_token, as the platform needs them. With --client-id or --access-key-id
it is the secret that belongs to that id.

Examples:
  keyholder secret set acme-prod --client-id 0e8400e2-29b4-41d4-a716-446655440000
  vault kv get -format=json -field=data acme | keyholder secret set acme-prod
  keyholder secret set acme-cxone --file cxone.json --expect-version absent")]
pub(crate) struct SetArgs {
    /// The secret's name, as in secret = \"store:NAME\"
    name: SecretName,
    /// Read the value from this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The client id of the document; only its secret is read
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The CXone access key id of the document; only its secret is read
    #[arg(long, value_name = "ID")]
    access_key_id: Option<String>,
    /// Refuse unless the newest version is this number, or `absent`
    #[arg(long, value_name = "N|absent", value_parser = parse_expected)]
    expect_version: Option<Expected>,
    /// Store a value that is no credential document
    #[arg(long)]
    opaque: bool,
    /// Catches a secret typed as an argument, so that it is refused without being repeated.
    #[arg(hide = true)]
    surplus: Vec<std::ffi::OsString>,
}

/// Remove a secret with all its versions
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keyholder secret rm acme-old\n  keyholder secret rm acme-old --yes --expect-version 4"
)]
pub(crate) struct RmArgs {
    /// The secret's name
    name: SecretName,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Refuse unless the newest version is this number
    #[arg(long, value_name = "N", value_parser = parse_expected)]
    expect_version: Option<Expected>,
}

fn parse_expected(text: &str) -> Result<Expected, String> {
    match text {
        "absent" => Ok(Expected::Absent),
        number => match number.parse::<u64>() {
            Ok(version) if version > 0 => Ok(Expected::Version(version)),
            _ => Err("give a version number from 1, or `absent`".to_owned()),
        },
    }
}

/// How a secret comes in.
pub(super) const WAY_IN: &str = "pipe it into the command, or use --file, or let keyholder prompt for it";

pub(super) fn run(command: SecretCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    let loaded = context.load()?;
    context.start_logging_at(QUIET)?;
    let runtime = Context::runtime()?;
    match command {
        SecretCommand::Set(arguments) => {
            let document = document(&arguments, &loaded, context)?;
            let base = Base::open(&loaded, &context.environment)?;
            runtime.block_on(set(&arguments, document, &base, context))
        }
        SecretCommand::List => {
            let base = Base::open_existing(&loaded, &context.environment)?;
            runtime.block_on(list(&base, context))
        }
        SecretCommand::ShowMetadata { name } => {
            let base = Base::open_existing(&loaded, &context.environment)?;
            runtime.block_on(show(&name, &base, context))
        }
        SecretCommand::Copy(arguments) => {
            let base = Base::open(&loaded, &context.environment)?;
            runtime.block_on(copy::run(&arguments, &loaded, &base, context))
        }
        SecretCommand::Report(arguments) => {
            let base = Base::open(&loaded, &context.environment)?;
            runtime.block_on(report::run(&arguments, &loaded, &base, context))
        }
        SecretCommand::Fingerprint(arguments) => {
            let secret = match (&arguments.file, context.environment.stdin_is_terminal) {
                (None, true) => input::prompt("Secret (hidden): ")?,
                (file, _) => input::line(input::raw(file.as_deref())?)?,
            };
            let base = Base::open_existing(&loaded, &context.environment)?;
            Ok(fingerprint(&arguments, &secret, &base, context))
        }
        SecretCommand::Rm(arguments) => {
            let base = Base::open_existing(&loaded, &context.environment)?;
            runtime.block_on(remove(&arguments, &loaded, &base, context))
        }
    }
}

/// The value, read and checked before the store is opened.
fn document(arguments: &SetArgs, loaded: &Loaded, context: &Context) -> Result<SecretBytes, Failure> {
    if !arguments.surplus.is_empty() {
        return Err(super::secret_argument(WAY_IN));
    }
    let value = input::read(arguments, context)?;
    if arguments.opaque {
        return Ok(value);
    }
    let document = CredentialDocument::parse(&value).map_err(|error| {
        Failure::new(Code::USAGE, "the value is not a credential document")
            .caused_by(&error)
            .hint(
                "write {\"client_id\":\"...\",\"client_secret\":\"...\"}, or use --client-id and give the secret alone",
            )
            .hint("--opaque stores any other value")
    })?;
    if let Some((name, missing)) = missing_fields(&arguments.name, &document, loaded).next() {
        return Err(Failure::usage(format!("the document lacks {missing}, which the credential {name} needs"))
            .hint("see `keyholder secret set --help` for the fields"));
    }
    Ok(value)
}

/// What configured credentials need and this document does not have.
fn missing_fields<'a>(
    secret: &'a SecretName,
    document: &'a CredentialDocument,
    loaded: &'a Loaded,
) -> impl Iterator<Item = (&'a kh_core::CredentialName, &'static str)> {
    let users =
        loaded.config.credentials.iter().filter(move |(_, credential)| credential.secret.embedded() == Some(secret));
    users.filter_map(move |(name, credential)| {
        let platform = loaded.config.platforms.get(&credential.platform)?;
        let client = [("client_id", document.client_id.is_some()), ("client_secret", document.client_secret.is_some())];
        let key = [
            ("access_key_id", document.access_key_id.is_some()),
            ("access_key_secret", document.access_key_secret.is_some()),
        ];
        let regional =
            matches!(platform.detail, PlatformDetail::Cxone { login: CxoneLoginConfig::Regional { .. }, .. });
        let needed: Vec<_> = match platform.kind() {
            PlatformKind::Genesys | PlatformKind::Oauth2 => client.to_vec(),
            PlatformKind::Cxone if regional => key.to_vec(),
            PlatformKind::Cxone => [client, key].concat(),
        };
        let (field, _) = needed.into_iter().find(|(_, present)| !present)?;
        Some((name, field))
    })
}

async fn set(arguments: &SetArgs, value: SecretBytes, base: &Base, context: &Context) -> Result<Exit, Failure> {
    let now = base.clock.now().wall;
    let fingerprint = base.fingerprinter.fingerprint(value.expose());
    let event =
        AuditEvent::new(&*base.entropy, now, &context.environment.actor(), "secret.set", arguments.name.as_str())
            .with("fingerprint", &fingerprint);
    let expected = arguments.expect_version.unwrap_or(Expected::Any);
    let version = base.store.put(&arguments.name, value, expected, event).await?;
    let answer = serde_json::json!({
        "name": arguments.name, "version": version, "fingerprint": fingerprint.as_str(),
    });
    context.terminal.answer(&answer, || format!("{} is now at version {version}\n", arguments.name));
    Ok(Exit::Done)
}

fn fingerprint(arguments: &FingerprintArgs, secret: &SecretString, base: &Base, context: &Context) -> Exit {
    let fingerprint = base.fingerprinter.fingerprint(secret.expose().as_bytes());
    let key = super::rotate::finding::key_name(&base.fingerprinter);
    if let Some(id) = &arguments.finding {
        let file = super::rotate::finding::file(&key, id, &fingerprint);
        context.terminal.out(&format!("{file}\n"));
        return Exit::Done;
    }
    let answer = serde_json::json!({ "fingerprint": fingerprint, "fingerprint_key": key });
    context.terminal.answer(&answer, || format!("{fingerprint}\n"));
    Exit::Done
}

fn as_json(secret: &SecretMetadata) -> serde_json::Value {
    let newest = secret.versions.last();
    serde_json::json!({
        "name": secret.name,
        "version": newest.map(|version| version.version),
        "created_at": newest.map(|version| time(version.created_at)),
        "created_by": newest.map(|version| version.created_by.clone()),
        "versions": secret.versions.iter().map(|version| serde_json::json!({
            "version": version.version,
            "created_at": time(version.created_at),
            "created_by": version.created_by,
            "size": version.size,
        })).collect::<Vec<_>>(),
        "damaged": secret.damaged,
    })
}

/// Wall time in RFC 3339 form, UTC.
pub(super) fn time(at: UnixMillis) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| format!("{at:?}"), |time| format!("{time:.0}"))
}

/// Says which versions cannot be trusted; the answer is then `no`.
fn tell_damage(secrets: &[SecretMetadata], context: &Context) -> Exit {
    let mut exit = Exit::Done;
    for secret in secrets {
        for version in &secret.damaged {
            exit = Exit::No;
            let name = &secret.name;
            context.terminal.warn(&format!(
                "version {version} of {name} is damaged and cannot be read; `keyholder store check` says more"
            ));
        }
    }
    exit
}

async fn list(base: &Base, context: &Context) -> Result<Exit, Failure> {
    let secrets = base.store.list().await?;
    let json: Vec<_> = secrets.iter().map(as_json).collect();
    context.terminal.answer(&serde_json::json!({ "secrets": json }), || {
        let mut table = Table::new(&["name", "version", "written", "by"]);
        for secret in &secrets {
            let newest = secret.versions.last();
            let cell = |of: fn(&kh_core::port::VersionMetadata) -> String| newest.map(of).unwrap_or_default();
            table.row(vec![
                secret.name.to_string(),
                cell(|version| version.version.to_string()),
                cell(|version| time(version.created_at)),
                cell(|version| version.created_by.clone()),
            ]);
        }
        if secrets.is_empty() {
            "there are no secrets yet; `keyholder secret set NAME` adds one\n".to_owned()
        } else {
            table.text()
        }
    });
    Ok(tell_damage(&secrets, context))
}

async fn find(name: &SecretName, store: &Arc<kh_store::FileStore>) -> Result<SecretMetadata, Failure> {
    let all = store.list().await?;
    all.into_iter()
        .find(|secret| secret.name == *name)
        .ok_or_else(|| kh_core::port::StoreError::NotFound(name.clone()).into())
}

async fn show(name: &SecretName, base: &Base, context: &Context) -> Result<Exit, Failure> {
    let secret = find(name, &base.store).await?;
    context.terminal.answer(&as_json(&secret), || {
        let mut table = Table::new(&["version", "written", "by", "bytes"]);
        for version in secret.versions.iter().rev() {
            table.row(vec![
                version.version.to_string(),
                time(version.created_at),
                version.created_by.clone(),
                version.size.to_string(),
            ]);
        }
        format!("{name}\n\n{}", table.text())
    });
    Ok(tell_damage(std::slice::from_ref(&secret), context))
}

async fn remove(arguments: &RmArgs, loaded: &Loaded, base: &Base, context: &Context) -> Result<Exit, Failure> {
    let secret = find(&arguments.name, &base.store).await?;
    let users: Vec<_> = loaded
        .config
        .credentials
        .iter()
        .filter(|(_, credential)| credential.secret.embedded() == Some(&arguments.name))
        .map(|(name, _)| name.to_string())
        .collect();
    if !users.is_empty() {
        context.terminal.warn(&format!("still used by the credential {}", users.join(", ")));
    }
    if !arguments.yes {
        let question = format!("Remove {} with {} versions for good?", arguments.name, secret.versions.len());
        if !input::confirm(&question, context)? {
            return Err(Failure::new(Code::USAGE, "nothing was removed").exiting(Exit::No));
        }
    }
    let now = base.clock.now().wall;
    let event =
        AuditEvent::new(&*base.entropy, now, &context.environment.actor(), "secret.rm", arguments.name.as_str());
    base.store.remove(&arguments.name, arguments.expect_version.unwrap_or(Expected::Any), event).await?;
    context.terminal.answer(&serde_json::json!({ "name": arguments.name, "removed": true }), || {
        format!("{} is removed\n", arguments.name)
    });
    Ok(Exit::Done)
}
