//! `keyholder session`: the sessions of users at platforms.
//!
//! Invariants: what was ended is on disk, with its audit entry, when the command ends; the tokens of a session are shown
//! nowhere.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use kh_core::{
    Code, Sha256,
    port::{SessionRecord, SessionStore},
    session::{RefreshUse, SessionEnd, SessionName},
};
use kh_inbound::checked_reason;
use kh_issuer::Issuer;
use serde_json::{Value, json};

use super::{Context, QUIET, secret::time};
use crate::{
    compose::{Base, SEEN_WITHIN, harden, running_on},
    output::{Exit, Failure, Table},
};

/// How often it is looked whether a serving keyholder has wiped the tokens.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often that is done at most, in 4 s: a serving keyholder looks every second for sessions that others ended, and
/// before it wipes the tokens of one it gives them back, for which a platform may need a moment.
const LOOKS_MAX: u32 = 80;

/// Look at the sessions of users at platforms, or end one
#[derive(Debug, Subcommand)]
#[command(
    after_help = "A session begins when a user's authorization code is sent to keyholder's token endpoint, and is named by the beginning
of its access token's SHA-256, as in the logs.

Examples:
  keyholder session list
  keyholder session end 5f0c9d2a7b3e4c11 --reason 'laptop lost, ticket 4711'"
)]
pub(crate) enum SessionCommand {
    List(ListArgs),
    End(EndArgs),
}

/// List the sessions that have not ended
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  keyholder session list
  keyholder session list --client portal --output json
  keyholder session list --after 5f0c9d2a7b3e4c11 --limit 1000")]
