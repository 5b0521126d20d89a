//! How a stored run stands: its state, what consumers were seen with, what it waits for, and what a person may type.
//!
//! Invariant: made from the journal and the configuration alone, so that it costs no call to a platform or a store; each
//! consumer is told once, with the best that is known of it.

use std::collections::BTreeMap;

use kh_core::{
    Fingerprint, UnixMillis,
    port::rotation_journal::{ApprovalOf, Sighting, StoredRun},
};
use kh_rotation::{
    Decision, Policy, Run, Status, View, Why, decide,
    status::{EvidenceLine, command, status},
    view::JournalView,
};
use kh_rotator::{Standing, begin::readable};
use serde::Serialize;

use super::world::{self, World};
use crate::{
    cli::{Context, secret::time},
    output::Failure,
};

/// A status, and the command that does without what the run waits for, where there is one.
pub(super) struct Told {
    pub(super) status: Status,
    pub(super) instead: Option<String>,
}

/// The status of a stored run. `standing` is what a process that worked on it knows better.
pub(super) async fn told(world: &World, stored: &StoredRun, standing: Option<&Standing>) -> Result<Told, Failure> {
    let unreadable = || {
        let told = format!("the records of the run {} do not fit together", stored.id);
        Failure::new(kh_core::Code::ROTATION_NEEDS_OPERATOR, told)
            .hint("it was written by a newer keyholder, or is damaged")
    };
    let run = readable(stored).ok_or_else(unreadable)?;
    let journal = &world.rotation.services.journal;
    let of = &stored.credential;
    let view = JournalView {
        at: world.rotation.services.now(),
        hold: journal.hold(of).await.map_err(|error| world::journal(&error))?,
        approvals: journal.approvals(stored.id).await.map_err(|error| world::journal(&error))?,
        sightings: journal.sightings(of).await.map_err(|error| world::journal(&error))?,
    };
    let mut status = status(&run, None, &[]);
    status.evidence = status.new.as_ref().map(|new| evidence(&view.sightings, &new.fingerprint)).unwrap_or_default();
    if status.state.ended() {
        return Ok(Told { status, instead: None });
    }
    let policy = world.policy(of);
    if let Some(need) = run.need() {
        if agreed(&run, policy.as_ref(), &view) && need.next == command::approve(&run, ApprovalOf::Prune) {
            status.next_command = Some(command::resume(&run));
        }
        return Ok(Told { status, instead: None });
    }
    let waits = match standing {
        Some(Standing::Waiting { until, why }) => Some((*until, why.clone())),
        _ => policy.as_ref().and_then(|policy| waits(&run, policy, view)),
    };
    let mut instead = None;
    status.next_command = Some(command::resume(&run));
    if let Some((until, why)) = waits {
        match &why {
            Why::Approval { of, .. } => status.next_command = Some(command::approve(&run, *of)),
            Why::Hold(_) => status.next_command = Some(format!("keyholder rotate hold {of} --lift")),
            Why::Consumers(blocks) if blocks.iter().any(kh_rotation::Block::overridable) => {
                instead = Some(command::approve(&run, ApprovalOf::Prune));
            }
            Why::Consumers(_) | Why::Calendar | Why::Failure(_) | Why::Settling | Why::Verification | Why::Watch => {}
        }
        (status.next_at, status.reason) = (Some(until), Some(why.to_string()));
    }
    Ok(Told { status, instead })
}

/// Whether as many persons agreed to go on without evidence as must.
fn agreed(run: &Run, policy: Option<&Policy>, view: &JournalView) -> bool {
    let need = policy.map_or(1, |policy| policy.approvals.prune);
    let given = view.approvals.iter().filter(|given| given.of == ApprovalOf::Prune);
    let persons: std::collections::BTreeSet<_> = given.map(|given| given.actor.as_str()).collect();
    run.need().is_some() && persons.len() >= need
}

/// What the core waits for, as far as the journal alone tells.
fn waits(run: &Run, policy: &Policy, journal: JournalView) -> Option<(UnixMillis, Why)> {
    let now = journal.at;
    let view = View { journal: Some(journal), ..View::default() };
    match decide(run, &view, policy, now) {
        Decision::Wait { until, why } => Some((until, why)),
        Decision::Record(_) | Decision::Do(_) | Decision::Look(_) | Decision::NeedsOperator(_) | Decision::Ended => {
            None
        }
    }
}

