//! Driving a run to where it waits or ends, and telling how runs stand.
//!
//! Invariant: the answer is what the journal holds after the last step; an exit of 0 means that the new secret is live
//! and the old one dead, or that what a person ordered is done.

use kh_core::{
    CredentialName, UnixMillis,
    port::rotation_journal::{Hold, StoredRun},
};
use kh_rotation::{End, Level, State, Status};
use kh_rotator::{Halt, NotBegun, Outlook, Patience, Standing, Wanted, drive as driven, join, open};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    progress::{Progress, rest},
    told::{answer, told},
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
    let stop = CancellationToken::new();
    let least = wanted.as_ref().map_or(Level::Regular, |wanted| wanted.level);
    let opened = match Box::pin(open(services, &subject, wanted)).await {
        Err(NotBegun::Halt(Halt::Busy(_)))
            if patience == Patience::UntilEnd
                && world.unfinished(name).await?.is_some_and(|run| run.began().level >= least) =>
        {
            context.terminal.note(&format!("another process works on {name}; this stays until the end"));
            let mut signal = StopSignal::new()?;
            let mut joining = Box::pin(join(services, &subject, least, &stop));
            tokio::select! {
                joined = &mut joining => joined,
                () = signal.wait() => {
                    stop.cancel();
                    joining.await
                }
            }
        }
        opened => opened,
    };
    let session = opened.map_err(|error| world::not_begun(&error))?;
    let Some(mut session) = session else {
        // an order or another process ended it: nothing is left to be done
        return newest(world, name, context).await;
    };
    let run = session.run().began().run;
    let mut lines = session.watch();
    // what happened before this command stands in the journal; a run that it begins is shown from its beginning
    let before = session.run().seq();
    let mut progress = Progress::new(context, if before > 1 { before } else { 0 });
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
    let mut told = told(world, &stored, standing.as_ref()).await?;
    if let (None, Outlook::Waiting { until, why }) = (&standing, last.outlook) {
        (told.status.next_at, told.status.reason) = (Some(until), Some(why));
    }
    answer(&told, context);
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

/// How the credential's newest run stands.
pub(super) async fn newest(world: &World, name: &CredentialName, context: &Context) -> Result<Exit, Failure> {
    let journal = &world.rotation.services.journal;
    let runs = journal.runs(Some(name), 1).await.map_err(|error| world::journal(&error))?;
    let Some(stored) = runs.first() else {
        context.terminal.answer(&json!({ "credential": name, "run_id": null }), || {
            format!("{name} was never rotated by keyholder\n")
        });
        return Ok(Exit::Done);
    };
    let told = told(world, stored, None).await?;
    answer(&told, context);
    Ok(exit_of_state(told.status.state))
}

fn exit_of_state(state: State) -> Exit {
    match state {
        State::NeedsOperator => Exit::Operator,
        state if state.ended() => Exit::Done,
        _ => Exit::Unfinished,
    }
}

/// `rotate status`: one, or all.
pub(super) async fn run(world: &World, run: Option<&str>, loaded: &Loaded, context: &Context) -> Result<Exit, Failure> {
    let journal = &world.rotation.services.journal;
    if let Some(text) = run {
        if let Ok(id) = text.parse() {
            let stored = journal.run(id).await.map_err(|error| world::journal(&error))?;
            let told = told(world, &stored, None).await?;
            answer(&told, context);
            return Ok(exit_of_state(told.status.state));
        }
        let name = world.credential_of(text).await?;
        return newest(world, &name, context).await;
    }
    let mut all = Vec::new();
    let mut exit = Exit::Done;
    for name in world.configured() {
        let newest = journal.runs(Some(name), 1).await.map_err(|error| world::journal(&error))?.into_iter().next();
        let status = match &newest {
            Some(stored) => Some(told(world, stored, None).await?.status),
            None => None,
        };
        exit = match (status.as_ref().map_or(Exit::Done, |status| exit_of_state(status.state)), exit) {
            (Exit::Operator, _) | (_, Exit::Operator) => Exit::Operator,
            (Exit::Unfinished, _) | (_, Exit::Unfinished) => Exit::Unfinished,
            (own, _) => own,
        };
        let hold = journal.hold(name).await.map_err(|error| world::journal(&error))?;
        all.push(Standings { name, status, hold, newest });
    }
    let rows: Vec<Value> = all.iter().map(Standings::json).collect();
    let now = world.rotation.services.now();
    context.terminal.answer(&json!({ "rotations": rows }), || {
        if all.is_empty() {
            return format!("{} says of no credential how it is rotated\n", loaded.file_name());
        }
        let mut table = Table::new(&["credential", "state", "strategy", "for", "next", "hold"]);
        for one in &all {
            table.row(one.cells(now));
        }
        table.text()
    });
    Ok(exit)
}

/// One credential in the list of all.
struct Standings<'a> {
    name: &'a CredentialName,
    status: Option<Status>,
    hold: Option<Hold>,
    newest: Option<StoredRun>,
}

impl Standings<'_> {
    fn json(&self) -> Value {
        let ended_at = self.newest.as_ref().and_then(|stored| stored.ended_at);
        json!({
            "credential": self.name, "run": self.status, "hold": self.hold, "ended_at": ended_at.map(time),
        })
    }

    fn cells(&self, now: UnixMillis) -> Vec<String> {
        let of = |cell: fn(&Status) -> String| self.status.as_ref().map(cell).unwrap_or_default();
        let since = self.newest.as_ref().map(|stored| stored.ended_at.unwrap_or(stored.began_at));
        vec![
            self.name.to_string(),
            self.status.as_ref().map_or_else(|| "never".to_owned(), |status| status.state.as_str().to_owned()),
            of(|status| status.strategy.as_str().to_owned()),
            since.map(|at| rest(now.since(at))).unwrap_or_default(),
            of(|status| status.next_command.clone().unwrap_or_default()),
            self.hold.as_ref().map(|hold| hold.reason.clone()).unwrap_or_default(),
        ]
    }
}
