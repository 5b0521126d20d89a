//! `keyholder rotate`: replaces the secrets of credentials, one durable step after the other.
//!
//! Invariants: whatever a command changes goes through the rotation core and its journal; a command that was killed is
//! resumed by the next one; answers hold fingerprints and ids, never a secret.

pub(in crate::cli) mod finding;
mod plan;
mod progress;
mod standing;
mod told;
mod world;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kh_core::{
    CredentialName,
    port::rotation_journal::ApprovalOf,
    rotation::{ManagedId, VersionId},
};
use kh_rotation::{End, Level, Order, Run};
use kh_rotator::{NotTaken, Patience, Person, Wanted, orders};

use self::{
    finding::Finding,
    world::{Subjects, World},
};
use super::{Context, Loaded, QUIET};
use crate::{
    compose::{Base, harden},
    output::{Exit, Failure},
};

/// Longest reason: a sentence with a ticket's number.
const REASON_MAX: usize = 500;

/// How long an order is waited for before a person is told that it waits.
const TOLD_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// Replace the secrets of credentials without an outage
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Exit 0: done. Exit 3: it waits and goes on by itself, or with the next command. Exit 4: a person must
decide; the answer has the command to type.

Every step is written down before it is taken, so that a command may be killed at any point:
`keyholder rotate resume`, the next `run`, or `keyholder serve` goes on. RUN is the id of a run or the name of its
credential.

Examples:
  keyholder rotate plan                                 what would happen, and what is in the way
  keyholder rotate run acme-prod --wait
  keyholder rotate status
  keyholder rotate hold acme-prod --reason 'release weekend'
  keyholder rotate now acme-prod --reason leaked"
)]
pub(crate) enum RotateCommand {
    /// Look whether credentials can be rotated, and say what would happen. Changes nothing
    #[command(
        after_help = "Looks at the platform's rights and free places, at every store, and at the consumers. Exit 0: nothing is
in the way. Exit 1: something is. Exit 3: the platform or a store could not be asked.

Examples:
  keyholder rotate plan
  keyholder rotate plan acme-prod --output json"
    )]
    Plan {
        /// The credentials; all that have a [credential.NAME.rotation] unless named
        credential: Vec<CredentialName>,
    },
    /// Begin a rotation, or go on with the one that has not ended
    #[command(after_help = "Without --wait it does all that can be done now and ends: run it again from cron or a job.

Examples:
  keyholder rotate run acme-prod
  keyholder rotate run acme-prod --wait
  keyholder rotate run acme-prod --output json")]
    Run(RunArgs),
    /// Show a rotation, or the newest one of every credential
    #[command(after_help = "Examples:
  keyholder rotate status
  keyholder rotate status acme-prod --output json")]
    Status {
        /// A run or a credential
        run: Option<String>,
    },
    /// Look again and go on after a person decided
    #[command(after_help = "Examples:
  keyholder rotate resume acme-prod
  keyholder rotate resume acme-prod --skip-hooks --reason 'restarted by hand'
  keyholder rotate resume acme-prod --adopt store:acme-prod=7")]
    Resume(ResumeArgs),
    /// Give up a rotation before anything was promoted
    #[command(after_help = "Examples:
  keyholder rotate abort acme-prod --reason 'wrong day'
  keyholder rotate abort acme-prod --leave --reason 'cleaned up by hand'")]
    Abort {
        #[command(flatten)]
        of: OfRun,
        /// End it as it stands and touch nothing more
        #[arg(long)]
        leave: bool,
    },
    /// Make the old secret live again; until it is deleted
    #[command(after_help = "Examples:\n  keyholder rotate rollback acme-prod --reason 'billing cannot log in'")]
    Rollback {
        #[command(flatten)]
        of: OfRun,
    },
    /// Keep a credential from being promoted or pruned, or lift that
    #[command(after_help = "Examples:
  keyholder rotate hold acme-prod --reason 'release weekend'
  keyholder rotate hold acme-prod --lift")]
    Hold {
        /// The credential
        credential: CredentialName,
        /// Why, for the audit log and everybody who asks for the status
        #[arg(long, value_name = "TEXT", default_value = "by hand", value_parser = reason)]
        reason: String,
        /// Lift the hold
        #[arg(long)]
        lift: bool,
    },
    /// Take a secret away at once, because it leaked
    #[command(
        after_help = "By itself the old secret dies as soon as the new one is live. Where that takes more than a minute, from the order