/// The best sighting of each consumer with the secret of this fingerprint.
fn evidence(sightings: &[Sighting], of: &Fingerprint) -> Vec<EvidenceLine> {
    let mut best: BTreeMap<&str, &Sighting> = BTreeMap::new();
    for seen in sightings.iter().filter(|seen| seen.fingerprint == *of) {
        let known = best.entry(&seen.consumer).or_insert(seen);
        if (seen.grade, seen.at) > (known.grade, known.at) {
            *known = seen;
        }
    }
    let line = |seen: &Sighting| EvidenceLine {
        consumer: seen.consumer.clone(),
        grade: Some(seen.grade),
        seen_version: seen.version.clone(),
        at: Some(seen.at),
    };
    best.into_values().map(line).collect()
}

/// One run, in the words of the contract.
pub(super) fn answer(told: &Told, context: &Context) {
    let answer = Answer { status: &told.status, other_commands: told.instead.as_slice() };
    context.terminal.answer(&answer, || text(told));
}

/// What is told to a program.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// What may be typed in place of the next command.
    other_commands: &'a [String],
}

fn text(told: &Told) -> String {
    let Told { status, instead } = told;
    let mut lines = vec![format!("{} ({}): {}", status.credential, status.strategy.as_str(), status.state.as_str())];
    lines.push(format!("  run      {}", status.run_id));
    for (word, secret) in [("old", &status.old), ("new", &status.new)] {
        if let Some(secret) = secret {
            let version = secret.version.as_ref().map(|version| format!(" at version {version}")).unwrap_or_default();
            lines.push(format!("  {word}      {}{version}", secret.fingerprint.as_str()));
        }
    }
    lines.extend(status.gap.iter().map(|gap| {
        let from = time(gap.from);
        match gap.ms {
            Some(ms) => format!("  gap      no login for {ms} ms at the most, from {from}"),
            None => format!("  gap      no login since {from}"),
        }
    }));
    for seen in &status.evidence {
        let at = seen.at.map(time).unwrap_or_default();
        lines.push(format!("  seen     {} with the new secret at {at}", seen.consumer));
    }
    lines.extend(status.tokens.iter().map(|tokens| format!("  tokens   {tokens}")));
    let waits = if status.state == kh_rotation::State::NeedsOperator { "why" } else { "waits" };
    lines.extend(status.reason.iter().map(|reason| format!("  {waits:<8} {reason}")));
    lines.extend(status.next_at.iter().map(|at| format!("  next     {}", time(*at))));
    lines.extend(status.next_command.iter().map(|command| format!("  type     {command}")));
    lines.extend(instead.iter().map(|command| format!("  or       {command}")));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use kh_core::{port::rotation_journal::Grade, rotation::VersionId};

    use super::*;

    #[test]
    fn each_consumer_is_told_once_with_the_best_that_is_known_of_it() {
        let print = |digit: &str| Fingerprint::try_from(digit.repeat(16)).unwrap();
        let seen = |consumer: &str, digit: &str, grade, at: u64| Sighting {
            credential: "app".parse().unwrap(),
            consumer: consumer.to_owned(),
            fingerprint: print(digit),
            version: Some(VersionId(at.to_string())),
            grade,
            at: UnixMillis(at),
            alive_until: UnixMillis(at + 1),
        };
        let all = [
            seen("billing", "1", Grade::Fetched, 3),
            seen("billing", "1", Grade::Used, 2),
            seen("billing", "0", Grade::Used, 9),
            seen("batch", "1", Grade::Fetched, 1),
            seen("batch", "1", Grade::Fetched, 5),
        ];
        let lines: Vec<_> = evidence(&all, &print("1"))
            .into_iter()
            .map(|line| (line.consumer, line.grade.unwrap(), line.at.unwrap().0))
            .collect();
        assert_eq!(lines, [("batch".to_owned(), Grade::Fetched, 5), ("billing".to_owned(), Grade::Used, 2)]);
    }
}
