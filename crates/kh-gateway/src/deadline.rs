//! Deadlines that nearly never come: the next request head, the platform's answer. Each connection has a few of these
//! in turn, thousands a second in all.
//!
//! Invariant: a deadline is never missed, and never rings early. The timer underneath is registered once and left
//! alone as long as it rings no later than the current deadline; when it does, it is set anew. That saves every request
//! the insertion into the runtime's timer wheel, the removal and the clock readings in between.
//!
//! In a program that was stopped for long, every timer rings before the bytes that have arrived meanwhile are seen.
//! Therefore a deadline that has come lets its task look once more before it rings.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper::rt::{Sleep as HyperSleep, Timer as HyperTimer};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for a row of deadlines, one at a time.
#[derive(Default)]
pub(crate) struct Deadline(Mutex<Option<Armed>>);

struct Armed {
    sleep: Pin<Box<Sleep>>,
    /// Whom the timer wakes.
    waker: Waker,
    /// The last look before the deadline of that time rings: ready when the sockets have been asked again.
    last_look: Option<(Instant, Look)>,
}

type Look = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Armed {
    fn rings(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let (of, look) = self.last_look.get_or_insert_with(|| (at, Box::pin(tokio::task::yield_now())));
        if *of != at {
            (*of, *look) = (at, Box::pin(tokio::task::yield_now()));
        }
        let looked = look.as_mut().poll(cx);
        if looked.is_ready() {
            self.last_look = None;
        }
        looked
    }
}

impl Deadline {
    /// Ready once `at` has come; until then the task of `cx` is woken in time to ask again.
    pub(crate) fn poll(&self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut armed = self.0.lock();
        if let Some(Armed { sleep, waker, .. }) = armed.as_ref()
            && sleep.deadline() <= at
            && !sleep.is_elapsed()
            && waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        let armed = armed.get_or_insert_with(|| Armed {
            sleep: Box::pin(sleep_until(at)),
            waker: cx.waker().clone(),
            last_look: None,
        });
        loop {
            if armed.sleep.deadline() > at || (armed.sleep.is_elapsed() && armed.sleep.deadline() < at) {
                armed.sleep.as_mut().reset(at);
            }
            armed.waker.clone_from(cx.waker());
            // A task out of budget would be told "pending" here without being registered.
            let polled = Pin::new(&mut tokio::task::unconstrained(armed.sleep.as_mut())).poll(cx);
            if polled.is_pending() {
                return polled;
            }
            if armed.sleep.deadline() >= at {
                return armed.rings(at, cx);
            }
        }
    }

    /// Waits for `future` until `at`; `None` when that comes first.
    pub(crate) async fn before<F: Future>(&self, at: Instant, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(at, cx).map(|()| None),
        })
        .await
    }
}

/// A [`Deadline`] as hyper uses it, for the request heads of one connection: one at a time.
#[derive(Clone, Default)]
pub(crate) struct HeadTimer(Arc<Deadline>);

struct HeadSleep {
    deadline: Arc<Deadline>,
    at: Instant,
}

impl HyperTimer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn HyperSleep>> {
        self.sleep_until((Instant::now() + duration).into_std())
    }

    fn sleep_until(&self, at: std::time::Instant) -> Pin<Box<dyn HyperSleep>> {
        Box::pin(HeadSleep { deadline: Arc::clone(&self.0), at: at.into() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.deadline.poll(self.at, cx)
    }
}

impl HyperSleep for HeadSleep {}

#[cfg(test)]
mod tests;
