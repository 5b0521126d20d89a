//! Noticing that something which should move has stood still for too long.
//!
//! Invariant: what moves costs no timer and reads no clock. The timer is set by the first wait; when it rings, it is
//! held against what has moved since. It has to ring twice over nothing, half the limit apart, because in a program
//! that was stopped for long every timer rings before the bytes that have arrived meanwhile are seen.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// A watch over one thing that may wait, but not for ever.
#[derive(Debug)]
pub struct Standstill {
    limit: Duration,
    moved: bool,
    /// Nothing had moved when the timer rang last.
    still: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Standstill {
    /// Nothing may stand still for longer than `limit`, and half as much again at most until that is noticed.
    pub fn new(limit: Duration) -> Self {
        Self { limit, moved: false, still: false, timer: None }
    }

    /// Has another limit once the timer that is set has rung.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Something has moved, or there is nothing to wait for any more.
    #[inline]
    pub fn moved(&mut self) {
        self.moved = true;
    }

    /// Something waits: ready once nothing has moved for the limit; until then the task of `cx` is woken in time to ask
    /// again.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let half = self.limit / 2;
        if self.timer.is_none() {
            // whatever moved before this wait is no sign that it goes on
            (self.moved, self.still) = (false, false);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(half)));
        while timer.as_mut().poll(cx).is_ready() {
            let moved = std::mem::take(&mut self.moved);
            if self.still && !moved {
                return Poll::Ready(());
            }
            self.still = !moved;
            timer.as_mut().reset(Instant::now() + half);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
