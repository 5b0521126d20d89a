//! What a configuration says of a rotation, in the core's words.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{
    civil::{Time, Weekday},
    tz::{TimeZone, TimeZoneDatabase},
};
use kh_core::{Code, CredentialName, port::rotation_journal::LEASE_MAX};
use kh_rotation::{
    Policy,
    policy::{Approvals, Backoff, Consumer, Reads, Verification, Waiver},
};
use kh_rotator::{Blackout, Times, Window};

use super::GRADE;
use crate::{
    cli::Loaded,
    config::{CALL_MIN, ConsumerConfig, CredentialRotationConfig, RotationConfig, RotationTimes, calendar},
    output::Failure,
};

/// How long a consumer is taken to keep what it read, where it does not say: the longest of the usual caches.
const CACHE: Duration = Duration::from_mins(15);

/// Shortest pause between two looks at what a run waits for.
const POLL_MIN: Duration = Duration::from_secs(1);

/// One key of a credential, or the same key of `[rotation]`.
fn either<'a, T>(
    own: &'a RotationTimes,
    usual: &'a RotationTimes,
    key: fn(&RotationTimes) -> &Option<T>,
) -> Option<&'a T> {
    key(own).as_ref().or(key(usual).as_ref())
}

/// The rules of every credential that is rotated, but for the ones that do not fit together.
pub(crate) fn rules(loaded: &Loaded) -> BTreeMap<CredentialName, (Policy, Times)> {
    let defaults = &loaded.config.rotation;
    let rotated = loaded.config.credentials.iter().filter_map(|(name, of)| Some((name, of.rotation.as_ref()?)));
    let fitting = rotated.filter_map(|(name, rotation)| {
        Some((name.clone(), (policy(name, rotation, defaults).ok()?, times(rotation, &defaults.usual))))
    });
    fitting.collect()
}

/// The policy of one credential.
pub(super) fn policy(
    name: &CredentialName,
    rotation: &CredentialRotationConfig,
    defaults: &RotationConfig,
) -> Result<Policy, Failure> {
    let (own, usual) = (&rotation.times, &defaults.usual);
    let from = Policy::default();
    let span = |key: fn(&RotationTimes) -> &Option<Duration>| either(own, usual, key).copied();
    let interval = span(|times| &times.interval).unwrap_or(from.interval);
    let jitter = span(|times| &times.jitter).unwrap_or(from.jitter.min(interval / 30));
    let lead = from.lead.min(interval.saturating_sub(jitter) / 6);
    let overlap_min = span(|times| &times.overlap_min);
    let overlap_max = span(|times| &times.overlap_max);
    // the default of the one gives way to what is said of the other
    let (overlap_min, overlap_max) = match (overlap_min, overlap_max) {
        (Some(least), Some(most)) => (least, most),
        (Some(least), None) => (least, from.overlap_max.max(least * 2)),
        (None, Some(most)) => (from.overlap_min.min(most / 2), most),
        (None, None) => (from.overlap_min, from.overlap_max),
    };
    let successes = own.verify.successes.or(usual.verify.successes);
    let successes = successes.and_then(|count| u32::try_from(count).ok()).unwrap_or(from.verification.successes);
    let deadline = own.verify.deadline.or(usual.verify.deadline).unwrap_or(from.verification.deadline);
    let spacing = from.verification.spacing.min(deadline / (successes.saturating_mul(2).max(1)));
    let count = |given: Option<u64>, usual: usize| given.and_then(|count| usize::try_from(count).ok()).unwrap_or(usual);
    let approvals = (&own.approvals, &usual.approvals);
    let policy = Policy {
        interval,
        jitter,
        lead,
        overlap_min,
        overlap_max,
        quiet: span(|times| &times.quiet).unwrap_or(from.quiet),
        verification: Verification { successes, spacing, deadline },
        consumers: rotation.consumers.iter().map(consumer).chain(OWN.map(own_consumer)).collect(),
        approvals: Approvals {
            start: count(approvals.0.start.or(approvals.1.start), from.approvals.start),
            prune: count(approvals.0.prune.or(approvals.1.prune), from.approvals.prune),
            revoke: count(approvals.0.revoke.or(approvals.1.revoke), from.approvals.revoke),
        },
        watch: span(|times| &times.watch),
        call_bound: defaults.call_max.unwrap_or(from.call_bound).clamp(CALL_MIN, LEASE_MAX),
        backoff: Backoff { poll: from.backoff.poll.min((overlap_min / 10).max(POLL_MIN)), ..from.backoff },
        ..from
    };
    policy.checked().map_err(|error| {
        Failure::new(Code::CONFIG_INVALID, format!("[credential.{name}.rotation]: {error}"))
            .hint("[rotation] and the defaults count as well; see `keyholder config example`")
    })?;
    Ok(policy)
}

fn consumer(config: &ConsumerConfig) -> Consumer {
    Consumer {
        name: config.name.clone(),
        reads: if config.direct { Reads::Secret } else { Reads::Tokens },
        grade_min: config.grade.unwrap_or(GRADE),
        cache: config.cache.unwrap_or(CACHE),
        waived: None,
    }
}

