//! `keyholder rotate plan`: what a rotation would meet and do. Changes nothing.
//!
//! Invariant: asks by reading alone; what cannot be found out without a change is told as unknown.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt, stream};
use kh_core::{
    CredentialName, UnixMillis,
    credential::CredentialDocument,
    port::{
        JournalError, ManageError, Strategy, TargetError,
        rotation_journal::{ApprovalOf, Sighting},
        secret_target::Right,
    },
};
use kh_rotation::{Run, due, policy::Reads};
use kh_rotator::{AtRest, NotBegun, Subject, age, at_rest, given_up_until};
use serde::Serialize;

use super::world::World;
use crate::{
    cli::{Context, secret::time},
    output::{Exit, Failure},
};

/// Credentials looked at together: each asks its platform and its stores a handful of times.
const TOGETHER: usize = 8;

/// What was found out about one credential.
#[derive(Serialize)]
struct Plan {
    credential: String,
    strategy: Option<&'static str>,
    generation: Option<u64>,
    created_at: Option<String>,
    due_at: Option<String>,
    unfinished_run: Option<String>,
    stores: Vec<StorePlan>,
    consumers: Vec<ConsumerPlan>,
    free_places: Option<u32>,
    steps: Vec<String>,
    obstacles: Vec<String>,
    warnings: Vec<String>,
    /// What could not be asked; the plan is not whole then.
    unreached: Vec<String>,
}

#[derive(Serialize)]
struct ConsumerPlan {
    name: String,
    /// Whether it reads the store itself.
    direct: bool,
    /// When it was seen last, with whatever secret.
    last_seen: Option<String>,
}

#[derive(Serialize)]
struct StorePlan {
    store: String,
    kind: &'static str,
    version: Option<String>,
    read: Option<Right>,
    write: Option<Right>,
    compare_and_set: bool,
}

pub(super) async fn run(world: &World, names: &[CredentialName], context: &Context) -> Result<Exit, Failure> {
    let chosen: Vec<_> = if names.is_empty() { world.configured().to_vec() } else { names.to_vec() };
    let subjects = chosen.iter().map(|name| world.subject(name)).collect::<Result<Vec<_>, _>>()?;
    let plans: Vec<Plan> =
        stream::iter(subjects).map(|subject| look(world, subject)).buffered(TOGETHER).collect().await;
    let blocked = plans.iter().any(|plan| !plan.obstacles.is_empty());
    context.terminal.answer(&serde_json::json!({ "plans": plans }), || {
        if plans.is_empty() {
            return "no credential has a [credential.NAME.rotation]\n".to_owned();
        }
        plans.iter().map(text).collect::<Vec<_>>().join("\n")
    });
    let partial = plans.iter().any(|plan| !plan.unreached.is_empty());
    Ok(match (blocked, partial) {
        (true, _) => Exit::No,
        (false, true) => Exit::Unfinished,
        (false, false) => Exit::Done,
    })
}

async fn look(world: &World, subject: Arc<Subject>) -> Plan {
    let strategy = subject.strategy();
    let mut plan = Plan {
        credential: subject.credential.to_string(),
        strategy: strategy.map(Strategy::as_str),
        generation: None,
        created_at: None,
        due_at: None,
        unfinished_run: None,
        stores: Vec::new(),
        consumers: Vec::new(),
        free_places: None,
        steps: strategy.map(|strategy| steps(&subject, strategy)).unwrap_or_default(),
        obstacles: Vec::new(),
        warnings: Vec::new(),
        unreached: Vec::new(),
    };
    let mut unfinished = None;
    match world.unfinished(&subject.credential).await {
        Ok(run) => {
            plan.unfinished_run = run.as_ref().map(|run| run.began().run.to_string());
            unfinished = run;
        }
        Err(failure) => plan.obstacles.push(failure.in_one_line()),
    }
    match age(&subject).await {
        Ok(age) => {
            let calendar = subject.times.calendar(world.rotation.services.now());
            let policy = kh_rotation::Policy { calendar, ..subject.policy.clone() };
            plan.generation = Some(age.generation);
            plan.created_at = age.created_at.map(time);
            plan.due_at = age.created_at.map(|at| time(due(&policy, &subject.credential, age.generation, at)));
        }
        // told with the store
        Err(NotBegun::Store { .. }) => {}
        Err(error) => plan.obstacles.push(error.to_string()),
    }
    if let Err(error) = consumers(world, &subject, unfinished.as_ref(), &mut plan).await {
        plan.obstacles.push(error.to_string());
    }
    stores(&subject, &mut plan).await;
    platform(world, &subject, strategy, &mut plan).await;
    plan
}