or from the last agreement that it needs, it dies before that; the last secret of a client that cannot be without
one (keyholder's own clients, a secrets API) not before the new one is made. --level fast waits some minutes for
consumers; --level kill takes the secret away and makes no new one. Access tokens that were made with the old
secret live on until they end, where the platform cannot revoke them. A rotation that is under way already is
made urgent.

With --from-finding the leaked secret is looked up by its fingerprint in the stores and in earlier versions. Exit
0 without a rotation: it is one that the platform refuses already. Exit 1: it is nobody's here.

Examples:
  keyholder rotate now acme-prod --reason leaked
  keyholder rotate now acme-prod --reason leaked --level fast --wait
  keyholder rotate now --from-finding 7f3a --findings scan.json
  keyholder rotate now --from-finding scan.json#7f3a --level fast"
    )]
    Now(NowArgs),
    /// Agree to something that a rotation needs agreement for
    #[command(after_help = "Examples:
  keyholder rotate approve acme-prod --start --reason 'change 4711'
  keyholder rotate approve acme-prod --prune --reason 'the batch host is gone'")]
    Approve(ApproveArgs),
}

/// What a rotation is begun with.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The credential
    credential: CredentialName,
    /// Stay until the end, and show what happens
    #[arg(long)]
    wait: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "by hand", value_parser = reason)]
    reason: String,
}

/// A run, and why a person acts on it.
#[derive(Debug, Args)]
pub(crate) struct OfRun {
    /// A run or a credential
    run: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "by hand", value_parser = reason)]
    reason: String,
    /// Stay until the end, and show what happens
    #[arg(long)]
    wait: bool,
}

/// What a run is resumed with.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    of: OfRun,
    /// Go on without the hooks that failed
    #[arg(long)]
    skip_hooks: bool,
    /// Replace the version that a store holds now: somebody wrote there by hand
    #[arg(long, value_name = "STORE=VERSION", value_parser = adopted, conflicts_with = "skip_hooks")]
    adopt: Option<(String, VersionId)>,
    /// Delete this secret on the platform: the run made it
    #[arg(long, value_name = "ID", conflicts_with_all = ["skip_hooks", "adopt", "foreign"])]
    own: Vec<String>,
    /// Leave this secret on the platform alone: it is somebody else's
    #[arg(long, value_name = "ID", conflicts_with_all = ["skip_hooks", "adopt"])]
    foreign: Vec<String>,
}

/// What an urgent rotation is begun with.
#[derive(Debug, Args)]
pub(crate) struct NowArgs {
    /// The credential; with --from-finding, the one whose secret was found
    #[arg(required_unless_present = "from_finding")]
    credential: Option<CredentialName>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", required_unless_present = "from_finding", value_parser = reason)]
    reason: Option<String>,
    /// The finding of a scan that this answers
    #[arg(long, value_name = "ID|FILE#ID")]
    from_finding: Option<String>,
    /// The file that the scan wrote [default: keyholder-findings.json]
    #[arg(long, value_name = "FILE", requires = "from_finding")]
    findings: Option<PathBuf>,
    /// How urgent it is
    #[arg(long, value_enum, default_value_t = Urgent::Revoke)]
    level: Urgent,
    /// Stay until the end, and show what happens
    #[arg(long)]
    wait: bool,
}

/// How urgent a rotation is.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Urgent {
    /// Consumers get some minutes
    Fast,
    /// The old secret dies as soon as the new one is live
    Revoke,
    /// The old secret dies now and is not replaced
    Kill,
}

