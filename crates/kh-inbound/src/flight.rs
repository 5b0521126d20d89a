//! One question at a time for each token, whoever asks and however many.
//!
//! Invariants: the question runs as a task of its own, so that a caller that goes away strands nobody; however the
//! task ends, whoever waits is woken, and the next one may ask again; questions to one issuer, however many there are and
//! however slow it is, leave room for those to another.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use kh_core::identity::Identity;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Denied, cache::TokenKey};

/// Tokens of one issuer that may wait at once: each has one task, and is up to 16 KiB long.
const FLIGHTS_MAX: usize = 4096;

/// Tokens of all issuers that may wait at once, but for [`FLIGHTS_SURE`] of each: four issuers that answer nothing fill it.
/// Takes 256 MiB if every token is as long as it may be; for as many issuers as there may be, [`FLIGHTS_SURE`] takes up to
/// 1 GiB more. Tokens are seldom longer than 1 KiB.
const ALL_MAX: usize = 4 * FLIGHTS_MAX;

/// Tokens of each issuer that may wait whatever the others do: as many as one authority is asked at a time.
const FLIGHTS_SURE: usize = 64;

/// What became of a question.
pub(crate) type Outcome = Result<Arc<Identity>, Denied>;

/// Where tasks run, and what ends them.
pub(crate) struct Tasks {
    pub(crate) runtime: Handle,
    pub(crate) tracker: TaskTracker,
    pub(crate) cancel: CancellationToken,
}

impl Tasks {
    /// Starts `work`, which is dropped when everything ends.
    pub(crate) fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        let task = async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = work => {}
            }
        };
        drop(self.tracker.spawn_on(task, &self.runtime));
    }
}

/// The questions to one issuer that are under way, each of which will be answered with a `T`.
pub(crate) struct Flights<T> {
    under_way: Arc<UnderWay<T>>,
    /// How many are under way to all issuers.
    all: Arc<AtomicUsize>,
}

type UnderWay<T> = Mutex<HashMap<TokenKey, watch::Receiver<Option<T>>>>;

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { under_way: Arc::default(), all: Arc::default() }
    }
}

/// Where its answer is heard; and what takes it off the list, if it is new.
type Seat<T> = (watch::Receiver<Option<T>>, Option<Landing<T>>);

/// Takes the question off the list, however its task ends; dropping the sender wakes whoever waits.
struct Landing<T> {
    flights: Arc<UnderWay<T>>,
    all: Arc<AtomicUsize>,
    key: TokenKey,
    told: watch::Sender<Option<T>>,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is no outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoOutcome {
    /// Too many questions are under way, to this issuer or to all.
    Full,
    /// The task ended without an answer.
    Lost,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// One list for each of so many issuers.
    pub(crate) fn of_each(issuers: usize) -> Vec<Self> {
        let all = Arc::<AtomicUsize>::default();
        (0..issuers).map(|_| Self { under_way: Arc::default(), all: Arc::clone(&all) }).collect()
    }

    /// The outcome of `ask` for the token `key`: of the question that is under way, or of a new one.
    pub(crate) async fn join<A>(
        &self,
        key: TokenKey,
        tasks: &Tasks,
        ask: impl FnOnce() -> A + Send,
    ) -> Result<T, NoOutcome>
    where
        A: Future<Output = T> + Send + 'static,
    {
        let asking = ask();
        let (mut heard, new) = self.seat(key)?;
        if let Some(landing) = new {
            tasks.start(async move {
                let outcome = asking.await;
                landing.told.send_replace(Some(outcome));
            });
        }
        // an error means that the task is gone; what it said last is still there
        match heard.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().ok_or(NoOutcome::Lost),
            Err(_gone) => Err(NoOutcome::Lost),
        }
    }

    /// A place with the question that is under way, or a new one that is to be started. The lock is let go first:
    /// starting may drop the task at once.
    fn seat(&self, key: TokenKey) -> Result<Seat<T>, NoOutcome> {
        let mut flights = self.under_way.lock();
        if let Some(under_way) = flights.get(&key) {
            return Ok((under_way.clone(), None));
        }
        let no_more = if self.all.load(Ordering::Relaxed) < ALL_MAX { FLIGHTS_MAX } else { FLIGHTS_SURE };
        if flights.len() >= no_more {
            return Err(NoOutcome::Full);
        }
        let (told, heard) = watch::channel(None);
        flights.insert(key, heard.clone());
        self.all.fetch_add(1, Ordering::Relaxed);
        let (flights, all) = (Arc::clone(&self.under_way), Arc::clone(&self.all));
        Ok((heard, Some(Landing { flights, all, key, told })))
    }