/// Who uses the secret, who was not seen, and what persons have to say.
async fn consumers(
    world: &World,
    subject: &Subject,
    unfinished: Option<&Run>,
    plan: &mut Plan,
) -> Result<(), JournalError> {
    let services = &world.rotation.services;
    let (journal, now) = (&services.journal, services.now());
    let sightings = journal.sightings(&subject.credential).await?;
    let policy = &subject.policy;
    for consumer in policy.consumers.iter().filter(|consumer| consumer.waived.is_none()) {
        let of = |name: &str| {
            name.strip_prefix(consumer.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let last = sightings.iter().filter(|seen| of(&seen.consumer)).map(|seen| seen.at).max();
        if last.is_none() {
            plan.warnings.push(format!("{} was never seen: the old secret is kept until it is", consumer.name));
        }
        let direct = consumer.reads == Reads::Secret;
        plan.consumers.push(ConsumerPlan { name: consumer.name.clone(), direct, last_seen: last.map(time) });
    }
    let swap = subject.strategy() == Some(Strategy::Swap);
    if plan.consumers.is_empty() && !swap && sightings.is_empty() {
        let told = "no consumer is declared and none was seen: the old secret is kept until one is, or a person agrees";
        plan.warnings.push(told.to_owned());
    }
    if let Some(hold) = journal.hold(&subject.credential).await? {
        plan.warnings.push(format!("on hold, nothing is promoted or deleted: {}", hold.reason));
    }
    if let Some(until) = given_up_until(services, &subject.credential).await?.filter(|until| *until > now) {
        plan.warnings.push(format!("the last run was given up: the schedule begins none before {}", time(until)));
    }
    let need = policy.approvals.start;
    if need > 0 {
        plan.warnings.push(format!("{need} person(s) must agree to the start"));
    }
    if swap {
        direct_readers(world, subject, unfinished, &sightings, now, plan).await?;
    }
    Ok(())
}

/// A swap takes the secret away from whoever reads it: that needs a person's word, which stands in the audit log.
async fn direct_readers(
    world: &World,
    subject: &Subject,
    unfinished: Option<&Run>,
    sightings: &[Sighting],
    now: UnixMillis,
    plan: &mut Plan,
) -> Result<(), JournalError> {
    let policy = &subject.policy;
    let reads_tokens = |name: &str| {
        let of = |base: &str| name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        policy.consumers.iter().any(|consumer| consumer.reads == Reads::Tokens && of(&consumer.name))
    };
    let declared = policy.consumers.iter().filter(|consumer| consumer.reads == Reads::Secret);
    let mut direct: Vec<_> = declared.map(|consumer| consumer.name.clone()).collect();
    let alive = sightings.iter().filter(|seen| seen.alive_until > now && !reads_tokens(&seen.consumer));
    direct.extend(alive.map(|seen| seen.consumer.clone()));
    direct.dedup();
    if direct.is_empty() {
        return Ok(());
    }
    let (direct, name) = (direct.join(", "), &subject.credential);
    let given = match unfinished {
        Some(run) => world.rotation.services.journal.approvals(run.began().run).await?,
        None => Vec::new(),
    };
    let given: Vec<_> = given.into_iter().filter(|given| given.of == ApprovalOf::Prune).collect();
    let persons: BTreeSet<_> = given.iter().map(|given| given.actor.as_str()).collect();
    if persons.len() >= policy.approvals.prune.max(1) {
        let said = given.iter().map(|given| format!("{} ({})", given.actor, given.reason)).collect::<Vec<_>>();
        plan.warnings.push(format!("{direct} reads the store itself; overridden by {}", said.join(", ")));
        return Ok(());
    }
    plan.obstacles.push(format!(
        "swap takes the old secret away at once, and {direct} reads the store itself: use pair, or let a person agree \
         when the run asks: keyholder rotate run {name}, keyholder rotate approve {name} --prune --reason TEXT"
    ));
    Ok(())
}

async fn stores(subject: &Subject, plan: &mut Plan) {
    for (at, store) in subject.stores.iter().enumerate() {
        let traits = store.target.traits();
        let mut row = StorePlan {
            store: store.name.clone(),
            kind: traits.kind,
            version: None,
            read: None,
            write: None,
            compare_and_set: traits.compare_and_set,
        };
        match store.target.check(&store.path).await {
            Ok(found) => {
                for (right, verb) in [(found.read, "read"), (found.write, "write")] {
                    if right == Right::Denied {
                        plan.obstacles.push(format!("keyholder may not {verb} {}", store.name));
                    }
                }
                if at == 0 && found.live.is_none() && found.read != Right::Denied {
                    plan.obstacles
                        .push(format!("{} holds nothing yet: put the credential's document there", store.name));
                }
                row.version = found.live.map(|version| version.to_string());
                (row.read, row.write) = (Some(found.read), Some(found.write));
                plan.warnings.extend(found.warnings.into_iter().map(|warning| format!("{}: {warning}", store.name)));
            }
            Err(error @ (TargetError::Unavailable(_) | TargetError::Throttled(_) | TargetError::Unknown(_))) => {
                plan.unreached.push(format!("{}: {error}", store.name));
            }
            Err(error) => plan.obstacles.push(format!("{}: {error}", store.name)),
        }
        plan.stores.push(row);
    }
}

async fn platform(world: &World, subject: &Subject, strategy: Option<Strategy>, plan: &mut Plan) {
    let Some(strategy) = strategy else {
        plan.obstacles.push("the platform has no way to rotate this credential as it is configured".to_owned());
        return;
    };
    let Some(first) = subject.stores.first() else { return };
    let current = match first.target.live(&first.path).await {
        Ok(live) => CredentialDocument::parse(&live.value).map_err(|error| error.to_string()),
        // told with the store
        Err(_) => return,
    };
    let current = match current {
        Ok(current) => current,
        Err(problem) => return plan.obstacles.push(format!("{}: {problem}", first.name)),
    };
    match at_rest(&world.rotation.services, subject, &current).await {
        // a platform that cannot be asked is told with the check
        Ok(None) | Err(NotBegun::Platform(_)) => {}
        Ok(Some(why)) => {
            plan.due_at = None;
            plan.warnings.push(match why {
                AtRest::Killed => format!(
                    "the secret was taken away without a replacement: the schedule begins none until another one is in {}",
                    first.name
                ),
                AtRest::SwitchedOff => {
                    "the newest run was to take the secret away without a replacement, and the client is switched off: \
                     the schedule begins none while it is"
                        .to_owned()
                }
            });
        }
        Err(error) => plan.obstacles.push(error.to_string()),
    }
    match subject.management.check(&current, strategy, subject.by).await {
        Ok(found) => {
            plan.obstacles.extend(found.obstacles);
            plan.warnings.extend(found.warnings);
            plan.free_places = found.free;
        }
        Err(ManageError::Denied { platform_code, hint }) => {
            plan.obstacles.push(format!("the rotator may not look at the platform ({platform_code}): {hint}"));
        }
        Err(error @ (ManageError::NotDone { .. } | ManageError::Throttled { .. } | ManageError::Unknown { .. })) => {
            plan.unreached.push(format!("the platform: {error}"));
        }
        Err(error) => plan.obstacles.push(format!("the platform: {error}")),
    }
}

/// What a run would do, in order.
fn steps(subject: &Subject, strategy: Strategy) -> Vec<String> {
    let policy = &subject.policy;
    let span = |span: std::time::Duration| crate::config::duration::format(span);
    let mut steps = vec![match strategy {
        Strategy::Overlap => "make a second secret of the same client".to_owned(),
        Strategy::Pair => "make a second client with everything that the first one has".to_owned(),
        Strategy::Swap => "fetch a fresh token, then regenerate the one secret: the old one is dead at once".to_owned(),
    }];
    let verification = &policy.verification;
    let within = span(verification.deadline);
    let swap = strategy == Strategy::Swap;
    // nobody can log in until it is live, so that the other logins come afterwards
    let first = if swap { "once".to_owned() } else { format!("{} times", verification.successes) };
    steps.push(format!("log in with it {first} within {within}"));
    steps.extend(
        subject.stores.iter().map(|store| format!("write it to {} beside the live one, and read it back", store.name)),
    );
    steps.extend(subject.stores.iter().map(|store| format!("make it live in {}", store.name)));
    steps.extend(subject.hooks.iter().map(|hook| hook.describe()));
    if swap && verification.successes > 1 {
        steps.push(format!("log in with it {} times more within {within}", verification.successes - 1));
    }
    if !swap {
        steps.push(format!(
            "keep both for {} at least, until every consumer was seen with the new one and nobody with the old one for {}",
            span(policy.overlap_min),
            span(policy.quiet)
        ));
        if subject.management.traits().reversible_stop {
            steps.push("make the old one inactive and watch".to_owned());
        }
        steps.push("delete the old one and watch".to_owned());
    }
    steps
}

fn text(plan: &Plan) -> String {
    let mut lines = vec![format!("{} ({})", plan.credential, plan.strategy.unwrap_or("no way"))];
    let told = |word: &str, value: &Option<String>| value.as_ref().map(|value| format!("  {word:<9} {value}"));
    lines.extend(told("made", &plan.created_at));
    lines.extend(told("due", &plan.due_at));
    lines.extend(told("run", &plan.unfinished_run));
    lines.extend(plan.stores.iter().map(|store| {
        let version = store.version.as_deref().unwrap_or("nothing yet");
        format!("  store     {} ({}, version {version})", store.store, store.kind)
    }));
    lines.extend(plan.consumers.iter().map(|consumer| {
        let reads = if consumer.direct { "reads the store" } else { "gets tokens" };
        let seen = consumer.last_seen.as_ref().map_or("never seen".to_owned(), |at| format!("last seen {at}"));
        format!("  consumer  {} ({reads}, {seen})", consumer.name)
    }));
    lines.extend(plan.steps.iter().enumerate().map(|(at, step)| format!("  {:>2}. {step}", at + 1)));
    lines.extend(plan.warnings.iter().map(|warning| format!("  warning:  {warning}")));
    lines.extend(plan.unreached.iter().map(|what| format!("  unknown:  {what}")));
    lines.extend(plan.obstacles.iter().map(|obstacle| format!("  obstacle: {obstacle}")));
    lines.push(String::new());
    lines.join("\n")
}
