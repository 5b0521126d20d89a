//! Whether a platform's 429 or 503 is waited out and the call sent again.
//!
//! Invariant: a call that may have had an effect is never sent twice: only idempotent methods, only with a body that
//! can be sent again, only when the platform itself named a short wait.

use std::time::Duration;

/// The longest `Retry-After` that is waited out on behalf of a caller; longer ones pass through unchanged.
pub const REPLAY_WAIT_MAX: Duration = Duration::from_secs(30);

/// How often one call is sent at most. Two replays ride out one limit window of a minute in two halves; more would
/// hold the caller longer than ordinary client timeouts.
pub const ATTEMPTS_MAX: u32 = 3;

/// Whether a method has the same effect when sent twice (RFC 9110 section 9.2.2). Methods are case-sensitive
/// (section 9.1), an unknown one counts as not idempotent.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// How long to wait before sending the call again, or `None` when the answer goes to the caller as it is.
/// `attempts_made` counts how often the call was sent already, from 1.
pub fn wait_before_replay(
    status: u16,
    method: &str,
    replayable: bool,
    retry_after: Option<Duration>,
    attempts_made: u32,
) -> Option<Duration> {
    let asks_to_wait = matches!(status, 429 | 503);
    let allowed = asks_to_wait && replayable && is_idempotent(method) && attempts_made < ATTEMPTS_MAX;
    retry_after.filter(|wait| allowed && *wait <= REPLAY_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(status: u16, method: &str, body: &str, retry_after: Option<u64>, made: u32, expected: Option<u64>) {
        let got = wait_before_replay(status, method, body == "replayable", retry_after.map(Duration::from_secs), made);
        assert_eq!(got, expected.map(Duration::from_secs), "{status} {method} {body} {retry_after:?} {made}");
    }

    #[test]
    fn the_rules() {
        check(429, "GET", "replayable", Some(3), 1, Some(3));
        check(503, "DELETE", "replayable", Some(0), 1, Some(0));
        check(429, "PUT", "replayable", Some(30), 2, Some(30));
        check(429, "PUT", "streamed", Some(3), 1, None);
        check(429, "GET", "replayable", Some(31), 1, None);
        check(429, "GET", "replayable", None, 1, None);
        check(429, "GET", "replayable", Some(3), 3, None);
        check(500, "GET", "replayable", Some(3), 1, None);
        for method in ["POST", "PATCH", "CONNECT", "get", "PURGE", ""] {
            check(429, method, "replayable", Some(3), 1, None);
        }
    }

    proptest! {
        #[test]
        fn a_replay_has_every_reason(
            status in 100_u16..600,
            method in "GET|HEAD|POST|PUT|PATCH|DELETE",
            replayable: bool,
            retry_after in prop::option::of(0_u64..100),
            made in 0_u32..10,
        ) {
            let wait = wait_before_replay(status, &method, replayable, retry_after.map(Duration::from_secs), made);
            if let Some(wait) = wait {
                prop_assert!(matches!(status, 429 | 503) && replayable && method != "POST" && method != "PATCH");
                prop_assert!(wait <= REPLAY_WAIT_MAX && made < ATTEMPTS_MAX);
                prop_assert_eq!(Some(wait), retry_after.map(Duration::from_secs));
            }
        }
    }
}