pub(crate) struct ListArgs {
    /// Of this client only: its name or id
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Begin behind this session
    #[arg(long, value_name = "SESSION")]
    after: Option<SessionName>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// End a user's session: the user has to log in again
#[derive(Debug, Args)]
#[command(
    after_help = "Works whether or not `keyholder serve` runs; one that runs on the same state refuses the session's access token when
this command has ended, and gives the platform's token back where the platform has a call for that. `keyholder client
disable` ends all sessions of a client.

Exit 1: it had ended before.

Examples:
  keyholder session end 5f0c9d2a7b3e4c11
  keyholder session end 5f0c9d2a7b3e4c11 --reason 'left the company' --output json"
)]
pub(crate) struct EndArgs {
    /// Its id, as `session list` and the logs have it
    session: SessionName,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(command: SessionCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    let loaded = context.load()?;
    context.start_logging_at(QUIET)?;
    if let SessionCommand::End(EndArgs { reason: Some(reason), .. }) = &command {
        checked_reason(reason).map_err(|error| Failure::of(Code::USAGE, &error))?;
    }
    let base = Base::open_existing(&loaded, &context.environment)?;
    let serving = running_on(&loaded.paths.state).len();
    Context::runtime()?.block_on(async {
        let issuer = base.issuer().await?;
        match command {
            SessionCommand::List(arguments) => list(arguments, &base, &issuer, context).await,
            SessionCommand::End(arguments) => end(arguments, &base, (&issuer, serving), context).await,
        }
    })
}

async fn list(arguments: ListArgs, base: &Base, issuer: &Arc<Issuer>, context: &Context) -> Result<Exit, Failure> {
    let ListArgs { client, after, limit } = arguments;
    let client = match client {
        None => None,
        Some(name) => {
            let found = issuer.client(&name).ok_or_else(|| {
                Failure::new(Code::NOT_FOUND, format!("there is no client {name:?}"))
                    .hint("`keyholder client list` shows the names")
            })?;
            Some(found.record.id.clone())
        }
    };
    let found = base.state.sessions_after(after.map(|name| name.bounds().1), client, limit).await?;
    let next = found.last().filter(|_| found.len() >= limit as usize).map(|last| SessionName::of(last.token));
    let all: Vec<Value> = found.iter().map(|record| as_json(record, issuer)).collect();
    context.terminal.answer(&json!({ "sessions": all, "next": next.map(|name| name.to_string()) }), || {
        if found.is_empty() {
            return "there are no sessions\n".to_owned();
        }
        let mut table = Table::new(&["session", "client", "credential", "began", "last used", "ends"]);
        for record in &found {
            table.row(vec![
                SessionName::of(record.token).to_string(),
                client_name(record, issuer),
                record.credential.to_string(),
                time(record.began_at),
                time(record.used_at),
                time(record.expires_at.min(record.used_at.plus(record.idle_life))),
            ]);
        }
        let more = next.map(|name| format!("there may be more: --after {name}\n")).unwrap_or_default();
        table.text() + &more
    });
    Ok(Exit::Done)
}

async fn end(
    arguments: EndArgs,
    base: &Base,
    (issuer, serving): (&Arc<Issuer>, usize),
    context: &Context,
) -> Result<Exit, Failure> {
    let EndArgs { session, reason } = arguments;
    let record = named(base, session).await?;
    let actor = context.environment.actor();
    let event = SessionEnd::Operator.event(
        (record.token, &record.client, &record.credential),
        (&actor, reason.as_deref()),
        (&*base.entropy, base.clock.now().wall),
    );
    let ended = base.state.end_session(record.token, SessionEnd::Operator, event).await?;
    let wiped = serving > 0 && taken_over(base, record.token).await?;
    let now = base.state.session(record.token).await?.unwrap_or(record);
    let answer = json!({ "session": as_json(&now, issuer), "changed": ended, "serving": serving });
    context.terminal.answer(&answer, || {
        let whose = client_name(&now, issuer);
        if !ended {
            let how = now.end.map_or("", SessionEnd::told);
            return format!("Session {session} of {whose} had ended before: {how}\n");
        }
        let tokens = match (serving, wiped) {
            (0, _) => "The next keyholder that serves this state gives the platform's token back.\n",
            (_, true) => "Its tokens are wiped.\n",
            (_, false) => "The keyholder that serves this state gives the platform's token back as soon as it can.\n",
        };
        format!("Session {session} of {whose} has ended: the user has to log in again.\n{tokens}")
    });
    Ok(if ended { Exit::Done } else { Exit::No })
}

/// The session of this name, ended or not.
async fn named(base: &Base, name: SessionName) -> Result<SessionRecord, Failure> {
    let mut found = base.state.sessions_named(name).await?;
    match (found.pop(), found.pop()) {
        (Some(record), None) => Ok(record),
        (None, _) => Err(Failure::new(Code::NOT_FOUND, format!("there is no session {name}"))
            .hint("`keyholder session list` shows those that have not ended")),
        (Some(_), Some(_)) => Err(Failure::new(Code::USAGE, format!("two sessions are called {name}"))
            .hint("`keyholder client disable` ends all sessions of a client")),
    }
}

/// Waits until every serving keyholder has seen that the session's token is gone, and until one of them has wiped the
/// platform's tokens; not for longer than that takes where the platform answers. Whether they are wiped.
async fn taken_over(base: &Base, token: Sha256) -> Result<bool, Failure> {
    tokio::time::sleep(SEEN_WITHIN).await;
    for _ in 0..LOOKS_MAX {
        if base.state.session(token).await?.is_none_or(|record| record.sealed.is_none()) {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

fn client_name(record: &SessionRecord, issuer: &Arc<Issuer>) -> String {
    let found = issuer.client(record.client.as_str());
    found.map_or_else(|| record.client.to_string(), |client| client.record.name.to_string())
}

fn as_json(record: &SessionRecord, issuer: &Arc<Issuer>) -> Value {
    json!({
        "id": SessionName::of(record.token).to_string(),
        "client_id": record.client.as_str(),
        "client": issuer.client(record.client.as_str()).map(|client| client.record.name.to_string()),
        "credential": record.credential.as_str(),
        "began_at": time(record.began_at),
        "used_at": time(record.used_at),
        "expires_at": time(record.expires_at),
        "idle_ends_at": time(record.used_at.plus(record.idle_life)),
        "renewable": record.journal.refresh != RefreshUse::Absent,
        "ended": record.end.map(SessionEnd::as_str),
    })
}
