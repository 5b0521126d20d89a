//! `keyholder check --online`: what each credential really has.
//!
//! Invariants: one login per credential, never a second one with the same secret, and none where a login is not for a
//! check, which is said and is no failure; what the platform does not tell is said to be unknown; a claim of a token
//! that was not verified is called so; no token leaves the process but in the header of a read of its own account.

mod claims;
mod report;

use std::sync::Arc;

use kh_broker::CredentialSpec;
use kh_core::{
    Code, CredentialName, PlatformKind, Retry, SecretReference, SecretString, UnixMillis,
    credential::CredentialDocument,
    port::{FetchError, IssuedToken, SecretSource, SourceError, StoreError},
};
use kh_platform::{
    Address, HttpClient, PlainHttp, Timeouts,
    genesys::account::{self, Account},
};
use serde::Serialize;

use super::{Context, Loaded};
use crate::{
    compose::{Look, SeenIssuer, Sight, egresses, look_at_issuers, specs},
    config::nearest,
    output::{Exit, Failure},
};
use claims::Claims;

/// A difference between the clocks that is told as a problem, in seconds: tokens and audit times are then doubtful.
const SKEW_RISKY: i64 = 60;

/// What one credential has.
#[derive(Debug, Serialize)]
struct Seen {
    name: CredentialName,
    platform: String,
    kind: PlatformKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    /// Whether a login succeeded and the platform's API takes its token; none where a login is not for a check.
    works: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_tried: Option<NotTried>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    api_base: String,
    /// The platform's clock minus this machine's, in whole seconds.
    clock_skew_seconds: Option<i64>,
    /// Genesys Cloud: what the token itself may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Account>,
    /// CXone: decoded, not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    unverified_claims: Option<Claims>,
}

impl Seen {
    fn fail(&mut self, problem: Problem) {
        self.works = Some(false);
        self.problem = Some(problem);
    }
}

/// Why no login was tried, although nothing is known to be wrong.
#[derive(Debug, Serialize)]
struct NotTried {
    detail: &'static str,
    hint: &'static str,
}

/// Why it does not work.
#[derive(Debug, Serialize)]
struct Problem {
    code: Code,
    detail: String,
    hint: &'static str,
    /// Whether the platform could not be asked at all.
    unreachable: bool,
}

/// What is told of a token.
#[derive(Debug, Serialize)]
struct Token {
    expires_in: u64,
    /// The scopes in the answer; the answer need not name any.
    scope: Option<String>,
}

pub(super) fn run(loaded: &Loaded, wanted: &[CredentialName], context: &Context) -> Result<Exit, Failure> {
    refuse_unknown(loaded, wanted)?;
    let ways = egresses(loaded)?;
    let (seen, issuers) = Context::runtime()?.block_on(async {
        let look = Look::open(loaded, &context.environment).await?;
        let of = |name: &CredentialName| wanted.is_empty() || wanted.contains(name);
        let mut tried = loaded.config.credentials.iter().filter(|(name, _)| of(name));
        if look.is_none() && tried.any(|(_, credential)| credential.secret.embedded().is_some()) {
            return Err(Failure::from(StoreError::Unavailable {
                reason: "the secret store does not exist yet".to_owned(),
                source: None,
            })
            .hint("`keyholder secret set NAME` makes it")
            .exiting(Exit::No));
        }
        let sight = look.as_ref().map_or_else(|| Sight::outside(loaded), |look| Ok(look.sight()))?;
        let mut all = Vec::new();
        for spec in specs(&loaded.config, &ways, &sight.clock).iter().filter(|spec| of(&spec.name)) {
            all.push(see(spec, &sight).await);
        }
        let secrets = Some(Arc::clone(&sight.sources) as Arc<dyn SecretSource>);
        // one credential is looked at alone
        let issuers =
            if wanted.is_empty() { look_at_issuers(loaded, &sight.clock, secrets).await? } else { Vec::new() };
        Ok((all, issuers))
    })?;
    conclude(&seen, &issuers, context)
}

fn refuse_unknown(loaded: &Loaded, wanted: &[CredentialName]) -> Result<(), Failure> {
    let known = &loaded.config.credentials;
    let Some(unknown) = wanted.iter().find(|name| !known.contains_key(name)) else { return Ok(()) };
    let failure = Failure::usage(format!("{} has no credential {unknown}", loaded.file_name()));
    Err(match nearest(unknown.as_str(), known.keys().map(CredentialName::as_str)) {
        Some(similar) => failure.hint(format!("did you mean {similar}?")),
        None => failure,
    })
}

