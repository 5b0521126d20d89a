//! The queue before the ways to people: one lane per way, so that a way that is down holds up no other.
//!
//! A lane keeps notices in order, drops one that it has already, retries with backoff, and gives one up after
//! [`Limits::patience`]. When it is full, the least urgent and oldest of its notices gives way, or the new one.
//!
//! Invariants: [`NoticeQueue::notify`](kh_core::port::Notifier::notify) never waits; every notice that does not arrive
//! is counted and logged; the lanes end with the queue.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use kh_core::{
    Entropy,
    port::{Notice, Notifier},
};
use kh_resilience::Backoff;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{Channel, SendError};

/// Notices whose ids a lane remembers.
const KNOWN_MAX: usize = 1024;

/// Longest wait that a receiver may wish for with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);

/// Limits of every lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Notices that may wait.
    pub waiting: usize,
    /// How long one is tried.
    pub patience: Duration,
    /// Waits between two tries.
    pub backoff: Backoff,
}

impl Default for Limits {
    /// 256 notices: one for each credential of a large installation. Two hours: longer than most outages of a
    /// messenger, and shorter than a notice is news.
    fn default() -> Self {
        let backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_mins(2) };
        Self { waiting: 256, patience: Duration::from_hours(2), backoff }
    }
}

/// What became of a lane's notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct ChannelCounts {
    /// Arrived.
    pub sent: u64,
    /// Given up: refused, or tried for too long.
    pub failed: u64,
    /// Never tried, because too many waited.
    pub dropped: u64,
    /// Tries that failed and were followed by another.
    pub retries: u64,
    /// Waiting now, the one that is being tried included.
    pub waiting: u64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Notice>,
    /// Whether the first of `waiting` is being tried, and so must stay where it is.
    is_trying: bool,
    known: VecDeque<Uuid>,
    counts: ChannelCounts,
    is_closed: bool,
}

struct Lane {
    channel: Arc<dyn Channel>,
    limits: Limits,
    state: Mutex<State>,
    changed: Notify,
    entropy: Arc<dyn Entropy>,
    cancel: CancellationToken,
}

/// All ways, each with its lane.
pub struct NoticeQueue {
    lanes: Vec<Arc<Lane>>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl NoticeQueue {
    /// Starts a lane for each of `channels` on `runtime`, which must have timers.
    pub fn start(
        channels: Vec<Arc<dyn Channel>>,
        limits: Limits,
        entropy: &Arc<dyn Entropy>,
        runtime: &Handle,
    ) -> Arc<Self> {
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let lane = |channel| {
            let (state, changed) = (Mutex::default(), Notify::new());
            Arc::new(Lane { channel, limits, state, changed, entropy: Arc::clone(entropy), cancel: cancel.clone() })
        };
        let lanes: Vec<_> = channels.into_iter().map(lane).collect();
        for lane in &lanes {
            drop(tasks.spawn_on(Arc::clone(lane).run(), runtime));
        }
        Arc::new(Self { lanes, tasks, cancel })
    }

    /// What became of the notices, by the ways' names.
    pub fn counts(&self) -> Vec<(String, ChannelCounts)> {
        self.lanes.iter().map(|lane| (lane.channel.name().to_owned(), lane.counts())).collect()
    }

    /// Ends: what waits may be sent for as long as `within`; the rest is dropped and counted.
    pub async fn close(&self, within: Duration) {
        for lane in &self.lanes {
            lane.state.lock().is_closed = true;
            lane.changed.notify_one();
        }
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            self.cancel.cancel();
            self.tasks.wait().await;
        }
        self.lanes.iter().for_each(|lane| lane.give_up_the_rest());
    }
}

impl Notifier for NoticeQueue {
    fn notify(&self, notice: Notice) {
        self.lanes.iter().filter(|lane| lane.channel.wants(&notice)).for_each(|lane| lane.offer(notice.clone()));
    }
}