/// What a person agrees to.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// A run or a credential
    run: String,
    #[command(flatten)]
    what: What,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// One of three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// To the start
    #[arg(long)]
    start: bool,
    /// To the end of the old secret without the evidence of every consumer
    #[arg(long)]
    prune: bool,
    /// To the revocation
    #[arg(long)]
    revoke: bool,
}

/// A reason that says something, on one line.
fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("say why: it stands in the audit log".to_owned()),
        1..=REASON_MAX if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!("give one line of at most {REASON_MAX} characters")),
    }
}

fn adopted(text: &str) -> Result<(String, VersionId), String> {
    let (store, version) = text
        .rsplit_once('=')
        // so is a store told that holds nothing
        .filter(|(store, version)| !store.is_empty() && !version.is_empty() && *version != "none")
        .ok_or("write the store and the version that it holds, as in store:acme-prod=7")?;
    Ok((store.to_owned(), VersionId(version.to_owned())))
}

pub(super) fn run(command: RotateCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    let loaded = context.load_file()?;
    context.start_logging_at(QUIET)?;
    Context::runtime()?.block_on(async {
        let subjects = match &command {
            RotateCommand::Status { .. } | RotateCommand::Hold { .. } | RotateCommand::Approve(_) => Subjects::None,
            RotateCommand::Plan { .. }
            | RotateCommand::Run(_)
            | RotateCommand::Resume(_)
            | RotateCommand::Abort { .. }
            | RotateCommand::Rollback { .. }
            | RotateCommand::Now(_) => Subjects::All,
        };
        let base = match &command {
            // with every store outside, the first rotation of a job may be the first thing that is ever done here
            RotateCommand::Plan { .. } | RotateCommand::Run(_) | RotateCommand::Now(_) => {
                Base::open(&loaded, &context.environment)?
            }
            RotateCommand::Status { .. }
            | RotateCommand::Hold { .. }
            | RotateCommand::Approve(_)
            | RotateCommand::Resume(_)
            | RotateCommand::Abort { .. }
            | RotateCommand::Rollback { .. } => Base::open_existing(&loaded, &context.environment)?,
        };
        let world = World::open(base, &loaded, context, subjects).await?;
        let ended = Box::pin(carry_out(command, &world, &loaded, context)).await;
        world.close().await;
        ended
    })
}

async fn carry_out(command: RotateCommand, world: &World, loaded: &Loaded, context: &Context) -> Result<Exit, Failure> {
    match command {
        RotateCommand::Plan { credential } => plan::run(world, &credential, context).await,
        RotateCommand::Status { run } => standing::run(world, run.as_deref(), loaded, context).await,
        RotateCommand::Run(arguments) => begin(world, arguments, context).await,
        RotateCommand::Now(arguments) => Box::pin(now(world, arguments, loaded, context)).await,
        RotateCommand::Resume(arguments) => {
            let order = order_of(&arguments);
            ordered(world, &arguments.of, order, context).await
        }
        RotateCommand::Abort { of, leave } => {
            let order = if leave { Order::Abandon } else { Order::Abort };
            ordered(world, &of, order, context).await
        }
        RotateCommand::Rollback { of } => ordered(world, &of, Order::Rollback, context).await,
        RotateCommand::Hold { credential, reason, lift } => hold(world, &credential, &reason, lift, context).await,
        RotateCommand::Approve(arguments) => approve(world, arguments, context).await,
    }
}

fn patience(wait: bool) -> Patience {
    if wait { Patience::UntilEnd } else { Patience::UntilWaiting }
}

async fn begin(world: &World, arguments: RunArgs, context: &Context) -> Result<Exit, Failure> {
    let actor = context.environment.actor();
    let wanted = Wanted { level: Level::Regular, actor, reason: arguments.reason };
    standing::drive(world, &arguments.credential, Some(wanted), patience(arguments.wait), context).await
}

