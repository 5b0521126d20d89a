//! When credentials are due, and what a policy may not say.
//!
//! Invariant: times are compared with the policy's own numbers.

use std::time::Duration;

use kh_core::{CredentialName, UnixMillis};
use kh_rotation::{
    Policy, due,
    policy::{Calendar, Span},
    schedule::age_percent,
};

use super::sim::START;

const DAY: Duration = Duration::from_hours(24);

fn name(n: usize) -> CredentialName {
    format!("credential-{n}").parse().unwrap()
}

#[test]
fn due_is_stable_and_spread() {
    let policy = Policy::default();
    let times: Vec<_> = (0..1000).map(|n| due(&policy, &name(n), 3, START)).collect();
    assert_eq!(times, (0..1000).map(|n| due(&policy, &name(n), 3, START)).collect::<Vec<_>>());
    assert!(times.iter().all(|at| *at >= START.plus(72 * DAY) && *at <= START.plus(75 * DAY)));
    // Even enough that no hour of the three days has ten times its share.
    let mut hours = [0_u32; 73];
    for at in &times {
        hours[usize::try_from(at.since(START.plus(72 * DAY)).as_secs() / 3600).unwrap()] += 1;
    }
    assert!(
        hours.iter().all(|count| *count < 140) && hours.iter().filter(|count| **count > 0).count() > 60,
        "{hours:?}"
    );
    assert_ne!(due(&policy, &name(1), 3, START), due(&policy, &name(1), 4, START));
}

#[test]
fn due_waits_for_the_calendar() {
    let mut policy = Policy { jitter: Duration::ZERO, ..Policy::default() };
    let plain = due(&policy, &name(1), 1, START);
    assert_eq!(plain, START.plus(75 * DAY));
    policy.calendar.blackouts = vec![Span { from: plain.minus(DAY), to: plain.plus(2 * DAY) }];
    assert_eq!(due(&policy, &name(1), 1, START), plain.plus(2 * DAY));
    policy.calendar.blackouts.push(Span { from: plain.plus(2 * DAY), to: plain.plus(3 * DAY) });
    assert_eq!(due(&policy, &name(1), 1, START), plain.plus(3 * DAY));
    policy.calendar =
        Calendar { windows: Some(vec![Span { from: plain.plus(DAY), to: plain.plus(2 * DAY) }]), blackouts: vec![] };
    assert_eq!(due(&policy, &name(1), 1, START), plain.plus(DAY));
}

#[test]
fn windows_and_blackouts() {
    let span = |from, to| Span { from: UnixMillis(from), to: UnixMillis(to) };
    let later = UnixMillis(999);
    let closed = |calendar: &Calendar, now| calendar.closed_until(UnixMillis(now), later).map(|until| until.0);
    let calendar =
        Calendar { windows: Some(vec![span(10, 20), span(30, 40)]), blackouts: vec![span(15, 18), span(18, 32)] };
    for (now, until) in
        [(5, Some(10)), (10, None), (14, None), (15, Some(18)), (19, Some(32)), (32, None), (40, Some(999))]
    {
        assert_eq!(closed(&calendar, now), until, "{now}");
    }
    assert_eq!(closed(&Calendar::default(), 5), None);
    assert_eq!(closed(&Calendar { windows: Some(vec![]), blackouts: vec![] }, 5), Some(999), "no window is never open");
}

#[test]
fn age_in_percent() {
    let policy = Policy::default();
    for (days, percent) in [(0, 0), (45, 50), (72, 80), (81, 90), (90, 100), (180, 200)] {
        assert_eq!(age_percent(&policy, START, START.plus(days * DAY)), percent);
    }
}

#[test]
fn a_policy_that_could_prune_by_time_is_refused() {
    assert_eq!(Policy::default().checked(), Ok(()));
    let bad = |change: fn(&mut Policy), word: &str| {
        let mut policy = Policy::default();
        change(&mut policy);
        let error = policy.checked().unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    bad(|policy| policy.approvals.prune = 0, "at least one approval");
    bad(|policy| policy.overlap_max = policy.overlap_min, "overlap_max");
    bad(|policy| policy.interval = policy.lead, "interval");
    bad(|policy| policy.verification.successes = 0, "at least one success");
    bad(|policy| policy.verification.deadline = Duration::from_secs(1), "deadline");
    bad(|policy| policy.budget.per_day = 1, "per_day");
    bad(|policy| policy.backoff.tries = 0, "backoff");
    bad(|policy| policy.backoff.poll = Duration::ZERO, "poll");
}

#[test]
fn backoff_doubles_up_to_its_most() {
    let backoff = Policy::default().backoff;
    let waits: Vec<_> = [1, 2, 3, 9, 10, 200].map(|failures| backoff.after(failures).as_secs()).into();
    assert_eq!(waits, [2, 4, 8, 512, 600, 600]);
}