/// Those of keyholder's own parts that log in on behalf of applications, by how their sightings begin.
const OWN: [&str; 2] = ["gateway", "exec"];

/// One of them: it is believed when it is seen, and a rotation does not wait for one that does not run.
fn own_consumer(name: &str) -> Consumer {
    let waived = Some(Waiver { by: "keyholder".to_owned(), reason: "it may or may not run".to_owned() });
    Consumer { name: name.to_owned(), reads: Reads::Tokens, grade_min: GRADE, cache: CACHE, waived }
}

/// Windows and blackout days.
pub(super) fn times(rotation: &CredentialRotationConfig, usual: &RotationTimes) -> Times {
    let own = &rotation.times;
    let zone = either(own, usual, |times| &times.zone);
    let zone = zone.and_then(|name| TimeZoneDatabase::bundled().get(name).ok()).unwrap_or(TimeZone::UTC);
    let windows = either(own, usual, |times| &times.windows);
    let blackouts = either(own, usual, |times| &times.blackout);
    Times {
        zone,
        windows: windows.into_iter().flatten().copied().map(window).collect(),
        blackouts: blackouts
            .into_iter()
            .flatten()
            .map(|days| Blackout { first: days.first, last: days.last })
            .collect(),
    }
}

fn window(config: calendar::Window) -> Window {
    let (first, last) = config.days.unwrap_or((Weekday::Monday, Weekday::Sunday));
    let mut days = vec![first];
    let mut seen = BTreeSet::from([first.to_monday_zero_offset()]);
    let mut day = first;
    while day != last && seen.len() < 7 {
        day = day.next();
        seen.insert(day.to_monday_zero_offset());
        days.push(day);
    }
    let time = |minutes: u16| {
        let of = |part: u16| i8::try_from(part).unwrap_or(0);
        Time::new(of(minutes / 60), of(minutes % 60), 0, 0).unwrap_or(Time::midnight())
    };
    Window { days, from: time(config.from), to: time(config.to) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn of(lines: &str) -> Result<(Policy, Times), String> {
        let text = format!(
            "[platform.p]\nkind = \"genesys\"\nregion = \"us-east-1\"\n[credential.c]\nplatform = \"p\"\nsecret = \"store:c\"\n{lines}"
        );
        let config = config::parse(text.as_bytes()).expect("a configuration").config;
        let name: CredentialName = "c".parse().unwrap();
        let rotation = config.credentials[&name].rotation.as_ref().expect("a rotation");
        let policy = policy(&name, rotation, &config.rotation).map_err(|failure| failure.detail().to_owned())?;
        Ok((policy, times(rotation, &config.rotation.usual)))
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_credentials_own_word_beats_the_default_and_that_beats_the_builtin() {
        let (policy, _) = of("[credential.c.rotation]\n").unwrap();
        assert_eq!((policy.interval, policy.overlap_min), (Policy::default().interval, Policy::default().overlap_min));
        let text = "[credential.c.rotation]\nquiet = \"3m\"\n[rotation]\nquiet = \"9m\"\noverlap_min = \"20m\"\n";
        let (policy, _) = of(text).unwrap();
        assert_eq!((policy.quiet, policy.overlap_min), (3 * MINUTE, 20 * MINUTE));
        assert_eq!(policy.approvals, Approvals { start: 0, prune: 1, revoke: 0 });
        let text = "[credential.c.rotation.approvals]\nrevoke = 2\n[rotation.approvals]\nrevoke = 3\nstart = 1\n";
        assert_eq!(of(text).unwrap().0.approvals, Approvals { start: 1, prune: 1, revoke: 2 });
    }

    #[test]
    fn short_times_fit_together_and_what_does_not_is_told() {
        for lines in
            ["interval = \"1h\"", "overlap_min = \"1s\"", "overlap_max = \"2s\"", "verify = { deadline = \"5s\" }"]
        {
            let built = of(&format!("[credential.c.rotation]\n{lines}\n"));
            assert!(built.is_ok(), "{lines}: {:?}", built.err());
        }
        let told = of("[credential.c.rotation]\ninterval = \"1d\"\njitter = \"1d\"\n").unwrap_err();
        assert!(told.contains("[credential.c.rotation]: interval must be longer"), "{told}");
        let told = of("[credential.c.rotation]\noverlap_min = \"8d\"\n[rotation]\noverlap_max = \"7d\"\n").unwrap_err();
        assert!(told.contains("overlap_max must be longer"), "{told}");
    }

    #[test]
    fn windows_wrap_around_the_week() {
        let (_, times) =
            of("[credential.c.rotation]\nwindows = [\"Sat-Tue 22:00-04:30\"]\nzone = \"Europe/Berlin\"\n").unwrap();
        let window = &times.windows[0];
        assert_eq!(window.days, [Weekday::Saturday, Weekday::Sunday, Weekday::Monday, Weekday::Tuesday]);
        assert_eq!((window.from, window.to), (Time::constant(22, 0, 0, 0), Time::constant(4, 30, 0, 0)));
        assert_eq!(times.zone.iana_name(), Some("Europe/Berlin"));
    }
}