async fn now(world: &World, arguments: NowArgs, loaded: &Loaded, context: &Context) -> Result<Exit, Failure> {
    let level = match arguments.level {
        Urgent::Fast => Level::Fast,
        Urgent::Revoke => Level::Revoke,
        Urgent::Kill => Level::Kill,
    };
    let found = match &arguments.from_finding {
        None => None,
        Some(wanted) => {
            let (file, id) = finding::place(wanted, arguments.findings.as_deref())?;
            Some(finding::read(file, id, &world.rotation.services.fingerprinter)?)
        }
    };
    let patience = patience(arguments.wait);
    let reasons: Vec<_> = arguments.reason.into_iter().chain(found.as_ref().map(Finding::in_words)).collect();
    let person = Person { actor: context.environment.actor(), reason: reasons.join(", ") };
    let wanted = Wanted { level, actor: person.actor.clone(), reason: person.reason.clone() };
    loop {
        let credential = match &found {
            None => arguments.credential.clone().ok_or_else(|| Failure::bug("neither a credential nor a finding"))?,
            Some(found) => match finding::judge(found, arguments.credential.as_ref(), world, loaded).await? {
                finding::Verdict::Rotate(credential) => credential,
                finding::Verdict::Dead { credential, why } => {
                    return Ok(already_dead(&found.id, &credential, &why, context));
                }
            },
        };
        let Some(run) = less_urgent(world, &credential, level).await? else {
            match standing::drive(world, &credential, Some(wanted.clone()), patience, context).await {
                Ok(exit) => return Ok(exit),
                // a plain run that began meanwhile is in the way
                Err(failure) if less_urgent(world, &credential, level).await?.is_none() => return Err(failure),
                Err(_) => continue,
            }
        };
        match give(world, &credential, Order::Hurry { level }, &person, context).await {
            Ok(()) => return standing::drive(world, &credential, None, patience, context).await.map_err(written),
            Err(error) if less_urgent(world, &credential, level).await?.is_some() => {
                return Err(match error {
                    NotTaken::Refused(refused) => not_hurried(&run, &refused),
                    error => world::not_taken(&error),
                });
            }
            // it ended meanwhile, or somebody else made it urgent, and that may have done what is wanted
            Err(_) => {
                let run = world.run(run.began().run).await?;
                let is_done = matches!(run.end(), Some(End::Completed { .. } | End::Killed));
                if is_done && run.began().level >= level {
                    return standing::newest(world, &credential, context).await;
                }
            }
        }
    }
}

/// The credential's unfinished run, where it is less urgent than `level`.
async fn less_urgent(world: &World, credential: &CredentialName, level: Level) -> Result<Option<Run>, Failure> {
    Ok(world.unfinished(credential).await?.filter(|run| run.began().level < level))
}

/// A run that cannot be made urgent: what its state is, and how to get a new one.
fn not_hurried(run: &Run, refused: &kh_rotation::run::Refused) -> Failure {
    let began = run.began();
    let failure = Failure::new(
        kh_core::Code::ROTATION_UNFINISHED,
        format!("{} has the unfinished run {}, and {}", began.credential, began.run, refused.why),
    );
    let failure =
        refused.next.iter().fold(failure, |failure, next| failure.hint(format!("{next} ends it as it stands")));
    failure.hint("then begin the urgent one: it takes away the secret that is live then")
}

fn already_dead(id: &str, credential: &CredentialName, why: &str, context: &Context) -> Exit {
    let answer = serde_json::json!({
        "finding": id, "credential": credential, "run_id": null, "leaked_secret": "dead", "reason": why,
    });
    context.terminal.answer(&answer, || format!("nothing was rotated: {why}\n"));
    Exit::Done
}

fn order_of(arguments: &ResumeArgs) -> Order {
    let ids = |ids: &[String]| ids.iter().cloned().map(ManagedId).collect::<Vec<_>>();
    if arguments.skip_hooks {
        return Order::SkipHooks;
    }
    if let Some((store, version)) = &arguments.adopt {
        return Order::Adopt { store: store.clone(), version: version.clone() };
    }
    if !arguments.own.is_empty() {
        return Order::Own { ids: ids(&arguments.own) };
    }
    if !arguments.foreign.is_empty() {
        return Order::Foreign { ids: ids(&arguments.foreign) };
    }
    Order::Resume
}