impl Drop for NoticeQueue {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl std::fmt::Debug for NoticeQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoticeQueue").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Lane {
    fn counts(&self) -> ChannelCounts {
        let state = self.state.lock();
        ChannelCounts { waiting: state.waiting.len() as u64, ..state.counts }
    }

    fn offer(&self, notice: Notice) {
        let mut state = self.state.lock();
        if state.known.contains(&notice.id) {
            return;
        }
        if state.is_closed || (state.waiting.len() >= self.limits.waiting && !state.make_room(&notice)) {
            state.counts.dropped += 1;
            drop(state);
            self.tell_loss(&notice, "too many wait");
            return;
        }
        if state.known.len() >= KNOWN_MAX {
            state.known.pop_front();
        }
        state.known.push_back(notice.id);
        state.waiting.push_back(notice);
        drop(state);
        self.changed.notify_one();
    }

    async fn run(self: Arc<Self>) {
        while let Some(notice) = self.next().await {
            let result = self.deliver(&notice).await;
            let Some(result) = result else { return };
            let mut state = self.state.lock();
            state.waiting.pop_front();
            state.is_trying = false;
            if result.is_ok() {
                state.counts.sent += 1;
            } else {
                state.counts.failed += 1;
                // whoever tells it again may have it tried again
                state.known.retain(|known| *known != notice.id);
            }
            drop(state);
            if let Err(error) = result {
                self.tell_loss(&notice, &error.to_string());
            }
        }
    }

    /// The oldest notice, which stays in its place; none when the queue ends.
    async fn next(&self) -> Option<Notice> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(first) = state.waiting.front().cloned() {
                    state.is_trying = true;
                    return Some(first);
                }
                if state.is_closed {
                    return None;
                }
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return None,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Tries until it arrives, is refused or the patience ends; none when the queue ends.
    async fn deliver(&self, notice: &Notice) -> Option<Result<(), SendError>> {
        let deadline = Instant::now() + self.limits.patience;
        let mut attempt = 0;
        loop {
            let result = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return None,
                result = self.channel.send(notice) => result,
            };
            let Err(SendError::Transient { reason, retry_after }) = result else { return Some(result) };
            let backoff = self.limits.backoff.delay(attempt, &*self.entropy);
            let pause = retry_after.map_or(backoff, |wish| wish.min(RETRY_AFTER_MAX).max(backoff));
            if Instant::now() + pause >= deadline {
                return Some(Err(SendError::Transient { reason, retry_after }));
            }
            attempt = attempt.saturating_add(1);
            self.state.lock().counts.retries += 1;
            tracing::debug!(notice.channel = self.channel.name(), notice.id = %notice.id, "a notice is tried again later: {reason}");
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return None,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn give_up_the_rest(&self) {
        let rest: Vec<Notice> = {
            let mut state = self.state.lock();
            let rest: Vec<_> = state.waiting.drain(..).collect();
            state.counts.dropped += rest.len() as u64;
            rest
        };
        for notice in &rest {
            self.tell_loss(notice, "keyholder ended");
        }
    }

    fn tell_loss(&self, notice: &Notice, reason: &str) {
        tracing::warn!(
            notice.channel = self.channel.name(), notice.id = %notice.id, notice.kind = %notice.kind,
            error.cause = reason, "a notice did not reach people"
        );
    }
}

impl State {
    /// Removes the oldest of the least urgent, if it is not more urgent than `newcomer` and not being tried.
    fn make_room(&mut self, newcomer: &Notice) -> bool {
        let first = usize::from(self.is_trying);
        let least = self.waiting.iter().enumerate().skip(first).min_by_key(|(_, notice)| notice.urgency);
        let Some(index) = least.filter(|(_, notice)| notice.urgency <= newcomer.urgency).map(|(index, _)| index) else {
            return false;
        };
        let Some(gone) = self.waiting.remove(index) else { return false };
        self.known.retain(|known| *known != gone.id);
        self.counts.dropped += 1;
        tracing::warn!(notice.id = %gone.id, notice.kind = %gone.kind, "a notice gave way to a newer or more urgent one");
        true
    }
}
