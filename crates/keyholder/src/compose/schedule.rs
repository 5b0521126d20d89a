//! The rotation of a running keyholder: one task that works through the schedule, and one that proves new secrets of
//! credentials which nobody uses.
//!
//! Invariants: one schedule works at a time, and a changed configuration gets a new one when the old one has ended; a
//! stop lets the steps that began be finished, and what is cut off there is resumed as after a crash; everything that
//! can fail is made before anything changes.

mod metrics;
mod proof;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kh_broker::Broker;
use kh_core::{CredentialName, port::Notifier};
use kh_issuer::Issuer;
use kh_rotator::{Limits, Overview, Scheduler, Services, Subject};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::proof::Proof;
use super::{
    Base,
    deliver::{Deliveries, Hooks},
    notices::Notices,
    rotation::{services, subjects},
    stores::Targets,
};
use crate::{cli::Loaded, output::Failure};

pub(super) use metrics::RotationMetrics;

/// How long notices that wait may be tried at the end.
const NOTICES_END: Duration = Duration::from_secs(5);

/// What a configuration wants of the schedule.
pub(crate) struct Plan {
    subjects: Vec<Arc<Subject>>,
    limits: Limits,
}

/// What is known of each credential that is rotated.
type Overviews = BTreeMap<CredentialName, Overview>;

/// The schedule of a running keyholder.
pub(crate) struct Schedule {
    base: Base,
    broker: Arc<Broker>,
    issuer: Arc<Issuer>,
    hooks: Hooks,
    notices: Arc<Notices>,
    services: Arc<Services>,
    plans: watch::Sender<Arc<Plan>>,
    known: Mutex<Option<watch::Receiver<Overviews>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Schedule {
    /// Makes everything that the rotation of `loaded` needs, and starts the ways to people. Must run on the control
    /// runtime.
    pub(crate) fn new(
        loaded: &Loaded,
        base: &Base,
        (broker, issuer): (&Arc<Broker>, &Arc<Issuer>),
        targets: &Targets,
        deliveries: Deliveries,
    ) -> Result<Arc<Self>, Failure> {
        let Deliveries { hooks, channels } = deliveries;
        let plan = plan(loaded, base, (broker, issuer), targets, &hooks)?;
        let notices = Notices::start(channels, &loaded.config, &base.entropy);
        let services = services(base, Arc::clone(&notices) as Arc<dyn Notifier>)?;
        let (broker, issuer) = (Arc::clone(broker), Arc::clone(issuer));
        let plans = watch::Sender::new(Arc::new(plan));
        let (known, tasks) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Self { base: base.clone(), broker, issuer, hooks, notices, services, plans, known, tasks }))
    }

    /// What tells people, also of what is no rotation.
    pub(super) fn notifier(&self) -> Arc<dyn Notifier> {
        Arc::clone(&self.notices) as Arc<dyn Notifier>
    }

    /// Everything of a changed configuration that can fail.
    pub(crate) fn plan(&self, loaded: &Loaded, targets: &Targets) -> Result<Plan, Failure> {
        plan(loaded, &self.base, (&self.broker, &self.issuer), targets, &self.hooks)
    }

    /// Puts a changed configuration into force.
    pub(crate) fn take_over(&self, loaded: &Loaded, plan: Plan) {
        self.notices.take_over(&loaded.config);
        self.plans.send_replace(Arc::new(plan));
    }

    /// Works until `stop`.
    pub(super) fn begin(self: &Arc<Self>, stop: &CancellationToken) {
        let proof = Proof::new(&self.services, Arc::clone(&self.broker));
        let mut tasks = self.tasks.lock();
        tasks.spawn(proof.run(stop.clone()));
        tasks.spawn(Arc::clone(self).run(self.plans.subscribe(), stop.clone()));
    }

    async fn run(self: Arc<Self>, mut plans: watch::Receiver<Arc<Plan>>, stop: CancellationToken) {
        loop {
            let plan = Arc::clone(&plans.borrow_and_update());
            let scheduler = Scheduler::new(Arc::clone(&self.services), plan.subjects.clone(), plan.limits);
            *self.known.lock() = Some(scheduler.overview());
            let superseded = stop.child_token();
            if plan.subjects.is_empty() {
                // nothing to do until there is another configuration
                superseded.cancel();
            }
            let working = scheduler.run(superseded.clone());
            tokio::pin!(working);
            let changed = tokio::select! {
                () = &mut working, if !plan.subjects.is_empty() => return,
                () = stop.cancelled(), if plan.subjects.is_empty() => return,
                changed = plans.changed() => changed,
            };
            superseded.cancel();
            working.await;
            if changed.is_err() {
                return;
            }
        }
    }

    /// What is known of each credential now.
    fn overview(&self) -> Overviews {
        self.known.lock().as_ref().map(|known| known.borrow().clone()).unwrap_or_default()
    }

    /// The end, after `stop` was cancelled: steps that began may take as long as `within`. Whether they were finished.
    pub(super) async fn end(&self, within: Duration) -> bool {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let finishing = async { while tasks.join_next().await.is_some() {} };
        let finished = tokio::time::timeout(within, finishing).await.is_ok();
        tasks.shutdown().await;
        self.notices.close(NOTICES_END).await;
        finished
    }
}

fn plan(
    loaded: &Loaded,
    base: &Base,
    (broker, issuer): (&Arc<Broker>, &Arc<Issuer>),
    targets: &Targets,
    hooks: &Hooks,
) -> Result<Plan, Failure> {
    let made = subjects(loaded, base, (broker, Some(issuer)), targets, hooks)?;
    let config = &loaded.config.rotation;
    let usual = Limits::default();
    let parallel = config.parallel.and_then(|count| usize::try_from(count).ok());
    let limits = Limits { working_max: parallel.unwrap_or(usual.working_max), ..usual };
    let is_on = config.scheduler.unwrap_or(true);
    Ok(Plan { subjects: if is_on { made.into_values().collect() } else { Vec::new() }, limits })
}
