//! The keys of one issuer, and their renewal.
//!
//! Invariants: a set is parsed before it replaces another, and a bad one replaces nothing; at most one fetch is under
//! way; however a fetch ends, what became of it is noted before those who wait are woken; the generation moves with every
//! change of the set, after the change, so that whoever sees the new generation sees the new keys.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use kh_core::{
    Clock, Now, Sha256, UnixMillis,
    port::{KeyDocument, KeySource, RemoteError},
};
use kh_verify::{KeySet, Symmetric};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    flight::Tasks,
    refresh::{Bounds, Refresh, Until},
};

/// Longest fetch, whatever the source does: the sources have shorter limits of their own.
const FETCH_MAX: Duration = Duration::from_secs(30);

/// One key set.
pub(crate) struct Held {
    pub(crate) keys: KeySet,
    pub(crate) generation: u32,
}

/// The keys of one issuer.
pub(crate) struct Ring {
    name: Arc<str>,
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    held: ArcSwapOption<Held>,
    /// Of what is held; zero while nothing is.
    generation: AtomicU32,
    good_until_wall: AtomicU64,
    good_until_mono_ms: AtomicU64,
    state: Mutex<State>,
}

struct State {
    refresh: Refresh,
    /// Of the document that is held, so that the same document changes nothing.
    digest: Option<Sha256>,
    /// Closed when the fetch is over.
    fetching: Option<watch::Receiver<()>>,
    told_failure: bool,
}

impl State {
    fn under_way(&mut self) -> Option<watch::Receiver<()>> {
        // a closed channel is a fetch that ended
        self.fetching.take_if(|over| over.has_changed().is_err());
        self.fetching.clone()
    }
}

/// A fetch that is under way.
struct Fetch {
    ring: Arc<Ring>,
    concluded: bool,
    /// Wakes those who wait, after all else.
    _ending: watch::Sender<()>,
}

impl Fetch {
    async fn run(mut self) {
        let fetched = match tokio::time::timeout(FETCH_MAX, self.ring.source.fetch()).await {
            Ok(fetched) => fetched,
            Err(_elapsed) => Err(RemoteError::new("no key set came in time")),
        };
        self.ring.conclude(fetched);
        self.concluded = true;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.concluded {
            self.ring.cut_off();
        }
    }
}

/// What a fetch that a caller asked for came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// A fetch is over; look again.
    Fetched,
    /// It is too early for another one.
    TooEarly,
}

impl Ring {
    /// Nothing held. A source that can tell at once is read here.
    pub(crate) fn new(name: Arc<str>, source: Arc<dyn KeySource>, bounds: Bounds, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        let refresh = Refresh::new(bounds, now);
        let state = State { refresh, digest: None, fetching: None, told_failure: false };
        let ring = Self {
            name,
            source,
            clock,
            held: ArcSwapOption::empty(),
            generation: AtomicU32::new(0),
            good_until_wall: AtomicU64::new(0),
            good_until_mono_ms: AtomicU64::new(0),
            state: Mutex::new(state),
        };
        if let Some(read) = ring.source.at_start() {
            ring.state.lock().refresh.begin(now);
            ring.conclude(read);
        }
        ring
    }

    /// The keys that may be used now.
    pub(crate) fn keys(&self, now: Now) -> Option<Guard<Option<Arc<Held>>>> {
        let held = self.held.load();
        (held.is_some() && !self.is_stale(now)).then_some(held)
    }

    /// Whether what was verified under `generation` still stands.
    pub(crate) fn stands(&self, generation: u32, now: Now) -> bool {
        generation == self.generation.load(Ordering::Acquire) && !self.is_stale(now)
    }

    fn is_stale(&self, now: Now) -> bool {
        let until = Until {
            wall: UnixMillis(self.good_until_wall.load(Ordering::Relaxed)),
            mono: Duration::from_millis(self.good_until_mono_ms.load(Ordering::Relaxed)),
        };
        until.is_over(now)
    }

    /// How long until the next fetch in the background.
    pub(crate) fn due_in(&self, now: Now) -> Duration {
        self.state.lock().refresh.due_in(now)
    }

    /// How long until a caller can cause a fetch.
    pub(crate) fn ask_in(&self, now: Now) -> Duration {
        self.state.lock().refresh.ask_in(now)
    }

    /// Whether the issuer may have other keys by now, because the last fetch brought none.
    pub(crate) fn is_behind(&self) -> bool {
        self.state.lock().refresh.is_behind()
    }

