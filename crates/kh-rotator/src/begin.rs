//! How a run begins: from the configuration, what the first store serves, and what the journal knows of earlier runs.
//!
//! Invariant: changes nothing but the journal.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Code, UnixMillis,
    port::{
        JournalError, ManageError, TargetError,
        rotation_journal::{NewRun, StoredRun},
    },
    rotation::{Marker, RunId},
};
use kh_rotation::{Begin, Earlier, Level, Place, PlatformFacts, Record, Run, Step};

use crate::{
    services::Services,
    session::{Halt, Session, give_back, leased},
    subject::Subject,
    timeline::Timeline,
    told,
};

/// Earlier runs that a new one knows: as far back as the journal keeps them.
const EARLIER_MAX: usize = 200;

/// What a person or the schedule asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// How urgent it is.
    pub level: Level,
    /// Who asks: `keyholder` for the schedule.
    pub actor: String,
    /// Why.
    pub reason: String,
}

impl Wanted {
    /// What the schedule asks for.
    pub fn scheduled() -> Self {
        Self { level: Level::Regular, actor: "keyholder".to_owned(), reason: "its secret is due".to_owned() }
    }
}

/// Why no run began.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// The platform cannot rotate it, or not in the way that is asked for.
    #[error("the platform has no way to rotate this credential{}", wanted.map_or_else(String::new, |way| format!(" by {way}")))]
    NoStrategy {
        /// The strategy that is configured.
        wanted: Option<&'static str>,
    },
    /// No store holds it.
    #[error("no store is configured for the credential")]
    NoStore,
    /// The first store could not be read.
    #[error("the store {store} cannot be read: {error}")]
    Store {
        /// The store.
        store: String,
        /// Why.
        error: TargetError,
    },
    /// The platform could not be asked when the secret was made, or whether it may be replaced.
    #[error("it is not known whether the secret is due: {0}")]
    Platform(ManageError),
    /// The credential's unfinished run is less urgent: it has to be made urgent by an order first.
    #[error("the unfinished run {0} is less urgent than what is asked for")]
    LessUrgent(RunId),
    /// The lease or the journal.
    #[error(transparent)]
    Halt(#[from] Halt),
}

impl NotBegun {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NoStrategy { .. } | Self::NoStore => Code::ROTATION_UNSUPPORTED,
            Self::Store { error, .. } => error.code(),
            Self::Platform(error) => error.code(),
            Self::LessUrgent(_) => Code::ROTATION_UNFINISHED,
            Self::Halt(halt) => halt.code(),
        }
    }
}

impl From<JournalError> for NotBegun {
    fn from(error: JournalError) -> Self {
        Self::Halt(error.into())
    }
}

/// What is known of a credential's secret from the first store and the journal, without asking the platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Age {
    /// Counts its secrets; 1 for one that keyholder did not make.
    pub generation: u64,
    /// When it was made, where keyholder made it.
    pub created_at: Option<UnixMillis>,
}

/// Reads the first store for the age of its secret.
pub async fn age(subject: &Subject) -> Result<Age, NotBegun> {
    let first = subject.stores.first().ok_or(NotBegun::NoStore)?;
    let live = first.target.live(&first.path).await;
    let live = live.map_err(|error| NotBegun::Store { store: first.name.clone(), error })?;
    let marker = Marker::read(&live.value);
    Ok(Age {
        generation: marker.as_ref().map_or(1, |marker| marker.generation.max(1)),
        created_at: marker.map(|marker| marker.created_at),
    })
}

/// The runs of a credential that the journal keeps, newest first; those that cannot be read are left out, and said so.
async fn earlier(services: &Services, subject: &Subject) -> Result<(Vec<Earlier>, u64), JournalError> {
    let stored = services.journal.runs(Some(&subject.credential), EARLIER_MAX).await?;
    let runs: Vec<Run> = stored.iter().filter_map(readable).collect();
    let generation = runs.iter().map(|run| run.began().generation).max().unwrap_or(0);
    Ok((runs.iter().map(Run::earlier).collect(), generation))
}

/// The run as the core sees it; none for one that a newer keyholder wrote or that is damaged.
pub fn readable(stored: &StoredRun) -> Option<Run> {
    let records = stored.records.iter().map(|record| Record::parse(&record.record)).collect::<Result<Vec<_>, _>>();
    let run = records.ok().and_then(|records| Run::replay(&records).ok());
    if run.is_none() {
        tracing::warn!(rotation.run = %stored.id, "a rotation run in the journal cannot be read");
    }
    run
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

async fn plan(services: &Services, subject: &Subject, wanted: Wanted, run: RunId) -> Result<Begin, NotBegun> {
    let strategy = subject
        .strategy()
        .ok_or(NotBegun::NoStrategy { wanted: subject.strategy.map(kh_core::port::Strategy::as_str) })?;
    let age = age(subject).await?;
    let (earlier, newest) = earlier(services, subject).await?;
    let can = subject.management.traits();
    Ok(Begin {
        run,
        credential: subject.credential.clone(),
        strategy,
        level: wanted.level,
        generation: age.generation.max(newest).saturating_add(1),
        by: subject.by,
        own: subject.own,
        places: subject
            .stores
            .iter()
            .map(|store| Place { store: store.name.clone(), path: store.path.clone() })
            .collect(),
        hooks: subject.hooks.iter().map(|hook| hook.name().to_owned()).collect(),
        platform: PlatformFacts {
            reversible_stop: can.reversible_stop,
            active_max: can.active_max,
            settles_within_ms: millis(can.settles_within),
            token_life_max_ms: millis(can.token_life_max),
            second_rotator: subject.second_rotator,
        },
        earlier,
        actor: wanted.actor,
        reason: wanted.reason,
    })
}

impl Session {
    /// Begins a run. Refused while the credential has one that has not ended.
    pub async fn begin(services: &Arc<Services>, subject: &Arc<Subject>, wanted: Wanted) -> Result<Self, NotBegun> {
        let id = services.new_run();
        let begin = plan(services, subject, wanted, id).await?;
        let (lease, leased_at) = leased(services, subject).await?;
        let at = services.now();
        let record = Record::new(at, Step::Begun(Box::new(begin)));
        let run = Run::begin(&record).map_err(|error| Halt::Unreadable { run: id, why: error.to_string() })?;
        let event = told::event(services, run.began(), 1, &record.step);
        let new = NewRun { id, credential: subject.credential.clone(), at, record: record.to_json() };
        if let Err(error) = services.journal.begin(new, lease.clone(), event).await {
            give_back(services, &lease).await;
            return Err(error.into());
        }
        if let Some(notice) = told::notice(&run, 1, at, &record.step) {
            services.notifier.notify(notice);
        }
        tracing::info!(credential = %subject.credential, rotation.run = %id, "rotation: {}", told::line(&record.step));
        let timeline = Timeline::of(std::slice::from_ref(&record));
        Ok(Self::new(services, subject, lease, leased_at, run, timeline))
    }
}