/// The report, and the exit code: what does not work weighs more than a platform or an issuer that is away.
fn conclude(seen: &[Seen], issuers: &[SeenIssuer], context: &Context) -> Result<Exit, Failure> {
    let answer = serde_json::json!({ "credentials": seen, "issuers": issuers });
    let text = || report::text(seen, issuers, context.terminal.out_style);
    if seen.iter().all(|seen| seen.problem.is_none()) && issuers.iter().all(|issuer| issuer.works) {
        context.terminal.answer(&answer, text);
        return Ok(Exit::Done);
    }
    if !context.terminal.is_json() {
        context.terminal.out(&text());
    }
    let failure = failure_of(seen, issuers);
    Err(failure.with("credentials", answer["credentials"].clone()).with("issuers", answer["issuers"].clone()))
}

/// Everything that lacks, with a hint for each.
fn failure_of(seen: &[Seen], issuers: &[SeenIssuer]) -> Failure {
    let problems: Vec<_> = seen.iter().filter_map(|seen| Some((&seen.name, seen.problem.as_ref()?))).collect();
    let lacking: Vec<_> = issuers.iter().filter(|issuer| !issuer.works).collect();
    let unreachable = problems.iter().all(|(_, problem)| problem.unreachable);
    let away = unreachable && lacking.iter().all(|issuer| issuer.unreachable);
    let mut told = Vec::new();
    if !problems.is_empty() {
        let names: Vec<_> = problems.iter().map(|(name, _)| name.as_str()).collect();
        let verb = if unreachable { "could not be tried" } else { "does not work" };
        told.push(format!("{} {verb}", names.join(", ")));
    }
    if !lacking.is_empty() {
        let names: Vec<_> = lacking.iter().map(|issuer| issuer.name.as_str()).collect();
        told.push(format!("{}: tokens cannot be verified", names.join(", ")));
    }
    let decisive = problems.iter().find(|(_, problem)| problem.unreachable == away);
    let code = decisive.map_or(Code::INBOUND_ISSUER_UNAVAILABLE, |(_, problem)| problem.code);
    let mut failure = Failure::new(code, told.join("; "));
    for (name, problem) in problems {
        failure = failure.hint(format!("{name}: {}", problem.hint));
    }
    for issuer in lacking {
        let problem = issuer.problem.as_deref().unwrap_or_default();
        failure = failure.hint(format!("[issuer.{}]: {problem}", issuer.name));
    }
    failure.exiting(if away { Exit::Unfinished } else { Exit::No })
}

/// One login and what its token has.
async fn see(spec: &CredentialSpec, sight: &Sight) -> Seen {
    let mut seen = Seen {
        name: spec.name.clone(),
        platform: spec.platform.to_string(),
        kind: spec.kind,
        environment: spec.environment.as_ref().map(ToString::to_string),
        works: None,
        problem: None,
        not_tried: None,
        token: None,
        api_base: spec.api_base.clone(),
        clock_skew_seconds: None,
        account: None,
        unverified_claims: None,
    };
    let http = HttpClient::new(Arc::clone(&spec.egress), Timeouts::default(), Arc::clone(&sight.clock));
    let login_base = spec.auth_base.as_deref().unwrap_or(&spec.api_base);
    seen.clock_skew_seconds = skew(&http, login_base, sight).await;
    let document = match document(spec, sight).await {
        Ok(document) => document,
        Err(problem) => {
            seen.fail(problem);
            return seen;
        }
    };
    seen.not_tried = not_for_a_check(spec, &document);
    if seen.not_tried.is_none() {
        match spec.endpoint.fetch(&document, None).await {
            Ok(token) => describe(&mut seen, spec, &http, &token).await,
            Err(error) => seen.fail(problem_of(&error)),
        }
    }
    seen
}

/// The platform's `Date` minus this machine's time. Any answer has one; no secret is sent for it.
async fn skew(http: &HttpClient, base: &str, sight: &Sight) -> Option<i64> {
    let address = Address::parse(base, PlainHttp::LoopbackOnly).ok()?;
    let UnixMillis(theirs) = kh_platform::http::date_of(http, &address).await.ok()??;
    let UnixMillis(ours) = sight.clock.now().wall;
    // `Date` has whole seconds: half a second on either side is the rounding.
    let difference = i64::try_from(theirs).ok()? - i64::try_from(ours).ok()?;
    Some((difference + 500).div_euclid(1000))
}

async fn document(spec: &CredentialSpec, sight: &Sight) -> Result<CredentialDocument, Problem> {
    let stored = sight.sources.read(&spec.secret).await.map_err(|error| unread(&spec.secret, &error))?;
    CredentialDocument::parse(&stored.value).map_err(|error| {
        let hint = match spec.secret {
            SecretReference::Embedded(_) => "store a credential document with `keyholder secret set`",
            SecretReference::Stored { .. } => "put a credential document there",
        };
        Problem { code: Code::CREDENTIAL_UNUSABLE, detail: error.to_string(), hint, unreachable: false }
    })
}

