//! Reading other processes' revocations, and forgetting old ones.
//!
//! Invariant: while the store cannot be read, what is known stays in force.

use std::{sync::Arc, time::Duration};

use kh_core::Clock;
use tokio::time::MissedTickBehavior;

use super::{POLL_EVERY, Revocations};

/// How often old revocations are forgotten.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

impl Revocations {
    /// Looks for what others have written, for ever: to be dropped when it is no longer needed. Several at once do no
    /// harm.
    pub async fn watch(&self, clock: Arc<dyn Clock>) {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = clock.now();
        // the first sweep compares with this look
        self.is_steady(begun);
        let mut swept = begun.mono;
        let mut failing = false;
        loop {
            ticks.tick().await;
            let mut outcome = self.refresh(clock.now()).await.map(drop);
            let now = clock.now();
            if outcome.is_ok() && now.mono.saturating_sub(swept) >= SWEEP_EVERY {
                swept = now.mono;
                outcome = self.sweep(now).await;
            }
            match &outcome {
                Ok(()) if failing => tracing::info!("revocations can be read again"),
                Err(error) if !failing => {
                    tracing::error!("revocations by other processes cannot be read; known ones stay in force: {error}");
                }
                _ => {}
            }
            failing = outcome.is_err();
        }
    }
}
