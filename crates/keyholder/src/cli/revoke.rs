//! `keyholder revoke`: tokens that are not to be taken any more.
//!
//! Invariants: what was revoked is on disk, with its audit entry, when the command ends; a token comes from standard
//! input or a hidden prompt and is shown nowhere; nothing takes a revocation back.

mod told;

use std::sync::Arc;

use clap::{Args, Subcommand};
use kh_core::{
    Code, SecretString, UnixMillis,
    audit::AuditEvent,
    revocation::{RevocationRecord, RevocationTarget},
};
use kh_inbound::{OrderError, REMEMBERED, RevocationOrder, checked_reason};
use kh_issuer::Issuer;

use super::{
    Context, Loaded, QUIET,
    secret::input::{confirm, line, prompt, raw},
};
use crate::{
    compose::{Base, harden, seen_by_all},
    config::nearest,
    output::{Exit, Failure},
};

/// Revoke tokens: at once, for good, in every keyholder on this state
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Works whether or not `keyholder serve` runs; one that runs on the same state refuses the tokens when this command
has ended. A revocation cannot be taken back.

What was issued up to now is told by this machine's clock. Where an issuer's clock may be ahead, give such an order
again after the issuer's leeway (30 s by default).

Examples:
  keyholder revoke token < token
  keyholder revoke client reports --reason 'laptop lost, ticket 4711'
  keyholder revoke subject 248289761001 --issuer https://login.example.com/
  keyholder revoke list"
)]
pub(crate) enum RevokeCommand {
    Token(TokenArgs),
    Jti(JtiArgs),
    Client(ClientArgs),
    Subject(SubjectArgs),
    Before(BeforeArgs),
    List(ListArgs),
}

/// What every order may say.
#[derive(Debug, Clone, Args)]
pub(crate) struct Why {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Revoke one token, read from standard input or a hidden prompt
#[derive(Debug, Args)]
#[command(
    after_help = "A JWT is revoked by what it says (its jti, else its subject and time of issue) and by what its signature covers, so
that the second valid spelling of an ECDSA signature is revoked as well. An opaque token is revoked by its digest.

Examples:
  keyholder revoke token < token
  pbpaste | keyholder revoke token --reason 'seen in a log'"
)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    why: Why,
}

/// Revoke a token by its jti
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  keyholder revoke jti 9f3c2b1e --issuer https://login.example.com/")]
pub(crate) struct JtiArgs {
    /// The token's jti
    jti: String,
    /// The token's iss
    #[arg(long, value_name = "ISSUER")]
    issuer: String,
    #[command(flatten)]
    why: Why,
}

/// Revoke everything that a client was issued up to now
#[derive(Debug, Args)]
#[command(after_help = "The client may log in again: `keyholder client disable` keeps it out.

Examples:
  keyholder revoke client reports
  keyholder revoke client 0oa1b2c3d4 --issuer https://login.example.com/ --before 2026-11-21T08:00:00Z")]
pub(crate) struct ClientArgs {
    /// Its client_id, or the name of a client of keyholder
    client: String,
    /// Of this iss only [default: of every issuer]
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// What was issued up to this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<UnixMillis>,
    #[command(flatten)]
    why: Why,
}

/// Revoke everything that a subject was issued up to now, or at one moment
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  keyholder revoke subject 248289761001
  keyholder revoke subject 248289761001 --issuer https://login.example.com/ --issued-at 1795219200")]
pub(crate) struct SubjectArgs {
    /// The tokens' sub
    subject: String,
    /// Of this iss only [default: of every issuer]
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// What was issued up to this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<UnixMillis>,
    /// Only what was issued at this time: the tokens' iat
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "before", requires = "issuer")]
    issued_at: Option<UnixMillis>,
    #[command(flatten)]
    why: Why,
}

/// Revoke everything that was issued up to a time
#[derive(Debug, Args)]
#[command(after_help = "A TIME is RFC 3339, seconds since 1970, or now.

Examples:
  keyholder revoke before now --issuer https://login.example.com/
  keyholder revoke before 2026-11-21T08:00:00Z --yes")]
pub(crate) struct BeforeArgs {
    /// Up to this time
    #[arg(value_name = "TIME", value_parser = moment_or_now)]
    time: When,
    /// Of this iss only [default: of every issuer]
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    why: Why,
}

/// List revocations in the order in which they were written
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  keyholder revoke list
  keyholder revoke list --limit 1000 --output json")]
