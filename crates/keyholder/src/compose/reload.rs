//! Taking over a changed configuration while serving: read, parse, build everything that can fail, then apply in one
//! step.
//!
//! Invariants: what runs is always the whole of one file: a file that is bad in any way, or that changes what only a
//! restart can change, leaves everything as it was; a refusal is told once and not tried again until a file changes;
//! a change is audited before it takes effect.

mod files;
mod frozen;
mod settling;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kh_admin::admin::ReloadStatus;
use kh_broker::Applied;
use kh_core::{Clock, Code};
use kh_issuer::Issuer;
use kh_telemetry::{Telemetry, logging::LogHandle};
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use self::{
    files::{Contents, Identities},
    settling::Settling,
};
use super::{
    Base, Live, Plan, Prepared, Running, Schedule, Targets, bind_environments, record::Outcome, security::Watchers,
    systemd,
};
use crate::{
    cli::{Context, Loaded, audit_config},
    config::Config,
    output::Failure,
    sources::Reads,
};

/// How often the files are looked at: a handful of `stat` calls.
const POLL: Duration = Duration::from_millis(250);

/// What asked for a reload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trigger {
    /// SIGHUP: now.
    Signal,
    /// A file changed and has come to rest.
    File,
}

impl Trigger {
    fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::File => "file",
        }
    }
}

/// How files looked, and what those held that the configuration names, before they were read, so that no change in
/// between is missed.
pub(crate) struct Seen {
    looks: Identities,
    contents: Contents,
}

impl Seen {
    /// Looks at the configuration's own file. To be called before it is read.
    pub(crate) fn before(file: Option<&Path>) -> Self {
        Self::of(&file.iter().map(|file| (*file).to_owned()).collect())
    }

    fn of(files: &BTreeSet<PathBuf>) -> Self {
        Self { looks: files::look(files), contents: Contents::new() }
    }

    /// Looks at the files that `loaded` names as well. To be called before they are read.
    pub(crate) fn and_named(&mut self, loaded: &Loaded) {
        let mut named = files::of(loaded);
        let more = named.iter().filter(|path| !self.looks.contains_key(*path)).cloned().collect();
        self.looks.extend(files::look(&more));
        if let Some(own) = &loaded.file {
            // its digest is compared as it is
            named.remove(own);
        }
        self.contents = files::contents(&named);
    }
}

/// Watches the configuration and what it names, and takes changes over.
pub(crate) struct Reloader {
    context: Arc<Context>,
    log: LogHandle,
    telemetry: Arc<Telemetry>,
    base: Base,
    live: Arc<Live>,
    issuer: Arc<Issuer>,
    schedule: Option<Arc<Schedule>>,
    watchers: Arc<Watchers>,
    current: Arc<Loaded>,
    /// What the files held that are in force.
    contents: Contents,
    watched: BTreeSet<PathBuf>,
    settling: Settling<Identities>,
}

/// What was read and built, and how the files looked just before.
struct Attempt {
    seen: Seen,
    result: Result<Built, Failure>,
}

/// Everything that a changed configuration was made into.
struct Built {
    loaded: Loaded,
    prepared: Prepared,
    plan: Option<Plan>,
}

impl Reloader {
    /// Watches `loaded`, which is in force and of which `seen` is what was seen before it was read.
    pub(crate) fn new(
        (context, log): (Context, LogHandle),
        base: Base,
        running: &Running,
        loaded: Loaded,
        seen: Seen,
    ) -> Self {
        let (live, issuer) = (Arc::clone(&running.live), Arc::clone(&running.issuer));
        let telemetry = Arc::clone(&running.telemetry);
        let watched = seen.looks.keys().cloned().collect();
        let settling = Settling::new(seen.looks);
        Self {
            context: Arc::new(context),
            log,
            telemetry,
            base,
            live,
            issuer,
            schedule: running.schedule.clone(),
            watchers: Arc::clone(&running.watchers),
            current: Arc::new(loaded),
            contents: seen.contents,
            watched,
            settling,
        }
    }