/// Gives an order, and says so when another process has to let go of the credential first.
async fn give(
    world: &World,
    credential: &CredentialName,
    order: Order,
    person: &Person,
    context: &Context,
) -> Result<(), NotTaken> {
    let given = orders::order(&world.rotation.services, credential, order, person);
    tokio::pin!(given);
    if let Ok(done) = tokio::time::timeout(TOLD_AFTER, &mut given).await {
        return done.map(drop);
    }
    context
        .terminal
        .note(&format!("another process works on {credential}; this waits until it lets go, 3 min at most"));
    given.await.map(drop)
}

/// A failure after the order stands in the journal: nobody needs to give it again.
fn written(failure: Failure) -> Failure {
    failure.hint(
        "the order itself is written: once that is mended, `keyholder serve`, or `keyholder rotate resume`, goes on with it",
    )
}

/// Gives an order and does what follows from it.
async fn ordered(world: &World, of: &OfRun, order: Order, context: &Context) -> Result<Exit, Failure> {
    let credential = world.credential_of(&of.run).await?;
    let person = Person { actor: context.environment.actor(), reason: of.reason.clone() };
    let resumes = order == Order::Resume;
    let goes_on = resumes && world.unfinished(&credential).await?.is_some();
    match give(world, &credential, order, &person, context).await {
        Ok(()) => {
            let driven = standing::drive(world, &credential, None, patience(of.wait), context).await;
            // a resume changes nothing by itself that is worth knowing
            driven.map_err(|failure| if resumes { failure } else { written(failure) })
        }
        // another process was at work on the run, and has ended it meanwhile
        Err(NotTaken::NoRun(_)) if goes_on => standing::newest(world, &credential, context).await,
        Err(error) => Err(world::not_taken(&error)),
    }
}

async fn hold(
    world: &World,
    credential: &CredentialName,
    reason: &str,
    lift: bool,
    context: &Context,
) -> Result<Exit, Failure> {
    if !world.is_configured(credential) {
        return Err(world.unknown(credential));
    }
    let person = Person { actor: context.environment.actor(), reason: reason.to_owned() };
    let services = &world.rotation.services;
    let was = services.journal.hold(credential).await.map_err(|error| world::journal(&error))?;
    let done = if lift && was.is_none() {
        Ok(())
    } else if lift {
        orders::unhold(services, credential, &person).await
    } else {
        orders::hold(services, credential, &person).await
    };
    done.map_err(|error| world::journal(&error))?;
    let answer = serde_json::json!({ "credential": credential, "held": !lift, "reason": reason });
    context.terminal.answer(&answer, || {
        if lift && was.is_none() {
            format!("{credential} was not on hold\n")
        } else if lift {
            format!("the hold on {credential} is lifted\n")
        } else {
            format!("{credential} is on hold: nothing is promoted or pruned\n")
        }
    });
    Ok(Exit::Done)
}

async fn approve(world: &World, arguments: ApproveArgs, context: &Context) -> Result<Exit, Failure> {
    let credential = world.credential_of(&arguments.run).await?;
    let (of, word) = match &arguments.what {
        What { start: true, .. } => (ApprovalOf::Start, "start"),
        What { prune: true, .. } => (ApprovalOf::Prune, "prune"),
        What { .. } => (ApprovalOf::Revoke, "revoke"),
    };
    let person = Person { actor: context.environment.actor(), reason: arguments.reason };
    let taken = orders::approve(&world.rotation.services, &credential, of, &person).await;
    let run = taken.map_err(|error| world::not_taken(&error))?;
    let next = format!("keyholder rotate resume {run}");
    let answer = serde_json::json!({
        "run_id": run, "credential": credential, "approved": word, "actor": person.actor, "reason": person.reason,
        "next_command": next,
    });
    context.terminal.answer(&answer, || format!("{} agreed to the {word} of {run}\n  type     {next}\n", person.actor));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests;
