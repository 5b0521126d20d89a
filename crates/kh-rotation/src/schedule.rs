//! When a credential is due.
//!
//! Invariant: the time depends on the policy, the credential and its generation alone, so that a restart does not move
//! it, and a thousand credentials are not due at once.

use std::time::Duration;

use kh_core::{CredentialName, Sha256, UnixMillis};

use crate::policy::Policy;

/// Most blackouts and windows that are followed one after the other: a year of daily ones.
const BLACKOUTS_MAX: usize = 800;

/// When the next regular run begins at the earliest, for a secret of `generation` that was made at `created_at`: the
/// interval less the lead less the jitter's share, moved to the next time at which the calendar is open.
pub fn due(policy: &Policy, credential: &CredentialName, generation: u64, created_at: UnixMillis) -> UnixMillis {
    let spread = share(credential, generation, policy.jitter);
    let span = policy.interval.saturating_sub(policy.lead).saturating_sub(spread);
    let mut at = created_at.plus(span);
    // A blackout may end outside of the windows, or in the next one. Few follow each other.
    for _ in 0..BLACKOUTS_MAX {
        match policy.calendar.closed_until(at, at) {
            Some(later) if later > at => at = later,
            _ => break,
        }
    }
    at
}

/// The share of `within` that a credential's generation gets: even over credentials, the same at every call.
fn share(credential: &CredentialName, generation: u64, within: Duration) -> Duration {
    let digest = Sha256::of(format!("{credential}\n{generation}").as_bytes());
    let [a, b, c, d, ..] = digest.0;
    let part = u32::from_be_bytes([a, b, c, d]);
    within.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

/// How old a secret is, in whole percent of the policy's interval: alarms are raised at 80, 90 and 100.
pub fn age_percent(policy: &Policy, created_at: UnixMillis, now: UnixMillis) -> u64 {
    let age = now.since(created_at).as_millis().saturating_mul(100);
    let of = policy.interval.as_millis().max(1);
    u64::try_from(age / of).unwrap_or(u64::MAX)
}
