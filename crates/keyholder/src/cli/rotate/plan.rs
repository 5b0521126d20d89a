//! `keyholder rotate plan`: what a rotation would meet and do. Changes nothing.
//!
//! Invariant: asks by reading alone; what cannot be found out without a change is told as unknown.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kh_core::{
    CredentialName,
    credential::CredentialDocument,
    port::{Strategy, secret_target::Right},
};
use kh_rotation::{due, policy::Reads};
use kh_rotator::{Subject, age};
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
    consumers: Vec<String>,
    free_places: Option<u32>,
    steps: Vec<String>,
    obstacles: Vec<String>,
    warnings: Vec<String>,
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
    Ok(if blocked { Exit::No } else { Exit::Done })
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
        consumers: subject
            .policy
            .consumers
            .iter()
            .filter(|consumer| consumer.waived.is_none())
            .map(|consumer| consumer.name.clone())
            .collect(),
        free_places: None,
        steps: strategy.map(|strategy| steps(&subject, strategy)).unwrap_or_default(),
        obstacles: Vec::new(),
        warnings: Vec::new(),
    };
    match world.unfinished(&subject.credential).await {
        Ok(run) => plan.unfinished_run = run.map(|run| run.began().run.to_string()),
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
        Err(error) => plan.obstacles.push(error.to_string()),
    }
    stores(&subject, &mut plan).await;
    platform(&subject, strategy, &mut plan).await;
    plan
}

async fn stores(subject: &Subject, plan: &mut Plan) {
    for store in &subject.stores {
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
                row.version = found.live.map(|version| version.to_string());
                (row.read, row.write) = (Some(found.read), Some(found.write));
                plan.warnings.extend(found.warnings.into_iter().map(|warning| format!("{}: {warning}", store.name)));
            }
            Err(error) => plan.obstacles.push(format!("{}: {error}", store.name)),
        }
        plan.stores.push(row);
    }
}

async fn platform(subject: &Subject, strategy: Option<Strategy>, plan: &mut Plan) {
    let Some(strategy) = strategy else {
        plan.obstacles.push("the platform has no way to rotate this credential as it is configured".to_owned());
        return;
    };
    let direct: Vec<_> = subject
        .policy
        .consumers
        .iter()
        .filter(|consumer| consumer.reads == Reads::Secret)
        .map(|consumer| consumer.name.as_str())
        .collect();
    if strategy == Strategy::Swap && !direct.is_empty() {
        plan.obstacles.push(format!(
            "swap takes the old secret away at once, and {} reads the store itself: use pair, or take `direct` out",
            direct.join(", ")
        ));
    }
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
    match subject.management.check(&current, strategy, subject.by).await {
        Ok(found) => {
            plan.obstacles.extend(found.obstacles);
            plan.warnings.extend(found.warnings);
            plan.free_places = found.free;
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
    steps.push(format!("log in with it {} times within {}", verification.successes, span(verification.deadline)));
    steps.extend(
        subject.stores.iter().map(|store| format!("write it to {} beside the live one, and read it back", store.name)),
    );
    steps.extend(subject.stores.iter().map(|store| format!("make it live in {}", store.name)));
    steps.extend(subject.hooks.iter().map(|hook| hook.describe()));
    if strategy != Strategy::Swap {
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
    lines.extend(plan.consumers.iter().map(|consumer| format!("  consumer  {consumer}")));
    lines.extend(plan.steps.iter().enumerate().map(|(at, step)| format!("  {:>2}. {step}", at + 1)));
    lines.extend(plan.warnings.iter().map(|warning| format!("  warning:  {warning}")));
    lines.extend(plan.obstacles.iter().map(|obstacle| format!("  obstacle: {obstacle}")));
    lines.push(String::new());
    lines.join("\n")
}