    /// Questions under way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::DenyReason;

    fn tasks() -> Tasks {
        Tasks { runtime: Handle::current(), tracker: TaskTracker::new(), cancel: CancellationToken::new() }
    }

    fn key() -> TokenKey {
        TokenKey::of(b"t")
    }

    fn outcome() -> Outcome {
        Err(Denied::invalid(DenyReason::Inactive))
    }

    async fn until(condition: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if condition() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it never came true");
    }

    #[tokio::test]
    async fn a_thousand_ask_once() {
        let (flights, tasks) = (Flights::default(), tasks());
        let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                outcome()
            }
        };
        let all = join_all((0..1000).map(|_| flights.join(key(), &tasks, ask)));
        let (outcomes, ()) = tokio::join!(all, async {
            until(|| asked.load(Ordering::SeqCst) == 1).await;
            gate.add_permits(1);
        });
        assert!(outcomes.iter().all(|heard| *heard == Ok(outcome())));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        until(|| flights.len() == 0).await;
    }

    #[tokio::test]
    async fn waiters_survive_a_cancelled_leader() {
        let (flights, tasks) = (Arc::new(Flights::default()), Arc::new(tasks()));
        let gate = Arc::new(Semaphore::new(0));
        let join = |flights: Arc<Flights<Outcome>>, tasks: Arc<Tasks>, gate: Arc<Semaphore>| async move {
            flights
                .join(key(), &tasks, || async move {
                    gate.acquire().await.unwrap().forget();
                    outcome()
                })
                .await
        };
        let leader = tokio::spawn(join(Arc::clone(&flights), Arc::clone(&tasks), Arc::clone(&gate)));
        until(|| flights.len() == 1).await;
        let waiter = tokio::spawn(join(Arc::clone(&flights), Arc::clone(&tasks), Arc::clone(&gate)));
        tokio::task::yield_now().await;
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        gate.add_permits(1);
        assert_eq!(waiter.await.unwrap(), Ok(outcome()));
    }

    #[tokio::test]
    async fn a_question_that_panics_or_is_stopped_wakes_everybody() {
        let (flights, tasks) = (Flights::default(), tasks());
        let broken = flights.join(key(), &tasks, || async { panic!("a bug in an adapter") });
        assert_eq!(broken.await, Err(NoOutcome::Lost));
        assert_eq!(flights.len(), 0);
        assert_eq!(flights.join(key(), &tasks, || async { outcome() }).await, Ok(outcome()));
        let stopped = flights.join(key(), &tasks, std::future::pending);
        let (heard, ()) = tokio::join!(stopped, async {
            until(|| flights.len() == 1).await;
            tasks.cancel.cancel();
        });
        assert_eq!(heard, Err(NoOutcome::Lost));
    }

    #[tokio::test]
    async fn questions_are_bounded() {
        let (flights, tasks) = (Flights::default(), tasks());
        let asks: Vec<_> = (0..FLIGHTS_MAX)
            .map(|round| flights.join(TokenKey::of(&round.to_be_bytes()), &tasks, std::future::pending::<Outcome>))
            .collect();
        let all = join_all(asks);
        let refused = async {
            until(|| flights.len() == FLIGHTS_MAX).await;
            flights.join(key(), &tasks, std::future::pending).await
        };
        tokio::select! {
            biased;
            _ = all => unreachable!("nobody answers"),
            heard = refused => assert_eq!(heard, Err(NoOutcome::Full)),
        }
    }

    #[test]
    fn each_issuer_has_some_room_whatever_the_others_take() {
        let lists = Flights::<Outcome>::of_each(6);
        let fill = |flights: &Flights<Outcome>| -> Vec<_> {
            (0_usize..).map_while(|round| flights.seat(TokenKey::of(&round.to_be_bytes())).ok()).collect()
        };
        let seats: Vec<_> = lists.iter().map(fill).collect();
        let taken: Vec<_> = seats.iter().map(Vec::len).collect();
        let (full, sure) = (FLIGHTS_MAX, FLIGHTS_SURE);
        assert_eq!(taken, [full, full, full, full, sure, sure]);
        drop(seats);
        assert_eq!(lists.iter().map(fill).map(|seats| seats.len()).collect::<Vec<_>>(), [full; 6], "given back");
    }
}
