//! Virtual time for several actors: processes, consumers, persons, requests on their way.
//!
//! Invariant: one actor works at a time, and time passes only while none does. So a seed gives one history, whatever the
//! machine's speed, although real sockets and real files lie between.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kh_core::{ManualClock, port::BoxFuture};
use kh_rotator::Timer;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};

/// Real time after which an actor that does not come to rest is a bug; a step takes milliseconds.
const STUCK: Duration = Duration::from_mins(5);

#[derive(Default)]
struct Queue {
    now: Duration,
    next: u64,
    events: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    actors: Vec<JoinHandle<()>>,
}

/// Moves a clock of somebody else.
type Passing = Box<dyn Fn(Duration) + Send + Sync>;

/// Where the actors meet.
pub(crate) struct Stage {
    clocks: Vec<ManualClock>,
    passing: Passing,
    queue: Mutex<Queue>,
    at_rest: Semaphore,
    fell: AtomicBool,
}

/// Says that an actor left, even by a panic.
struct Leaves(Arc<Stage>);

impl Drop for Leaves {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fell.store(true, Ordering::SeqCst);
        }
        self.0.at_rest.add_permits(1);
    }
}

impl Stage {
    /// A stage whose time moves all these clocks.
    pub(crate) fn new(clocks: Vec<ManualClock>, passing: Passing) -> Arc<Self> {
        let (queue, at_rest) = (Mutex::default(), Semaphore::new(0));
        Arc::new(Self { clocks, passing, queue, at_rest, fell: AtomicBool::new(false) })
    }

    /// Since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.queue.lock().unwrap().now
    }

    fn due(&self, span: Duration) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut queue = self.queue.lock().unwrap();
        queue.next += 1;
        let key = (queue.now + span, queue.next);
        queue.events.insert(key, tell);
        told
    }

    /// The actor that works rests for `span`, and others may work.
    pub(crate) async fn rest(&self, span: Duration) {
        let told = self.due(span);
        self.at_rest.add_permits(1);
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Another actor comes after `span`.
    pub(crate) fn enter(self: &Arc<Self>, span: Duration, actor: impl Future<Output = ()> + Send + 'static) {
        let told = self.due(span);
        let stage = Arc::clone(self);
        let task = tokio::spawn(async move {
            if told.await.is_ok() {
                let _leaves = Leaves(stage);
                actor.await;
            }
        });
        self.queue.lock().unwrap().actors.push(task);
    }

    /// Lets everybody work until `over`, at most for `patience`; whether it came to that.
    pub(crate) async fn play(&self, patience: Duration, over: impl Fn() -> bool) -> bool {
        while !over() {
            let (at, tell, passed) = {
                let mut queue = self.queue.lock().unwrap();
                let ((at, _), tell) = queue.events.pop_first().expect("somebody has something to do");
                let passed = at.saturating_sub(queue.now);
                queue.now = queue.now.max(at);
                (at, tell, passed)
            };
            if at > patience {
                return false;
            }
            if !passed.is_zero() {
                self.clocks.iter().for_each(|clock| clock.advance(passed));
                (self.passing)(passed);
            }
            if tell.send(()).is_ok() {
                let rested = tokio::time::timeout(STUCK, self.at_rest.acquire()).await;
                rested.expect("an actor does not come to rest").unwrap().forget();
            }
            assert!(!self.fell.load(Ordering::SeqCst), "an actor fell");
        }
        true
    }

    /// Nobody works any more.
    pub(crate) fn clear(&self) {
        let actors = std::mem::take(&mut self.queue.lock().unwrap().actors);
        actors.iter().for_each(JoinHandle::abort);
    }
}

/// Waits on a stage.
pub(crate) struct StageTimer(pub(crate) Arc<Stage>);

impl Timer for StageTimer {
    fn sleep(&self, span: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.0.rest(span))
    }
}
