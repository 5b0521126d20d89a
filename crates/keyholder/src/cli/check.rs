//! `keyholder check`: the configuration's mistakes, and whether what it names is there.
//!
//! Invariants: changes nothing, and makes neither a store nor a log that is not there; a wrong secret is sent to the
//! platform at most once.

mod addresses;
mod certificate;
mod environments;
mod online;
mod snippet;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use certificate::Report;
use clap::Args;
use kh_core::{Code, CredentialName, SecretReference, port::SecretStore};
use serde::Serialize;

use super::{Context, Loaded, QUIET};
use crate::{
    compose::{
        Look, PreparedInbound, Senders, broken_authorities, broken_logs, broken_security, broken_stores,
        broken_telemetry, broken_ways, harden,
    },
    config::{self, CollectorToken, Config, KeySource},
    output::{Exit, Failure},
};

/// Check the configuration and what it names
#[derive(Debug, Args)]
#[command(after_help = "Exit 0: everything is fine. Exit 2: mistakes in the file, each told with line and hint.
Exit 1: the file is fine and something it names is not there, a credential or an issuer does not work, or
a snippet has a well-known mistake. Exit 3: a platform, a store or an issuer cannot be reached.

--online logs in once with each credential and shows what its token has: organisation, roles with
divisions, scopes, life, limits and the platform's clock. It changes nothing; the token that it fetched
lives on until it ends. Of each issuer of callers' tokens it fetches the keys, and asks an introspection
endpoint for an invented token.

--snippet looks into any text, such as an integration's settings, for endpoints, headers and scopes that
circulate and do not exist, and names the right ones.

Examples:
  keyholder check
  keyholder check --config /etc/keyholder/keyholder.toml --output json
  keyholder check --syntax
  keyholder check --online --credential acme-prod
  keyholder check --snippet settings.py --snippet main.tf")]
pub(crate) struct CheckArgs {
    /// Check the file alone, not the files and secrets that it names
    #[arg(long)]
    syntax: bool,
    /// Log in with each credential and show what it has
    #[arg(long, conflicts_with = "syntax")]
    online: bool,
    /// Only this credential
    #[arg(long, value_name = "NAME", requires = "online")]
    credential: Vec<CredentialName>,
    /// Look into this text instead, for well-known mistakes; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["syntax", "online"])]
    snippet: Vec<PathBuf>,
}

/// What is not there.
#[derive(Debug, Serialize)]
struct Finding {
    subject: String,
    problem: String,
    hint: String,
}

/// What is no finding and worth a warning.
struct Told {
    /// What credentials of several environments share.
    shared: Vec<String>,
    /// Everything else.
    notes: Vec<String>,
}

pub(super) fn run(arguments: &CheckArgs, context: &Context) -> Result<Exit, Failure> {
    if !arguments.snippet.is_empty() {
        return snippet::run(&arguments.snippet, context);
    }
    let loaded = context.load_file()?;
    context.start_logging_at(QUIET)?;
    harden();
    let file = loaded.file_name();
    if !loaded.warnings.all.is_empty() && !context.terminal.is_json() {
        let report = config::render(&file, &loaded.warnings, context.terminal.colors_errors());
        context.terminal.note(report.trim_end());
    }
    let mut told = Told { shared: environments::shared_documents(&loaded.config), notes: Vec::new() };
    if loaded.proxies.unused(&loaded) {
        let unused = "HTTPS_PROXY is set and not used: write proxy = \"environment\" or \"none\" in [network]";
        told.notes.push(unused.to_owned());
    }
    // One credential may be looked at while another one is not set up yet.
    let file_alone = arguments.syntax || !arguments.credential.is_empty();
    let findings = if file_alone { Vec::new() } else { findings(&loaded, context, &mut told)? };
    // one that cannot be read is a finding
    let certificate = if file_alone { None } else { Report::of(&loaded).ok().flatten() };
    if let Some(warning) = certificate.as_ref().and_then(Report::warning) {
        context.terminal.warn(warning);
    }
    let of_others = if file_alone { Vec::new() } else { Report::of_others(&loaded) };
    for warning in of_others.iter().filter_map(|(_, report)| report.as_ref().ok()?.warning()) {
        context.terminal.warn(warning);
    }
    for warning in told.shared.iter().chain(&told.notes) {
        context.terminal.warn(warning);
    }
    if loaded.file.as_deref().is_some_and(is_open_to_all) {
        context.terminal.warn(&format!("{file} may be changed by every user of this machine: chmod o-w {file}"));
    }
    if !findings.is_empty() {
        let json = serde_json::to_value(&findings).unwrap_or_default();
        let mut failure =
            Failure::new(Code::NOT_FOUND, format!("{file} names what is not there")).with("findings", json);
        for finding in &findings {
            failure = failure.hint(format!("{}: {}; {}", finding.subject, finding.problem, finding.hint));
        }
        return Err(failure.exiting(Exit::No));
    }
    if arguments.online {
        return online::run(&loaded, &arguments.credential, context);
    }
    let answer = serde_json::json!({
        "valid": true,
        "file": loaded.file,
        "platforms": loaded.config.platforms.len(),
        "credentials": loaded.config.credentials.len(),
        "issuers": loaded.config.issuers.len(),
        "protected_apis": loaded.config.inbound.len(),
        "warnings": loaded.warnings.all,
        "certificate": certificate,
        "shared_between_environments": told.shared,
        "notes": told.notes,
    });
    context.terminal.answer(&answer, || format!("{file} is fine: {}\n", contents(&loaded.config)));
    Ok(Exit::Done)
}

