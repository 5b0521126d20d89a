//! Telling every connection of a worker to finish. A connection registers its waker once, so that the hot path pays
//! one relaxed load per poll instead of a lock.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Poll, Waker},
};

use parking_lot::Mutex;

/// A one-way switch with wakers.
#[derive(Default)]
pub(crate) struct Drain {
    on: AtomicBool,
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
    /// Throws the switch.
    pub(crate) fn start(&self) {
        self.on.store(true, Ordering::SeqCst);
        for waker in self.wakers.lock().1.values() {
            waker.wake_by_ref();
        }
    }

    /// Runs `connection`; once the switch is thrown it is asked to finish.
    pub(crate) async fn watch<F: Finish>(&self, connection: F) -> F::Output {
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
            if !asked && self.on.load(Ordering::SeqCst) {
                asked = true;
                connection.as_mut().finish();
            }
            match connection.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(output),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}