    /// Fetches in the background; done when it is over.
    pub(crate) async fn renew(self: &Arc<Self>, tasks: &Tasks) {
        let over = {
            let mut state = self.state.lock();
            state.under_way().ok_or_else(|| {
                state.refresh.begin(self.clock.now());
                Self::board(&mut state)
            })
        };
        self.fly(over, tasks).await;
    }

    /// A caller's token has a key that is not held: joins the fetch that is under way, or causes one if it is time.
    pub(crate) async fn ask(self: &Arc<Self>, tasks: &Tasks) -> Asked {
        let over = {
            let mut state = self.state.lock();
            match state.under_way() {
                Some(over) => Ok(over),
                None if state.refresh.ask(self.clock.now()) => Err(Self::board(&mut state)),
                None => return Asked::TooEarly,
            }
        };
        self.fly(over, tasks).await;
        Asked::Fetched
    }

    /// The ends of a new fetch's channel.
    fn board(state: &mut State) -> (watch::Sender<()>, watch::Receiver<()>) {
        let (ending, over) = watch::channel(());
        state.fetching = Some(over.clone());
        (ending, over)
    }

    /// Waits for the fetch that is under way (`Ok`), or starts a new one (`Err`) and waits for it. It is a task of its
    /// own: who waits may go away.
    async fn fly(
        self: &Arc<Self>,
        over: Result<watch::Receiver<()>, (watch::Sender<()>, watch::Receiver<()>)>,
        tasks: &Tasks,
    ) {
        let mut over = match over {
            Ok(over) => over,
            Err((ending, over)) => {
                // made before the task, which may be dropped before it begins
                let fetch = Fetch { ring: Arc::clone(self), concluded: false, _ending: ending };
                tasks.start(fetch.run());
                over
            }
        };
        while over.changed().await.is_ok() {}
    }

    /// A fetch ended before anything came of it. Its task goes with the verifier that started it, while the ring may
    /// have another one by then.
    fn cut_off(&self) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if std::thread::panicking() {
            // by a bug, which the next one may meet again
            state.refresh.failed(now, None);
        } else {
            state.refresh.cut_off(now);
        }
    }

    /// Takes a good set in; a bad one leaves things as they are.
    fn conclude(&self, fetched: Result<KeyDocument, RemoteError>) {
        let now = self.clock.now();
        // at most one fetch is under way, so it stays what it is
        let held = self.state.lock().digest;
        let parsed = fetched.and_then(|document| {
            let digest = Sha256::of(&document.bytes);
            if held == Some(digest) {
                return Ok((None, document.fresh_for));
            }
            let keys = KeySet::parse(&document.bytes, Symmetric::Refused)
                .map_err(|error| RemoteError::new(format!("the key set cannot be used: {error}")))?;
            Ok((Some((keys, digest)), document.fresh_for))
        });
        let mut state = self.state.lock();
        match parsed {
            Ok((changed, fresh_for)) => {
                state.refresh.fetched(now, fresh_for);
                if let Some((keys, digest)) = changed {
                    state.digest = Some(digest);
                    self.replace(keys);
                }
                let until = state.refresh.good_until().unwrap_or(Until { wall: UnixMillis(0), mono: Duration::ZERO });
                self.good_until_wall.store(until.wall.0, Ordering::Relaxed);
                let mono = u64::try_from(until.mono.as_millis()).unwrap_or(u64::MAX);
                self.good_until_mono_ms.store(mono, Ordering::Relaxed);
                if std::mem::take(&mut state.told_failure) {
                    tracing::info!(issuer.name = %self.name, "the issuer's keys can be read again");
                }
            }
            Err(error) => {
                state.refresh.failed(now, error.retry_after);
                if !std::mem::replace(&mut state.told_failure, true) {
                    self.tell_failure(&error);
                }
            }
        }
    }

    /// Only with the state's lock held.
    fn replace(&self, keys: KeySet) {
        let generation = self.generation.load(Ordering::Relaxed).wrapping_add(1).max(1);
        tracing::info!(issuer.name = %self.name, keys = keys.keys().len(), keys.left_out = keys.skipped().len(), "the issuer's keys are loaded");
        self.held.store(Some(Arc::new(Held { keys, generation })));
        self.generation.store(generation, Ordering::Release);
    }

    fn tell_failure(&self, error: &RemoteError) {
        if self.held.load().is_some() {
            tracing::warn!(issuer.name = %self.name, "the issuer's keys cannot be read; the last good ones stay: {error}");
        } else {
            tracing::error!(issuer.name = %self.name, "the issuer's keys cannot be read; its tokens are refused: {error}");
        }
    }
}