    /// Until `cancel`. Nothing is left half done: a reload that changes something is finished. One that looks and reads
    /// is not waited for, because a file system may hang.
    pub(crate) async fn run(mut self, mut hangups: Signal, cancel: CancellationToken) {
        loop {
            let trigger = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = hangups.recv() => Some(Trigger::Signal),
                () = tokio::time::sleep(POLL) => {
                    let changed = cancel.run_until_cancelled(self.look()).await;
                    changed.unwrap_or(false).then_some(Trigger::File)
                }
            };
            if trigger == Some(Trigger::Signal) {
                self.reopen();
            }
            if let Some(trigger) = trigger {
                systemd::reloading();
                self.reload(trigger, &cancel).await;
                if cancel.is_cancelled() {
                    // the supervisor was told of the end meanwhile
                    return;
                }
                systemd::ready(&self.live.line());
            }
        }
    }

    /// Opens the log files again, for rotation. Does so also when the configuration is bad.
    fn reopen(&self) {
        self.telemetry.reopen();
        self.watchers.reopen();
        self.log.reopen();
    }

    /// Looks at the files; answers whether they changed and have come to rest.
    async fn look(&mut self) -> bool {
        let watched = self.watched.clone();
        // A file system that hangs must not hold up the token fetches of this runtime.
        let seen = tokio::task::spawn_blocking(move || files::look(&watched)).await;
        seen.is_ok_and(|seen| self.settling.observe(self.base.clock.now().mono, seen))
    }

    async fn reload(&mut self, trigger: Trigger, cancel: &CancellationToken) {
        let attempt = cancel.run_until_cancelled(self.attempt()).await.flatten();
        let Some(Attempt { seen, result }) = attempt else { return };
        self.watched = seen.looks.keys().cloned().collect();
        self.settling = Settling::new(seen.looks);
        let outcome = match result {
            Ok(built) => self.take_over(built, seen.contents).await,
            Err(failure) => Err(failure),
        };
        self.tell(trigger, outcome);
    }

    /// Reads and builds, away from the runtime.
    async fn attempt(&self) -> Option<Attempt> {
        let (context, current, clock) = (Arc::clone(&self.context), Arc::clone(&self.current), &self.base.clock);
        let (reads, schedule, targets) = (self.base.reads.clone(), self.schedule.clone(), self.live.targets());
        let (watched, clock) = (self.watched.clone(), Arc::clone(clock));
        let attempt = tokio::task::spawn_blocking(move || {
            let mut seen = Seen::of(&watched);
            let result = build(&context, &current, (&clock, &reads, &targets, schedule.as_deref()), &mut seen);
            Attempt { seen, result }
        });
        match attempt.await {
            Ok(attempt) => Some(attempt),
            Err(error) => {
                tracing::error!(%error, "reading the configuration again ended by a bug; the old one stays");
                None
            }
        }
    }

    /// The step that changes something. The audit entry comes first, and without it nothing happens.
    async fn take_over(&mut self, built: Built, contents: Contents) -> Result<(Outcome, Applied), Failure> {
        let Built { loaded, mut prepared, plan } = built;
        // may wait for an issuer's keys, and changes nothing
        let inbound = self.live.protection().next(std::mem::take(&mut prepared.inbound)).await?;
        let clients = self.live.other_clients(&prepared)?;
        audit_config(&loaded, &self.base, &self.context).await?;
        bind_environments(&loaded.config, &self.issuer, "keyholder").await?;
        let applied = self.live.apply(&loaded, prepared, (inbound, clients));
        if let (Some(schedule), Some(plan)) = (&self.schedule, plan) {
            schedule.take_over(&loaded, plan);
        }
        if let Err(failure) = self.context.change_level(&self.log, &loaded.config) {
            // the configuration parsed, so only an embedding program's own log is left as a cause
            tracing::warn!("the log level was not changed: {}", failure.in_one_line());
        }
        warn_of(&loaded);
        let same_files = loaded.digest == self.current.digest && contents == self.contents;
        self.current = Arc::new(loaded);
        self.contents = contents;
        let nothing = applied.added.is_empty() && applied.changed.is_empty() && applied.removed.is_empty();
        let outcome = if same_files && nothing { Outcome::Unchanged } else { Outcome::Applied };
        Ok((outcome, applied))
    }

    fn tell(&self, trigger: Trigger, result: Result<(Outcome, Applied), Failure>) {
        let file = self.current.file_name();
        let (outcome, credentials, problem) = match result {
            Ok((Outcome::Unchanged, _)) => {
                tracing::info!(config.file = file, reload.trigger = trigger.name(), "the configuration is unchanged");
                (Outcome::Unchanged, None, None)
            }
            Ok((outcome, applied)) => {
                tracing::info!(
                    config.file = file,
                    reload.trigger = trigger.name(),
                    config.sha256 = self.current.digest.to_hex(),
                    credentials.added = applied.added.len(),
                    credentials.changed = applied.changed.len(),
                    credentials.removed = applied.removed.len(),
                    credentials.kept = applied.kept.len(),
                    "the configuration was reloaded"
                );
                (outcome, Some(applied), None)
            }
            Err(failure) => {
                let problem = failure.to_value();
                tracing::error!(
                    config.file = file,
                    reload.trigger = trigger.name(),
                    config.mistakes = failure.mistakes_in_one_line(),
                    "the changed configuration was refused and the old one stays: {}",
                    failure.in_one_line()
                );
                (Outcome::Refused, None, Some(problem))
            }
        };
        let at = self.base.clock.now().wall;
        let status = ReloadStatus { at, trigger: trigger.name(), result: outcome.name(), credentials, problem };
        self.live.record().reloaded(outcome, status);
    }
}

/// Everything that can fail. `seen` gets the files that the new configuration names, as they looked before they were
/// read, also when it is refused: a refusal is tried again when one of them changes.
fn build(
    context: &Context,
    current: &Loaded,
    (clock, reads, targets, schedule): (&Arc<dyn Clock>, &Reads, &Targets, Option<&Schedule>),
    seen: &mut Seen,
) -> Result<Built, Failure> {
    let Some(file) = current.file.as_deref() else { return Err(Failure::bug("nothing to reload: there is no file")) };
    let loaded = context.load_again(file)?;
    seen.and_named(&loaded);
    let (named, of_current) = (files::of(&loaded), files::of(current));
    seen.looks.retain(|path: &PathBuf, _| named.contains(path) || of_current.contains(path));
    refuse_frozen(&current.config, &loaded.config)?;
    let prepared = Prepared::after(targets, &loaded, clock, reads)?;
    let plan = schedule.map(|schedule| schedule.plan(&loaded, &prepared.targets)).transpose()?;
    Ok(Built { loaded, prepared, plan })
}

fn refuse_frozen(before: &Config, after: &Config) -> Result<(), Failure> {
    let frozen = frozen::changed(before, after);
    if frozen.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::CONFIG_INVALID, format!("only a restart can change {}", frozen.join(", ")))
        .hint("restart keyholder to take the whole file over, or take that change back"))
}

/// What works and is risky is told at every reload, as it is at the start.
fn warn_of(loaded: &Loaded) {
    for mistake in &loaded.warnings.all {
        tracing::warn!(
            config.file = loaded.file_name(),
            config.line = mistake.line,
            "the configuration has something risky: {}",
            mistake.message
        );
    }
}
