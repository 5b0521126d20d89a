//! Driving a run to where it waits or ends, and telling how runs stand.
//!
//! Invariant: the answer is what the journal holds after the last step; an exit of 0 means that the new secret is live
//! and the old one dead, or that what a person ordered is done.

use kh_core::{
    CredentialName, UnixMillis,
    port::rotation_journal::{Sighting, StoredRun},
};
use kh_rotation::{
    End, State, Status,
    status::{EvidenceLine, status},
};
use kh_rotator::{Outlook, Patience, Standing, Wanted, begin::readable, drive as driven, open};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    progress::{Progress, rest},
    world::{self, World},
};
use crate::{
    cli::{Context, Loaded, StopSignal, secret::time},
    output::{Exit, Failure, Table},
};

/// A command that does not wait ends when nothing happened for so long: short waits are sat out, also one after another.
const QUIET_FOR: std::time::Duration = std::time::Duration::from_secs(10);

/// Resumes the credential's run or begins the one that is wanted, works until `patience` ends, and answers.
pub(super) async fn drive(
    world: &World,
    name: &CredentialName,
    wanted: Option<Wanted>,
    patience: Patience,
    context: &Context,
) -> Result<Exit, Failure> {
    let subject = world.subject(name)?;
    let services = &world.rotation.services;
    let session = open(services, &subject, wanted).await.map_err(|error| world::not_begun(&error))?;
    let Some(mut session) = session else {
        // an order ended it: nothing is left to be done
        return newest(world, name, context).await;
    };
    let run = session.run().began().run;
    let mut lines = session.watch();
    let mut progress = Progress::new(context);
    let stop = CancellationToken::new();
    let mut signal = StopSignal::new()?;
    let driving = driven(&mut session, services, patience, &stop);
    tokio::pin!(driving);
    let mut redraw = tokio::time::interval(std::time::Duration::from_secs(1));
    let (mut quiet_since, mut seen) = (services.clock.now().mono, 0);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut driving => break result,
            changed = lines.changed() => {
                let timeline = lines.borrow_and_update().clone();
                progress.show(&timeline, services.now());
                if changed.is_err() {
                    break (&mut driving).await;
                }
            }
            () = signal.wait() => stop.cancel(),
            _ = redraw.tick() => {
                let (timeline, now) = (lines.borrow().clone(), services.clock.now());
                progress.show(&timeline, now.wall);
                let newest = timeline.lines.back().map_or(0, |line| line.seq);
                if newest != seen {
                    (seen, quiet_since) = (newest, now.mono);
                }
                let waits = matches!(timeline.outlook, Outlook::Waiting { .. });
                if patience == Patience::UntilWaiting && waits && now.mono.saturating_sub(quiet_since) >= QUIET_FOR {
                    stop.cancel();
                }
            }
        }
    };
    let last = lines.borrow().clone();
    progress.show(&last, services.now());
    progress.finish();
    let standing = result.map_err(|error| world::halt(&error))?;
    let stored = services.journal.run(run).await.map_err(|error| world::journal(&error))?;
    let mut status = told(world, &stored, standing.as_ref()).await?;
    if let (None, Outlook::Waiting { until, why }) = (&standing, last.outlook) {
        (status.next_at, status.reason) = (Some(until), Some(why));
    }
    answer(&status, context);
    Ok(exit_of(standing.as_ref()))
}

/// A stop in between counts as waiting: the next command goes on.
fn exit_of(standing: Option<&Standing>) -> Exit {
    match standing {
        None | Some(Standing::Waiting { .. }) => Exit::Unfinished,
        Some(Standing::NeedsOperator(_)) => Exit::Operator,
        Some(Standing::Ended(
            End::Completed { .. } | End::Killed | End::RolledBack { .. } | End::Aborted { .. } | End::Abandoned { .. },
        )) => Exit::Done,
    }
}

async fn newest(world: &World, name: &CredentialName, context: &Context) -> Result<Exit, Failure> {
    let journal = &world.rotation.services.journal;
    let runs = journal.runs(Some(name), 1).await.map_err(|error| world::journal(&error))?;
    let Some(stored) = runs.first() else {
        context.terminal.answer(&json!({ "credential": name, "run_id": null }), || {
            format!("{name} was never rotated by keyholder\n")
        });
        return Ok(Exit::Done);
    };
    let status = told(world, stored, None).await?;
    answer(&status, context);
    Ok(exit_of_state(status.state))
}

fn exit_of_state(state: State) -> Exit {
    match state {
        State::NeedsOperator => Exit::Operator,
        state if state.ended() => Exit::Done,
        _ => Exit::Unfinished,
    }
}