pub(crate) struct ListArgs {
    /// Begin behind this position
    #[arg(long, value_name = "POSITION", default_value_t)]
    after: u64,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// A time that may be now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct When(Option<UnixMillis>);

fn moment_or_now(text: &str) -> Result<When, String> {
    if text == "now" { Ok(When(None)) } else { moment(text).map(|time| When(Some(time))) }
}

/// The last second of the year 9999, as far as RFC 3339 goes. Milliseconds of any time since 1979 are more.
const SECONDS_MAX: u64 = 253_402_300_799;

/// RFC 3339, or whole seconds since 1970, as `iat` has them.
pub(super) fn moment(text: &str) -> Result<UnixMillis, String> {
    let wrong = || "write a time like 2026-11-21T08:00:00Z, or seconds since 1970".to_owned();
    if let Ok(seconds) = text.parse::<u64>() {
        if seconds > SECONDS_MAX {
            return Err(format!("{}, not milliseconds", wrong()));
        }
        return Ok(UnixMillis(seconds * 1000));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(time.as_millisecond()).map(UnixMillis).map_err(|_| wrong())
}

/// What is to be done, before the clock is read.
struct Wish {
    target: Target,
    reason: Option<String>,
}

enum Target {
    Token(SecretString),
    Of(RevocationTarget, Option<UnixMillis>),
}

pub(super) fn run(command: RevokeCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    let loaded = context.load()?;
    context.start_logging_at(QUIET)?;
    let command = match command {
        RevokeCommand::List(arguments) => {
            let base = Base::open_existing(&loaded, &context.environment)?;
            return Context::runtime()?.block_on(told::list(&base, (arguments.after, arguments.limit), context));
        }
        order => order,
    };
    let Some(wish) = wish(command, context)? else {
        return Err(Failure::usage("nothing was revoked").exiting(Exit::No));
    };
    if let Some(reason) = &wish.reason {
        checked_reason(reason).map_err(unfit)?;
    }
    let base = Base::open_existing(&loaded, &context.environment)?;
    Context::runtime()?.block_on(carry_out(wish, &base, &loaded, context))
}

/// The order of a command; none when its asker thought better of it.
fn wish(command: RevokeCommand, context: &Context) -> Result<Option<Wish>, Failure> {
    let of = |target, before, why: Why| Ok(Some(Wish { target: Target::Of(target, before), reason: why.reason }));
    match command {
        RevokeCommand::Token(TokenArgs { why }) => {
            Ok(Some(Wish { target: Target::Token(token(context)?), reason: why.reason }))
        }
        RevokeCommand::Jti(JtiArgs { jti, issuer, why }) => {
            of(RevocationTarget::TokenId { issuer, id: jti }, None, why)
        }
        RevokeCommand::Client(ClientArgs { client, issuer, before, why }) => {
            of(RevocationTarget::Client { issuer, client }, before, why)
        }
        RevokeCommand::Subject(SubjectArgs { subject, issuer, before, issued_at, why }) => match (issuer, issued_at) {
            (Some(issuer), Some(at)) => of(RevocationTarget::Issued { issuer, subject, at }, None, why),
            (issuer, _) => of(RevocationTarget::Subject { issuer, subject }, before, why),
        },
        RevokeCommand::Before(BeforeArgs { time, issuer, yes, why }) => {
            let whose = issuer.as_ref().map_or_else(|| "every issuer".to_owned(), Clone::clone);
            if !yes && !confirm(&format!("Revoke every token of {whose} that was issued up to then?"), context)? {
                return Ok(None);
            }
            of(RevocationTarget::Everything { issuer }, time.0, why)
        }
        RevokeCommand::List(_) => Err(Failure::bug("a list is no order")),
    }
}

fn token(context: &Context) -> Result<SecretString, Failure> {
    if context.environment.stdin_is_terminal { prompt("Token (hidden): ") } else { line(raw(None)?) }
}

async fn carry_out(wish: Wish, base: &Base, loaded: &Loaded, context: &Context) -> Result<Exit, Failure> {
    let issuer = base.issuer().await?;
    let now = base.clock.now().wall;
    let order = match wish.target {
        Target::Token(token) => RevocationOrder::Token(token),
        Target::Of(target, before) => RevocationOrder::Of(named(target, &issuer), before.unwrap_or(now)),
    };
    let records = order.records(now, Some(REMEMBERED)).map_err(unfit)?;
    let actor = context.environment.actor();
    let event = AuditEvent::new(&*base.entropy, now, &actor, "revocation.add", order.subject());
    let mut event = order.told(event, |token| base.fingerprinter.fingerprint(token));
    if let Some(reason) = wish.reason.filter(|reason| !reason.is_empty()) {
        event = event.with("reason", &reason);
    }
    write(&records, event, base).await?;
    if let RevocationOrder::Token(token) = &order {
        // one of keyholder's own is taken out of its table as well
        issuer.revoke(token.expose().as_bytes()).await?;
    }
    let serving = seen_by_all(&loaded.paths.state).await;
    let doubts = doubts(&order, &issuer);
    told::done(&records, serving, &doubts, context);
    for doubt in &doubts {
        context.terminal.warn(doubt);
    }
    Ok(Exit::Done)
}

/// What of an order may be a slip: other issuers may have what keyholder does not know.
fn doubts(order: &RevocationOrder, issuer: &Arc<Issuer>) -> Vec<String> {
    let mut doubts = Vec::new();
    if order.is_foreign_opaque() {
        doubts.push("this is neither a JWT nor a token of keyholder's own: taken as an opaque one of an issuer".into());
    }
    if let RevocationOrder::Of(RevocationTarget::Client { issuer: None, client }, _) = order
        && issuer.client(client).is_none()
    {
        doubts.push(format!("no client of keyholder's own is called {client:?}: taken as an issuer's client id"));
        let known = issuer.clients();
        let similar = nearest(client, known.iter().map(|known| known.record.name.as_str()));
        doubts.extend(similar.map(|similar| format!("did you mean {similar}? nothing of it was revoked")));
    }
    doubts
}

/// Through the list as it stands, so that a full one is widened as in a serving keyholder.
async fn write(records: &[RevocationRecord], event: AuditEvent, base: &Base) -> Result<(), Failure> {
    Ok(base.revocations().await?.revoke(records.to_vec(), Some(event)).await?)
}

/// A client of keyholder may be called by its name.
fn named(target: RevocationTarget, issuer: &Arc<Issuer>) -> RevocationTarget {
    match target {
        RevocationTarget::Client { issuer: None, client } => {
            let id = issuer.client(&client).map(|found| found.record.id.to_string());
            RevocationTarget::Client { issuer: None, client: id.unwrap_or(client) }
        }
        other => other,
    }
}

fn unfit(error: OrderError) -> Failure {
    Failure::of(Code::USAGE, &error)
}