/// How much there is of what; a file for protected APIs alone has no platforms to count.
fn contents(config: &Config) -> String {
    let outbound = [(config.platforms.len(), "platform"), (config.credentials.len(), "credential")];
    let inbound = [(config.issuers.len(), "issuer"), (config.inbound.len(), "protected API")];
    let empty = |counts: &[(usize, &str)]| counts.iter().all(|(count, _)| *count == 0);
    let outbound = outbound.iter().filter(|_| !empty(&outbound) || empty(&inbound));
    let inbound = inbound.iter().filter(|_| !empty(&inbound));
    outbound.chain(inbound).map(|(count, noun)| counted(*count, noun)).collect::<Vec<_>>().join(", ")
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn findings(loaded: &Loaded, context: &Context, told: &mut Told) -> Result<Vec<Finding>, Failure> {
    let mut all = Vec::new();
    let mut of = |subject: &str, result: Result<(), Failure>| {
        if let Err(failure) = result {
            let (subject, problem) = (subject.to_owned(), failure.detail().to_owned());
            all.push(Finding { subject, problem, hint: "see that section of the file".to_owned() });
        }
    };
    for (name, failure) in broken_ways(loaded) {
        of(&format!("[platform.{name}]"), Err(failure));
    }
    let clock: std::sync::Arc<dyn kh_core::Clock> = std::sync::Arc::new(kh_core::SystemClock::new());
    for (name, failure) in broken_stores(loaded, &clock) {
        of(&format!("[secret_store.{name}]"), Err(failure));
    }
    for (section, failure) in Senders::of(loaded, &context.environment, clock).broken() {
        of(&section, Err(failure));
    }
    let certificates = Report::of_others(loaded);
    for (section, failure) in PreparedInbound::broken(loaded) {
        // a certificate that cannot be read has a section of its own
        let told =
            |report: &Result<Report, Failure>| report.as_ref().is_err_and(|one| one.detail() == failure.detail());
        if !certificates.iter().any(|(_, report)| told(report)) {
            of(&section, Err(failure));
        }
    }
    for (section, report) in certificates {
        of(&section, report.and_then(|report| report.usable()));
    }
    for (section, failure) in addresses::taken_twice(&loaded.config) {
        of(&section, Err(failure));
    }
    for (section, failure) in broken_security(loaded) {
        of(&section, Err(failure));
    }
    for (section, failure) in broken_logs(loaded) {
        of(&section, Err(failure));
    }
    for (section, failure) in broken_authorities(loaded) {
        of(&section, Err(failure));
    }
    for (section, failure) in broken_telemetry(loaded, &context.environment) {
        of(&section, Err(failure));
    }
    of("[gateway.tls]", Report::of(loaded).and_then(|report| report.as_ref().map_or(Ok(()), Report::usable)));
    all.extend(of_installation(loaded, context, told)?);
    Ok(all)
}

/// Why nobody can tell whether the secret store is there: a right that lacks, most of the time.
fn unreadable_state(store: &Path) -> Option<Finding> {
    let error = store.try_exists().err()?;
    let problem = format!("{} cannot be looked at: {error}", store.display());
    let hint = "run this as the user who runs keyholder".to_owned();
    Some(Finding { subject: "the state folder".to_owned(), problem, hint })
}

/// Whether any user of the machine may change the file.
fn is_open_to_all(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
}

/// The document with the token of the security log's collector.
fn of_security(loaded: &Loaded) -> Option<&SecretReference> {
    match loaded.config.security.as_ref()?.collector.as_ref()?.token.as_ref()? {
        CollectorToken::Secret(reference) => Some(reference),
        CollectorToken::File(_) => None,
    }
}

/// What is only known once the installation is open, if there is one.
fn of_installation(loaded: &Loaded, context: &Context, told: &mut Told) -> Result<Vec<Finding>, Failure> {
    let missing = |secret: &kh_core::SecretName, problem: &str| Finding {
        subject: format!("secret {secret}"),
        problem: problem.to_owned(),
        hint: format!("keyholder secret set {secret}"),
    };
    let of_credentials = loaded.config.credentials.values().map(|credential| &credential.secret);
    let of_issuers = loaded.config.issuers.values().filter_map(|issuer| issuer.detail.secret());
    let wanted: std::collections::BTreeSet<_> = of_credentials
        .chain(of_issuers)
        .chain(of_security(loaded))
        .filter_map(|secret| secret.embedded().cloned())
        .collect();
    if let Some(finding) = unreadable_state(&loaded.paths.store).filter(|_| !wanted.is_empty()) {
        return Ok(vec![finding]);
    }
    let keyless = loaded.config.store.key != KeySource::Generated
        && loaded.paths.key_file(&loaded.config.store.key).is_some_and(|path| !path.exists());
    if keyless {
        let subject = "[store]".to_owned();
        let hint = "make it, or name another".to_owned();
        return Ok(vec![Finding { subject, problem: "the key's file does not exist".to_owned(), hint }]);
    }
    Context::runtime()?.block_on(async {
        let Some(look) = Look::open(loaded, &context.environment).await? else {
            return Ok(wanted.iter().map(|secret| missing(secret, "the secret store does not exist yet")).collect());
        };
        let known = look.store.list().await?;
        let absent = wanted.iter().filter(|secret| !known.iter().any(|found| found.name == **secret));
        let mut all: Vec<_> = absent.map(|secret| missing(secret, "it is not in the secret store")).collect();
        all.extend(look.issuer.iter().flat_map(|issuer| environments::misplaced_clients(loaded, issuer)));
        told.shared.extend(environments::shared_clients(&loaded.config, &look).await);
        told.notes.extend(look.older_schema.map(|schema| {
            let own = kh_state::SCHEMA;
            format!(
                "the state has schema {schema}; the next start, or any other command that opens it, brings it to {own}: \
                 no client was looked at"
            )
        }));
        Ok(all)
    })
}
