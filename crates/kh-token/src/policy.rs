//! What can be set per credential about its token, and the limits that can't.
//!
//! Invariant: whatever the numbers, a token is refreshed no earlier than in the second half of its life.

use std::time::Duration;

use kh_resilience::{Backoff, Share};

/// Longest life that is believed: 450 days, the longest that Genesys Cloud gives (SCIM clients).
pub const LIFE_MAX: Duration = Duration::from_hours(10800);

/// How long a caller without a token is kept waiting for a pause that follows a failure. Longer ones are told at once:
/// the caller's own timeout is near, and a thousand parked requests help nobody.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The shortest pause after a failure: full jitter may draw zero, and zero for a thousand callers is a hot loop.
pub const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause after a failure; a `Retry-After` may ask for more than this only by mistake.
pub const PAUSE_MAX: Duration = Duration::from_hours(24);

/// The longest pause after a failure that is not a rate limit, whatever `Retry-After` says: maintenance pages ask for a
/// day, and a credential must not stay shut for a day because one of them was met.
pub const FAILURE_PAUSE_MAX: Duration = Duration::from_mins(10);

/// Waits after a token endpoint that was not reachable or answered nonsense.
pub const TRANSIENT_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) };

/// Waits after a rate limit without `Retry-After`. Genesys Cloud counts token requests per minute and does not tell
/// when the minute ends (its answer is a bare 400), so the ceiling is one window.
pub const RATE_LIMIT_BACKOFF: Backoff = Backoff { base: Duration::from_secs(4), max: Duration::from_mins(1) };

/// Waits after a secret store that could not be read: it is usually near, and reading it costs no platform call.
pub const STORE_BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(15) };

/// Waits when the platform kills token after token: doubling, so that a broken platform gets fewer logins, not more.
pub const STORM_BACKOFF: Backoff = Backoff { base: Duration::from_secs(2), max: Duration::from_mins(2) };

/// A token that was invalidated below this age did not fail of age: something kills fresh tokens.
pub const YOUNG: Duration = Duration::from_mins(1);

/// How many young tokens in a row may be invalidated before the next fetch has to wait. Two happen in honest
/// operation: a revocation that meets an eventually consistent authorisation service.
pub const STORM_FREE: u32 = 3;

/// How long a fresh token's life is remembered when no token is held, to answer an unsatisfiable `min_ttl` without
/// asking the platform each time.
pub const TTL_MEMORY: Duration = Duration::from_mins(1);

/// A request for nearly all of a fresh token's life would fetch at every call, so this much of the life (and at most
/// [`TTL_SLACK_MAX`]) cannot be asked for unless the held token happens to have it.
pub const TTL_SLACK_DIVISOR: u32 = 20;

/// The most that is held back by [`TTL_SLACK_DIVISOR`].
pub const TTL_SLACK_MAX: Duration = Duration::from_mins(1);

/// First pause before a rejected id and secret are tried once more unchanged. Longer than common lockout windows
/// count failures for (5 within minutes), and doubled each time.
pub const REJECTED_BASE: Duration = Duration::from_mins(10);

/// The longest such pause.
pub const REJECTED_MAX: Duration = Duration::from_hours(24);

/// How long callers wait for another document when the platform refuses one that had worked before: its secret was most
/// likely just replaced, and whoever replaced it is about to store the new one. Longer than keyholder's own replacement
/// in place takes, shorter than a gateway's caller waits for a token.
pub const REPLACED_PATIENCE: Duration = Duration::from_secs(20);

/// How long a document that took the place of one that had worked is left alone when the platform refuses it: not every
/// server of a platform knows a new secret at once.
pub const REPLACED_AGAIN: Duration = Duration::from_secs(2);

/// How often that is tried. With the refusal of the old one these are fewer refused logins than the five within minutes
/// after which accounts are commonly locked.
pub const REPLACED_TRIES: u32 = 3;

/// How many rejected documents are remembered: enough for an operator who tries old values one after the other.
pub const REJECTIONS_KEPT: usize = 8;

/// Settings of one credential's token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenPolicy {
    /// How long before expiry a token is refreshed, at most a fifth of its life. The CXone SDK uses 600 s of 3600.
    pub refresh_ahead: Duration,
    /// The platform's inactivity timeout, if it has one: Genesys Cloud organisations may set 300 to 28,800 s, HIPAA
    /// ones at most 900 s, and it kills tokens of OAuth clients before `expires_in`.
    pub idle_ttl: Option<Duration>,
    /// A token is presumed dead this long before the inactivity timeout ends, at most half of it.
    pub idle_margin: Duration,
    /// Hard limit for one token request, from reading the document to the whole answer.
    pub fetch_deadline: Duration,
    /// How often the secret store is asked for a newer version.
    pub store_poll: Duration,
}

impl Default for TokenPolicy {
    fn default() -> Self {
        Self {
            refresh_ahead: Duration::from_mins(5),
            idle_ttl: None,
            idle_margin: Duration::from_secs(15),
            fetch_deadline: Duration::from_secs(15),
            store_poll: Duration::from_secs(5),
        }
    }
}

impl TokenPolicy {
    /// The age at which a token of `life` is refreshed. The lead before expiry is stretched by up to a half by
    /// `share`, so that tokens of one moment are not all refreshed in one moment.
    pub fn refresh_age(&self, life: Duration, share: Share) -> Duration {
        let ahead = self.refresh_ahead.min(life / 5);
        life.saturating_sub(ahead + share.of(ahead / 2))
    }

    /// How long a token may go unused before it is presumed dead.
    pub fn idle_limit(&self) -> Option<Duration> {
        self.idle_ttl.map(|ttl| ttl.saturating_sub(self.idle_margin.min(ttl / 2)))
    }

    /// The largest `min_ttl` that is worth a fetch when a fresh token lives for `life`.
    pub fn longest_min_ttl(life: Duration) -> Duration {
        life.saturating_sub((life / TTL_SLACK_DIVISOR).min(TTL_SLACK_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refresh_ages() {
        let policy = TokenPolicy::default();
        let age = |life, share| policy.refresh_age(Duration::from_secs(life), share).as_secs();
        assert_eq!((age(86_400, Share::NONE), age(86_400, Share::WHOLE)), (86_100, 85_950));
        assert_eq!((age(300, Share::NONE), age(300, Share::WHOLE)), (240, 210));
    }

    proptest! {
        #[test]
        fn never_in_the_first_half(life in 0_u64..40_000_000, ahead: u32, share: u16) {
            let policy = TokenPolicy { refresh_ahead: Duration::from_secs(u64::from(ahead)), ..TokenPolicy::default() };
            let life = Duration::from_secs(life);
            let age = policy.refresh_age(life, Share(share));
            prop_assert!(age <= life && age >= life / 2);
        }

        #[test]
        fn an_idle_limit_leaves_half(ttl in 1_u64..100_000, margin: u32) {
            let policy = TokenPolicy {
                idle_ttl: Some(Duration::from_secs(ttl)),
                idle_margin: Duration::from_secs(u64::from(margin)),
                ..TokenPolicy::default()
            };
            let limit = policy.idle_limit().unwrap();
            prop_assert!(limit >= Duration::from_secs(ttl) / 2 && limit <= Duration::from_secs(ttl));
        }
    }
}
