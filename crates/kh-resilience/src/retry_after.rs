//! `Retry-After` (RFC 9110 section 10.2.3): delta-seconds or an HTTP-date. Genesys Cloud always sends seconds; what
//! stands before a platform (a load balancer, a CDN) may send a date.
//!
//! Invariant: a parsed wait is at most [`RETRY_AFTER_CAP`]; what is neither form is no wait at all, never a panic.

use std::time::{Duration, UNIX_EPOCH};

use kh_core::UnixMillis;

/// Above this a wait is told to the caller at once instead of being waited out. The vendor's own .NET, Java and Go
/// SDKs refuse to wait longer, because daily limits answer with "few minutes to hours".
pub const RETRY_AFTER_FAIL_FAST: Duration = Duration::from_mins(3);

/// No platform limit known to us lasts longer than a day; a week leaves room and keeps arithmetic far from overflow.
pub const RETRY_AFTER_CAP: Duration = Duration::from_hours(168);

/// Longest accepted value in bytes: the longest HTTP-date form (RFC 850, "Wednesday, ...") has 33.
const VALUE_MAX: usize = 64;

/// The wait that `value` asks for, counted from `now`. A date in the past is a wait of zero; a value that is neither
/// form (negative, fractional, empty, several values) is `None`.
pub fn parse(value: &str, now: UnixMillis) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() || value.len() > VALUE_MAX {
        return None;
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are a very long wait, not garbage.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_CAP));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since_epoch = date.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Duration::from_millis(now.0);
    Some(since_epoch.saturating_sub(now).min(RETRY_AFTER_CAP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1994-11-06T08:49:37Z, the instant of RFC 9110's examples.
    const RFC_INSTANT: u64 = 784_111_777_000;

    fn check(value: &str, expected: Option<u64>) {
        let now = UnixMillis(RFC_INSTANT - 30_000);
        assert_eq!(parse(value, now), expected.map(Duration::from_secs), "{value:?}");
    }

    #[test]
    fn both_forms() {
        check("0", Some(0));
        check("120", Some(120));
        check(" 7 ", Some(7));
        check("007", Some(7));
        check("7200", Some(7200));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(30));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(30));
        check("Sun Nov  6 08:49:37 1994", Some(30));
        check("Sun, 06 Nov 1994 08:49:07 GMT", Some(0));
        check("Sun, 06 Nov 1994 08:00:00 GMT", Some(0));
    }

    #[test]
    fn caps() {
        let cap = RETRY_AFTER_CAP.as_secs();
        check(&cap.to_string(), Some(cap));
        check(&(cap + 1).to_string(), Some(cap));
        check(&u64::MAX.to_string(), Some(cap));
        check("99999999999999999999999999999999", Some(cap));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(cap));
        check(&"9".repeat(VALUE_MAX + 1), None);
    }

    #[test]
    fn garbage_is_no_wait() {
        for value in
            ["", " ", "-1", "+1", "1.5", "1s", "soon", "12, 13", "0x10", "１２", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            check(value, None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_bounded(value in ".{0,80}", now: u64) {
            prop_assert!(parse(&value, UnixMillis(now)).is_none_or(|wait| wait <= RETRY_AFTER_CAP));
        }

        #[test]
        fn seconds_come_back(seconds in 0..=RETRY_AFTER_CAP.as_secs(), now: u64) {
            prop_assert_eq!(parse(&seconds.to_string(), UnixMillis(now)), Some(Duration::from_secs(seconds)));
        }

        #[test]
        fn dates_come_back(ahead in 0_u64..600_000, now in 0_u64..4_000_000_000) {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now + ahead));
            prop_assert_eq!(parse(&date, UnixMillis(now * 1000)), Some(Duration::from_secs(ahead)));
        }
    }
}
