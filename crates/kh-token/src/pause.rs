//! How long no token request is made after one that failed.
//!
//! Invariant: a pause is at least [`PAUSE_MIN`], and more than [`FAILURE_PAUSE_MAX`] after a rate limit alone.

use std::time::Duration;

use kh_resilience::Share;

use crate::{
    event::Cause,
    policy::{FAILURE_PAUSE_MAX, PAUSE_MAX, PAUSE_MIN, RATE_LIMIT_BACKOFF, STORE_BACKOFF, TRANSIENT_BACKOFF},
};

/// The pause after a failure for `cause` that came after `failures` others in a row. `retry_after` is what the platform
/// asked for, `share` is random.
pub fn pause_after(cause: Cause, failures: u32, retry_after: Option<Duration>, share: Share) -> Duration {
    let drawn = match cause {
        Cause::RateLimited => {
            // Half fixed, half random: the limit is real, a pause of nothing would only meet it again.
            let ceiling = RATE_LIMIT_BACKOFF.ceiling(failures);
            ceiling / 2 + share.of(ceiling / 2)
        }
        Cause::Store => STORE_BACKOFF.delay_at(failures, share),
        Cause::Transient | Cause::Aborted | Cause::Storm => TRANSIENT_BACKOFF.delay_at(failures, share),
    };
    // The platform's own word counts; but when it failed again after that, it was too short.
    let told = retry_after.map(|wait| if failures == 0 { wait } else { wait.max(drawn) });
    let longest = if cause == Cause::RateLimited { PAUSE_MAX } else { FAILURE_PAUSE_MAX };
    told.unwrap_or(drawn).clamp(PAUSE_MIN, longest)
}
