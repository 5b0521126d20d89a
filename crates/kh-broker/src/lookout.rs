//! Looks for a newer document of one credential at short intervals, for a short time: its secret was just replaced, and
//! callers may be waiting for the new one.
//!
//! Invariants: one such task per credential; it reads the store and never logs in, so that no login is made more often
//! for it; it ends with the first news, or after [`LOOKS_FOR`].

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::Credential;

/// The first pause between two looks; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause. The stores of the clouds are paid by the call: at most [`LOOKS_FOR`] holds some 15 of them.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long is looked: as long as callers wait. The usual watch goes on beside it and after it.
const LOOKS_FOR: Duration = kh_token::policy::REPLACED_PATIENCE;

/// Longest wait for one answer of the store.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Marks the task's end, however it ends.
struct Looking(Arc<Credential>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.is_looking.store(false, Ordering::SeqCst);
    }
}

impl Credential {
    /// The store has a newer document, or will have one any moment: it is looked for at once and then at short intervals.
    /// Returns at once. News are taken up as those of the usual watch are.
    pub fn look_for_newer(&self) {
        let Some(own) = self.shared().filter(|own| !own.cancel().is_cancelled()) else { return };
        if self.is_looking.swap(true, Ordering::SeqCst) {
            self.look_now.notify_one();
            return;
        }
        let ports = Arc::clone(self.ports());
        let looking = Looking(own);
        drop(ports.tasks.spawn_on(async move { looking.0.look_until_news().await }, &ports.runtime));
    }

    async fn look_until_news(&self) {
        let looks = async {
            let (known, _) = self.expected();
            let mut pause = PAUSE_FIRST;
            loop {
                if self.look_once().await || self.expected().0 != known {
                    return;
                }
                tokio::select! {
                    () = self.look_now.notified() => pause = PAUSE_FIRST,
                    () = tokio::time::sleep(pause) => pause = pause.saturating_mul(2).min(PAUSE_MAX),
                }
            }
        };
        tokio::select! {
            biased;
            () = self.cancel().cancelled() => {}
            _ = tokio::time::timeout(LOOKS_FOR, looks) => {}
        }
    }

    /// Reads the document itself: a version may be told from memory by a store that is far away.
    async fn look_once(&self) -> bool {
        let read = self.ports().source.read(&self.spec().secret);
        match tokio::time::timeout(ANSWER_MAX, read).await {
            Ok(Ok(stored)) => self.on_version(stored.version),
            Ok(Err(error)) => {
                tracing::debug!(credential.name = %self.name(), "a newer document is looked for in vain: {error}");
                false
            }
            Err(_elapsed) => false,
        }
    }
}
