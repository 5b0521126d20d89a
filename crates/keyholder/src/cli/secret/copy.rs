//! `keyholder secret copy`: a document from one store into another.
//!
//! Invariants: the value goes from store to store and nowhere else; the target's version is looked at before and
//! compared by the store when it is replaced; replacing a document that holds another credential takes `--force`, which
//! stands in the audit log.

use std::sync::Arc;

use clap::Args;
use kh_core::{
    Code, SecretReference, UnixMillis,
    audit::AuditEvent,
    credential::CredentialDocument,
    port::{AuditLog, SecretTarget, TargetError, secret_target::LiveSecret},
    rotation::{Marker, RunId, WriteToken},
};

use crate::{
    cli::{Context, Loaded},
    compose::{Base, Targets, embedded_target, target_of, targets},
    output::{Exit, Failure},
};

/// Copy a document from one store into another
#[derive(Debug, Args)]
#[command(
    after_help = "FROM and TO are store:NAME for the embedded store, or NAME:PATH with a [secret_store.NAME]. The document is
written beside the live one, read back, and then made live, if nobody wrote there meanwhile.

Exit 0: the document is there, now or before. Exit 1: something else is there.

Examples:
  keyholder secret copy store:acme-prod prod-vault:genesys/acme
  keyholder secret copy prod-vault:genesys/acme prod-aws:acme/genesys --force"
)]
pub(crate) struct CopyArgs {
    /// Where the document is
    from: SecretReference,
    /// Where it goes
    to: SecretReference,
    /// Replace what is there, although it is another document
    #[arg(long)]
    force: bool,
}

fn store_failure(reference: &SecretReference, error: &TargetError) -> Failure {
    Failure::of(error.code(), error).hint(format!("the place is {reference}"))
}

fn target(
    reference: &SecretReference,
    targets: &Targets,
    embedded: &Arc<dyn SecretTarget>,
) -> Result<Arc<dyn SecretTarget>, Failure> {
    target_of(reference, targets, embedded).ok_or_else(|| {
        Failure::usage(format!("there is no secret store for {reference}"))
            .hint("add the section [secret_store.NAME], or write store:NAME for the embedded one")
    })
}

pub(super) async fn run(
    arguments: &CopyArgs,
    loaded: &Loaded,
    base: &Base,
    context: &Context,
) -> Result<Exit, Failure> {
    let all = targets(loaded, &base.clock)?;
    let embedded = embedded_target(base);
    let CopyArgs { from, to, force } = arguments;
    if from == to {
        return Err(Failure::usage("FROM and TO are the same place"));
    }
    let (source, sink) = (target(from, &all, &embedded)?, target(to, &all, &embedded)?);
    let found = source.live(&from.path()).await.map_err(|error| store_failure(from, &error))?;
    let document = CredentialDocument::parse(&found.value).map_err(|error| {
        Failure::of(Code::CREDENTIAL_UNUSABLE, &error)
            .hint(format!("only documents of credentials are copied; see {from}"))
    })?;
    let before = match sink.live(&to.path()).await {
        Ok(live) => Some(live),
        Err(TargetError::NotFound(_)) => None,
        Err(error) => return Err(store_failure(to, &error)),
    };
    let same = before.as_ref().is_some_and(|live| holds(live, &document));
    if same {
        let version = before.as_ref().map(|live| live.version.to_string());
        return Ok(answer(arguments, false, version.as_deref(), context));
    }
    if before.is_some() && !force {
        return Err(Failure::new(Code::STORE_CONFLICT, format!("{to} holds another document"))
            .hint("--force replaces it, and says so in the audit log"));
    }
    let version = write(&document, &*sink, arguments, before.as_ref(), base, context).await?;
    Ok(answer(arguments, true, Some(&version), context))
}

/// Whether a store holds the same login.
fn holds(live: &LiveSecret, document: &CredentialDocument) -> bool {
    CredentialDocument::parse(&live.value).is_ok_and(|there| there.sha256() == document.sha256())
}

async fn write(
    document: &CredentialDocument,
    sink: &dyn SecretTarget,
    arguments: &CopyArgs,
    before: Option<&LiveSecret>,
    base: &Base,
    context: &Context,
) -> Result<String, Failure> {
    let (to, path) = (&arguments.to, arguments.to.path());
    let now = base.clock.now().wall;
    let mut random = [0; 10];
    base.entropy.fill(&mut random);
    let run = RunId(uuid::Builder::from_unix_timestamp_millis(now.0, &random).into_uuid());
    let token = WriteToken::of(run, to.store_name(), "copy");
    let mut copy = document.copied();
    copy.marker = Some(marker(document, run, token, now, base));
    let fingerprint = copy.marker.as_ref().map(|marker| marker.fingerprint.as_str().to_owned()).unwrap_or_default();
    // Before anything is written: a copy that nobody knows of is worse than an entry about one that failed.
    let event = AuditEvent::new(&*base.entropy, now, &context.environment.actor(), "secret.copy", &to.to_string())
        .with("from", &arguments.from.to_string())
        .with("fingerprint", &fingerprint)
        .with("write", &token)
        .with("forced", &(arguments.force && before.is_some()));
    base.audit.append(&[event]).map_err(|error| Failure::of(Code::STATE_UNAVAILABLE, &error))?;
    let json = copy.to_json();
    sink.stage(&path, token, &json).await.map_err(|error| store_failure(to, &error))?;
    let back = sink.staged(&path, token).await.map_err(|error| store_failure(to, &error))?;
    let whole = back.and_then(|back| CredentialDocument::parse(&back).ok());
    if whole.is_none_or(|back| back.sha256() != document.sha256()) {
        return Err(Failure::new(Code::STORE_UNAVAILABLE, format!("{to} did not give back what was written")));
    }
    let promoted = sink.promote(&path, token, before.map(|live| &live.version)).await;
    let version = match promoted {
        Ok(version) => version,
        Err(error) => {
            // what is left waiting is taken away where that can be done
            sink.unstage(&path, token).await.ok();
            return Err(store_failure(to, &error));
        }
    };
    Ok(version.to_string())
}

/// The marker of the copy: the same generation, since it is the same secret.
fn marker(document: &CredentialDocument, run: RunId, token: WriteToken, now: UnixMillis, base: &Base) -> Marker {
    let known = document.marker.as_ref();
    Marker {
        run,
        write: token,
        generation: known.map_or(1, |marker| marker.generation.max(1)),
        fingerprint: document.fingerprint(&base.fingerprinter),
        created_at: known.map_or(now, |marker| marker.created_at),
    }
}

fn answer(arguments: &CopyArgs, copied: bool, version: Option<&str>, context: &Context) -> Exit {
    let CopyArgs { from, to, .. } = arguments;
    let json = serde_json::json!({
        "from": from.to_string(), "to": to.to_string(), "copied": copied, "version": version,
    });
    context.terminal.answer(&json, || {
        if copied {
            format!("{to} is now at version {}\n", version.unwrap_or_default())
        } else {
            format!("{to} holds the document already\n")
        }
    });
    Exit::Done
}