/// Why a check does not log in with it.
fn not_for_a_check(spec: &CredentialSpec, document: &CredentialDocument) -> Option<NotTried> {
    if spec.sessions.is_some() {
        return Some(NotTried {
            detail: "users log in with it: it gets no token by itself",
            hint: "log in as a user to try it",
        });
    }
    // Platforms may let a refresh token be used once: spent here, it would be lost for the running keyholder.
    document.refresh_token.is_some().then_some(NotTried {
        detail: "it logs in with a refresh token, which may be good for one use and is not spent on a check",
        hint: "ask the running keyholder: `keyholder token get`",
    })
}

/// A document that no store told.
fn unread(secret: &SecretReference, error: &SourceError) -> Problem {
    let (code, hint, unreachable) = match error {
        SourceError::Embedded(_) => (Code::CREDENTIAL_UNUSABLE, "store it with `keyholder secret set`", false),
        SourceError::Stored { .. } if error.is_missing() => {
            (Code::CREDENTIAL_UNUSABLE, "put the document there, for example with `keyholder secret copy`", false)
        }
        SourceError::Stored { .. } => {
            let passing = !matches!(error.retry(), Retry::Never);
            (error.code(), "check the store, and its section [secret_store.NAME] of the file", passing)
        }
        SourceError::NoStore(_) => (error.code(), "name the store in a section [secret_store.NAME]", false),
    };
    let mut detail = format!("{}: {error}", secret.shown());
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        detail = format!("{detail}: {next}");
        cause = next.source();
    }
    Problem { code, detail, hint, unreachable }
}

fn problem_of(error: &FetchError) -> Problem {
    let detail = error.to_string();
    let refused_address = detail.contains("refuses the address");
    let hint = match error {
        FetchError::Rejected { .. } => {
            "check id and secret at the platform; the secret was sent once and is not tried again"
        }
        FetchError::RateLimited { .. } => "the platform limits logins: wait a minute",
        FetchError::Transient { .. } if refused_address => {
            "let the platform allow this machine's address; a new secret or token will not help"
        }
        FetchError::Transient { unreachable: Some(_), .. } => "check the network, the proxy and the address",
        FetchError::Transient { .. } => "check the address of the platform",
        FetchError::Unusable(_) => "store a document with the fields that this login needs",
    };
    let unreachable = match error {
        FetchError::RateLimited { .. } | FetchError::Transient { unreachable: Some(_), .. } => true,
        // A platform with a fault of its own may be well tomorrow; a wrong address will not.
        FetchError::Transient { reason, .. } => reason.contains("answered 5"),
        FetchError::Rejected { .. } | FetchError::Unusable(_) => false,
    };
    let code = if refused_address { Code::CREDENTIAL_REJECTED } else { error.code() };
    Problem { code, detail, hint, unreachable }
}

/// What the token tells, by platform.
async fn describe(seen: &mut Seen, spec: &CredentialSpec, http: &HttpClient, token: &IssuedToken) {
    seen.works = Some(true);
    seen.token = Some(Token { expires_in: token.expires_in.as_secs(), scope: token.scope.clone() });
    if let Some(base) = &token.api_base {
        seen.api_base.clone_from(base);
    }
    match spec.kind {
        PlatformKind::Genesys => of_genesys(seen, http, &token.access_token).await,
        PlatformKind::Cxone => seen.unverified_claims = claims::decode(&token.access_token),
        PlatformKind::Oauth2 => {}
    }
}

async fn of_genesys(seen: &mut Seen, http: &HttpClient, token: &SecretString) {
    let Ok(api) = Address::parse(&seen.api_base, PlainHttp::LoopbackOnly) else { return };
    match account::read(http, &api, token).await {
        Ok(account) => seen.account = Some(account),
        Err(error) => {
            let (code, hint, unreachable) = match &error {
                account::AccountError::Http(_) => {
                    (Code::UPSTREAM_UNREACHABLE, "the login worked; check the network and api_url", true)
                }
                account::AccountError::Address => (
                    Code::CREDENTIAL_REJECTED,
                    "let the platform allow this machine's address; a new secret or token will not help",
                    false,
                ),
                account::AccountError::Refused { .. } | account::AccountError::Shape => {
                    (Code::UPSTREAM_PROTOCOL, "the login worked; check api_url", false)
                }
            };
            seen.fail(Problem { code, detail: error.to_string(), hint, unreachable });
        }
    }
}
