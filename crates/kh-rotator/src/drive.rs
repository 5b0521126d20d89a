//! One run to its end, or to where it has to wait: what the one-shot command and each worker of the schedule do.
//!
//! Invariant: a step that began is finished before a stop is heeded; the lease is given back in every case.

use std::{sync::Arc, time::Duration};

use kh_core::UnixMillis;
use kh_rotation::Level;
use tokio_util::sync::CancellationToken;

use crate::{
    begin::{NotBegun, Wanted},
    orders::unfinished,
    services::Services,
    session::{Halt, Session, Standing},
    subject::Subject,
};

/// A wait up to this long is sat out with the lease in hand: logins of a verification are seconds apart.
const SAT_OUT: Duration = Duration::from_secs(15);

/// How often a longer wait looks whether a person or another process did something, or has given the lease back.
const DISTURBED_EVERY: Duration = Duration::from_secs(2);

/// How long a caller stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Until nothing can be done for some time: cron, a job, the schedule's workers.
    UntilWaiting,
    /// Until the run is over or needs a person, whichever process works on it.
    UntilEnd,
}

/// Resumes the credential's unfinished run, or begins one where it is wanted; none when there is nothing to do. A run
/// that is less urgent than what is wanted is left as it is and told.
pub async fn open(
    services: &Arc<Services>,
    subject: &Arc<Subject>,
    wanted: Option<Wanted>,
) -> Result<Option<Session>, NotBegun> {
    if let Some(session) = Session::resume(services, subject).await? {
        let began = session.run().began();
        let (run, level) = (began.run, began.level);
        if wanted.is_some_and(|wanted| level < wanted.level) {
            session.release().await;
            return Err(NotBegun::LessUrgent(run));
        }
        return Ok(Some(session));
    }
    match wanted {
        Some(wanted) => Session::begin(services, subject, wanted).await.map(Some),
        None => Ok(None),
    }
}

/// [`open`] for who stays until the end, where another process works on a run that is at least so urgent: waits until
/// that one lets go. None when the run is over by then; [`Halt::Busy`] where there is no such run, or when stopped.
pub async fn join(
    services: &Arc<Services>,
    subject: &Arc<Subject>,
    least: Level,
    stop: &CancellationToken,
) -> Result<Option<Session>, NotBegun> {
    let busy = || NotBegun::from(Halt::Busy(subject.credential.clone()));
    let mut joined = false;
    loop {
        match unfinished(services, &subject.credential).await? {
            Some(run) if run.began().level >= least => joined = true,
            None if joined => return Ok(None),
            _ => return Err(busy()),
        }
        if !paused(services, stop).await {
            return Err(busy());
        }
        match open(services, subject, None).await {
            Err(NotBegun::Halt(Halt::Busy(_))) => {}
            opened => return opened,
        }
    }
}

/// Works until `patience` ends or `stop` is cancelled (`Ok(None)`). The lease is given back then.
pub async fn drive(
    session: &mut Session,
    services: &Services,
    patience: Patience,
    stop: &CancellationToken,
) -> Result<Option<Standing>, Halt> {
    let driven = stay(session, services, patience, stop).await;
    session.rest().await;
    driven
}

async fn stay(
    session: &mut Session,
    services: &Services,
    patience: Patience,
    stop: &CancellationToken,
) -> Result<Option<Standing>, Halt> {
    loop {
        let until = match worked(session, services, stop).await {
            Ok(Some(Standing::Waiting { until, .. })) if patience == Patience::UntilEnd => until,
            // another process goes on with the run, and this one is here until its end
            Err(Halt::TakenOver(_)) if patience == Patience::UntilEnd => {
                if !paused(services, stop).await {
                    return Ok(None);
                }
                services.now()
            }
            done => return done,
        };
        session.rest().await;
        if !woken(session, services, until, stop).await? {
            return Ok(None);
        }
    }
}

/// Works until there is a longer wait, or nothing left to do, or it is stopped (`Ok(None)`).
async fn worked(
    session: &mut Session,
    services: &Services,
    stop: &CancellationToken,
) -> Result<Option<Standing>, Halt> {
    loop {
        let standing = loop {
            if stop.is_cancelled() {
                return Ok(None);
            }
            if let Some(standing) = session.step().await? {
                break standing;
            }
        };
        let Standing::Waiting { until, .. } = &standing else { return Ok(Some(standing)) };
        let span = until.since(services.now());
        if span > SAT_OUT {
            return Ok(Some(standing));
        }
        tokio::select! {
            () = services.timer.sleep(span) => session.waited().await?,
            () = stop.cancelled() => return Ok(None),
        }
    }
}

/// Takes the lease again at `until`, or as soon as somebody did something; who has it by then is waited for. False when
/// stopped.
async fn woken(
    session: &mut Session,
    services: &Services,
    until: UnixMillis,
    stop: &CancellationToken,
) -> Result<bool, Halt> {
    if !wait_for(session, services, until, stop).await? {
        return Ok(false);
    }
    loop {
        match session.wake().await {
            Err(Halt::Busy(_)) => {}
            taken => return taken.map(|()| true),
        }
        if !paused(services, stop).await {
            return Ok(false);
        }
    }
}

/// Waits for another process; false when stopped.
async fn paused(services: &Services, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = services.timer.sleep(DISTURBED_EVERY) => true,
        () = stop.cancelled() => false,
    }
}

/// Waits until `until`, or until somebody did something; false when stopped.
async fn wait_for(
    session: &Session,
    services: &Services,
    until: UnixMillis,
    stop: &CancellationToken,
) -> Result<bool, Halt> {
    loop {
        let left = until.since(services.now());
        if left.is_zero() || session.disturbed().await? {
            return Ok(true);
        }
        tokio::select! {
            () = services.timer.sleep(left.min(DISTURBED_EVERY)) => {}
            () = stop.cancelled() => return Ok(false),
        }
    }
}
