//! Telling every connection of a worker to finish, in two steps: first it is announced (an answer over HTTP/1.1 says
//! `Connection: close`, an HTTP/2 connection says GOAWAY), then idle connections are closed. A caller that was about to
//! use its idle connection gets its answer that way, rather than a reset.
//!
//! A connection registers its waker once, so that the hot path pays one load per poll instead of a lock.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::atomic::{AtomicU8, Ordering},
    task::Waker,
};

use parking_lot::Mutex;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Callers are told.
    Announce = 1,
    /// Idle connections are closed.
    Close = 2,
}

/// A one-way switch of two steps, with wakers.
#[derive(Default)]
pub(crate) struct Drain {
    phase: AtomicU8,
    wakers: Mutex<(u64, HashMap<u64, Waker>)>,
}

struct Registered<'a> {
    drain: &'a Drain,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.drain.wakers.lock().1.remove(&self.id);
    }
}

/// A future that can be asked to come to its end.
pub(crate) trait Finish: Future {
    /// Finish what is going on and start nothing new.
    fn finish(self: Pin<&mut Self>);
}

impl Drain {
    /// The end has been announced.
    pub(crate) fn announce(&self) {
        self.go(Phase::Announce);
    }

    /// Idle connections are to be closed.
    pub(crate) fn close(&self) {
        self.go(Phase::Close);
    }

    fn go(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
        for waker in self.wakers.lock().1.values() {
            waker.wake_by_ref();
        }
    }

    /// Whether callers are to be told that their connection ends.
    pub(crate) fn is_announced(&self) -> bool {
        self.phase.load(Ordering::Relaxed) != 0
    }

    /// Runs `connection`; once `phase` has come it is asked to finish.
    pub(crate) async fn watch<F: Finish>(&self, connection: F, phase: Phase) -> F::Output {
        let mut connection = std::pin::pin!(connection);
        let mut registered: Option<Registered<'_>> = None;
        let mut asked = false;
        poll_fn(|cx| {
            if registered.is_none() {
                let mut wakers = self.wakers.lock();
                wakers.0 += 1;
                let id = wakers.0;
                // a task keeps its waker for life, so once is enough
                wakers.1.insert(id, cx.waker().clone());
                registered = Some(Registered { drain: self, id });
            }
            if !asked && self.phase.load(Ordering::SeqCst) >= phase as u8 {
                asked = true;
                connection.as_mut().finish();
            }
            connection.as_mut().poll(cx)
        })
        .await
    }
}