/// The status of a stored run with what consumers were seen with.
async fn told(world: &World, stored: &StoredRun, standing: Option<&Standing>) -> Result<Status, Failure> {
    let unreadable = || {
        let told = format!("the records of the run {} do not fit together", stored.id);
        Failure::new(kh_core::Code::ROTATION_NEEDS_OPERATOR, told)
            .hint("it was written by a newer keyholder, or is damaged")
    };
    let run = readable(stored).ok_or_else(unreadable)?;
    let mut told = status(&run, None, &[]);
    if let Some(Standing::Waiting { until, why }) = standing {
        told.next_at = Some(*until);
        told.reason = Some(why.to_string());
    }
    if told.next_command.is_none() && !told.state.ended() {
        told.next_command = Some(format!("keyholder rotate resume {}", told.run_id));
    }
    let journal = &world.rotation.services.journal;
    let sightings = journal.sightings(&stored.credential).await.map_err(|error| world::journal(&error))?;
    let of_new = |seen: &&Sighting| told.new.as_ref().is_some_and(|new| new.fingerprint == seen.fingerprint);
    told.evidence = sightings
        .iter()
        .filter(of_new)
        .map(|seen| EvidenceLine {
            consumer: seen.consumer.clone(),
            grade: Some(seen.grade),
            seen_version: seen.version.clone(),
            at: Some(seen.at),
        })
        .collect();
    Ok(told)
}

/// One run, in the words of the contract.
fn answer(status: &Status, context: &Context) {
    context.terminal.answer(status, || text(status));
}

fn text(status: &Status) -> String {
    let mut lines = vec![format!("{} ({}): {}", status.credential, status.strategy.as_str(), status.state.as_str())];
    lines.push(format!("  run      {}", status.run_id));
    for (word, secret) in [("old", &status.old), ("new", &status.new)] {
        if let Some(secret) = secret {
            let version = secret.version.as_ref().map(|version| format!(" at version {version}")).unwrap_or_default();
            lines.push(format!("  {word}      {}{version}", secret.fingerprint.as_str()));
        }
    }
    for seen in &status.evidence {
        let at = seen.at.map(time).unwrap_or_default();
        lines.push(format!("  seen     {} with the new secret at {at}", seen.consumer));
    }
    lines.extend(status.reason.iter().map(|reason| format!("  waits    {reason}")));
    lines.extend(status.next_at.iter().map(|at| format!("  next     {}", time(*at))));
    lines.extend(status.next_command.iter().map(|command| format!("  type     {command}")));
    lines.push(String::new());
    lines.join("\n")
}

/// `rotate status`: one, or all.
pub(super) async fn run(world: &World, run: Option<&str>, loaded: &Loaded, context: &Context) -> Result<Exit, Failure> {
    let journal = &world.rotation.services.journal;
    if let Some(text) = run {
        if let Ok(id) = text.parse() {
            let stored = journal.run(id).await.map_err(|error| world::journal(&error))?;
            let status = told(world, &stored, None).await?;
            answer(&status, context);
            return Ok(exit_of_state(status.state));
        }
        let name = world.credential_of(text).await?;
        return newest(world, &name, context).await;
    }
    let mut all = Vec::new();
    let mut exit = Exit::Done;
    for name in world.configured() {
        let newest = journal.runs(Some(name), 1).await.map_err(|error| world::journal(&error))?;
        let hold = journal.hold(name).await.map_err(|error| world::journal(&error))?;
        let status = match newest.first() {
            Some(stored) => Some(told(world, stored, None).await?),
            None => None,
        };
        exit = match (status.as_ref().map_or(Exit::Done, |status| exit_of_state(status.state)), exit) {
            (Exit::Operator, _) | (_, Exit::Operator) => Exit::Operator,
            (Exit::Unfinished, _) | (_, Exit::Unfinished) => Exit::Unfinished,
            (own, _) => own,
        };
        let ended_at = newest.first().and_then(|stored| stored.ended_at);
        all.push((name, status, hold, ended_at));
    }
    let rows: Vec<Value> = all
        .iter()
        .map(|(name, status, hold, ended_at)| {
            json!({ "credential": name, "run": status, "hold": hold, "ended_at": ended_at.map(time) })
        })
        .collect();
    let now = world.rotation.services.now();
    context.terminal.answer(&json!({ "rotations": rows }), || {
        if all.is_empty() {
            return format!("{} says of no credential how it is rotated\n", loaded.file_name());
        }
        let mut table = Table::new(&["credential", "state", "strategy", "since", "hold"]);
        for (name, status, hold, ended_at) in &all {
            let of = |cell: fn(&Status) -> String| status.as_ref().map(cell).unwrap_or_default();
            let since = ended_at.map(|at: UnixMillis| rest(now.since(at))).unwrap_or_default();
            table.row(vec![
                name.to_string(),
                status.as_ref().map_or_else(|| "never".to_owned(), |status| status.state.as_str().to_owned()),
                of(|status| status.strategy.as_str().to_owned()),
                since,
                hold.as_ref().map(|hold| hold.reason.clone()).unwrap_or_default(),
            ]);
        }
        table.text()
    });
    Ok(exit)
}
