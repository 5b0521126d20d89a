//! Reads `[rotation]` and `[credential.NAME.rotation]`, and looks whether rotators are what they must be.
//!
//! Invariant: the shortest overlap that comes out of one section is not longer than its longest; a name that comes out
//! is the name of a section of the file.

use std::time::Duration;

use jiff::tz::TimeZoneDatabase;
use kh_core::port::{
    Strategy,
    rotation_journal::{Grade, LEASE_MAX},
};

use super::{
    deliver::Delivery,
    keys::words,
    model::{
        ApprovalsConfig, Config, ConsumerConfig, CredentialRotationConfig, RotationConfig, RotationTimes, VerifyConfig,
    },
    reader::Section,
    stores::{self, Stores},
};

/// An old secret that ends sooner after its replacement than this meets consumers that still have it in a cache: the
/// caches of the common SDKs and agents last 5 to 15 minutes.
const OVERLAP_RISKY: Duration = Duration::from_mins(15);

/// Rotating more often than this wears on platforms that keep every deleted client, and on stores that keep versions.
const INTERVAL_RISKY: Duration = Duration::from_hours(24);

/// Most people that an approval may need.
const APPROVERS_MAX: u64 = 16;

/// Most runs at a time: each holds a few connections.
const PARALLEL_MAX: u64 = 64;

/// A lease lives as long as a call and four times the skew of clocks at least, so that less changes nothing.
pub(crate) const CALL_MIN: Duration = Duration::from_secs(20);

/// `[rotation]`
pub(super) fn defaults(root: &Section<'_>, delivery: &Delivery) -> RotationConfig {
    let Some(section) = root.section("rotation") else { return RotationConfig::default() };
    let config = RotationConfig {
        scheduler: section.flag("scheduler"),
        parallel: section.number("parallel", 1..=PARALLEL_MAX),
        call_max: call_max(&section),
        usual: times(&section, delivery),
    };
    section.finish();
    config
}

fn call_max(section: &Section<'_>) -> Option<Duration> {
    let found = section.duration("call_max")?;
    if !(CALL_MIN..=LEASE_MAX).contains(&found.value) {
        section.warning(found.span, "call_max is not from 20s to 1h: the nearer of them holds", "call_max = \"2m\"");
    }
    Some(found.value)
}

/// `[credential.NAME.rotation]`
pub(super) fn of_a_credential(
    credential: &Section<'_>,
    known: &Stores,
    delivery: &Delivery,
) -> Option<CredentialRotationConfig> {
    let section = credential.section("rotation")?;
    let strategies = [
        ("auto", None),
        ("overlap", Some(Strategy::Overlap)),
        ("pair", Some(Strategy::Pair)),
        ("swap", Some(Strategy::Swap)),
    ];
    let strategy = section.choice("strategy", &strategies).and_then(|found| found.value);
    let listed = section.texts("targets").unwrap_or_default();
    let targets: Vec<_> =
        listed.iter().filter_map(|found| stores::reference(&section, "targets", found, known)).collect();
    for (at, target) in targets.iter().enumerate() {
        if targets.iter().take(at).any(|earlier| earlier == target) {
            let place = section.place("targets").unwrap_or_else(|| section.span.clone());
            section.error(place, "targets names a place twice", "take one of them out");
        }
    }
    let config = CredentialRotationConfig {
        strategy,
        times: times(&section, delivery),
        targets,
        hooks: section.names("hooks", "hook", &delivery.hook_names).unwrap_or_default(),
        consumers: consumers(&section),
    };
    section.finish();
    Some(config)
}

fn times(section: &Section<'_>, delivery: &Delivery) -> RotationTimes {
    let interval = section.duration("interval");
    if let Some(found) = interval.as_ref().filter(|found| found.value < INTERVAL_RISKY) {
        section.warning(found.span.clone(), "the secret is replaced more than once a day", "interval = \"90d\"");
    }
    let (shortest, longest) = (section.duration("overlap_min"), section.duration("overlap_max"));
    if let Some(found) = shortest.as_ref().filter(|found| found.value < OVERLAP_RISKY) {
        let hint = "consumers that read a store keep a secret for 5 to 15 minutes; overlap_min = \"24h\"";
        section.warning(found.span.clone(), "the overlap is shorter than usual caches", hint);
    }
    if let (Some(shortest), Some(longest)) = (&shortest, &longest)
        && shortest.value > longest.value
    {
        let hint = "overlap_max is when people are told that the old secret still works";
        section.error(longest.span.clone(), "overlap_max is shorter than overlap_min", hint);
    }
    RotationTimes {
        interval: interval.map(|found| found.value),
        jitter: section.duration("jitter").map(|found| found.value),
        windows: parsed(section, "windows", section.words("windows", &words::WINDOW)),
        blackout: parsed(section, "blackout", section.words("blackout", &words::BLACKOUT)),
        zone: zone(section),
        overlap_min: shortest.map(|found| found.value),
        overlap_max: longest.map(|found| found.value),
        quiet: section.duration("quiet").map(|found| found.value),
        watch: section.duration("watch").map(|found| found.value),
        notify: section.names("notify", "notify", &delivery.notifier_names),
        verify: verify(section),
        approvals: approvals(section),
    }
}

/// What the form alone does not tell, such as a day that no month has.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    section: &Section<'_>,
    key: &str,
    found: Option<Vec<super::reader::Located<String>>>,
) -> Option<Vec<T>> {
    let read = found?.into_iter().filter_map(|item| match item.value.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            section.error(item.span, format!("{key}: {error}"), "`keyholder config example` shows how it is written");
            None
        }
    });
    Some(read.collect())
}

fn zone(section: &Section<'_>) -> Option<String> {
    let name = section.word("zone", &words::ZONE)?;
    if TimeZoneDatabase::bundled().get(&name).is_err() {
        let place = section.place("zone").unwrap_or_else(|| section.span.clone());
        section.error(place, "there is no time zone of this name", "write it like \"Europe/Berlin\" or \"UTC\"");
    }
    Some(name)
}

fn verify(section: &Section<'_>) -> VerifyConfig {
    let Some(section) = section.section("verify") else { return VerifyConfig::default() };
    let config = VerifyConfig {
        successes: section.number("successes", 1..=100),
        deadline: section.duration("deadline").map(|found| found.value),
    };
    section.finish();
    config
}

fn approvals(section: &Section<'_>) -> ApprovalsConfig {
    let Some(section) = section.section("approvals") else { return ApprovalsConfig::default() };
    let config = ApprovalsConfig {
        start: section.number("start", 1..=APPROVERS_MAX),
        prune: section.number("prune", 1..=APPROVERS_MAX),
        revoke: section.number("revoke", 1..=APPROVERS_MAX),
    };
    section.finish();
    config
}

fn consumers(section: &Section<'_>) -> Vec<ConsumerConfig> {
    let grades = [("used", Grade::Used), ("fetched", Grade::Fetched), ("ttl", Grade::Ttl)];
    let mut all: Vec<ConsumerConfig> = Vec::new();
    for table in section.tables("consumers") {
        table.lacking(&[("name", "name = \"billing-batch\"")]);
        let hint = "write a name such as \"billing-batch\"";
        let name = table.parsed("name", hint, str::parse::<kh_core::ClientName>);
        let grade = table.choice("grade", &grades);
        let (direct, cache) = (table.flag("direct"), table.duration("cache"));
        if let (Some(found), None) = (&grade, &cache)
            && found.value == Grade::Ttl
            && table.place("cache").is_none()
        {
            let hint = "cache = \"15m\" says when; without it nothing is known of this consumer";
            table.warning(found.span.clone(), "grade = \"ttl\" counts the end of a cache that is not told", hint);
        }
        if let Some(name) = name {
            if all.iter().any(|other| other.name == name.value.as_str()) {
                table.error(name.span, "two consumers have this name", "give each a name of its own");
            }
            all.push(ConsumerConfig {
                name: name.value.to_string(),
                grade: grade.map(|found| found.value),
                direct: direct.unwrap_or(false),
                cache: cache.map(|found| found.value),
            });
        }
        table.finish();
    }
    all
}

/// A rotator is a credential of the same platform; a credential that is rotated needs one.
pub(super) fn check_rotators(root: &Section<'_>, config: &Config) {
    let credentials = root.named_sections("credential");
    for (name, section) in root.named_sections("platform") {
        let Some(platform) = name.value.parse().ok().and_then(|name| config.platforms.get(&name)) else { continue };
        for (key, rotator) in [("rotator", &platform.rotator), ("rotator_second", &platform.rotator_second)] {
            let (Some(rotator), Some(place)) = (rotator, section.place(key)) else { continue };
            if !credentials.iter().any(|(known, _)| known.value == rotator.as_str()) {
                let names = credentials.iter().map(|(known, _)| known.value);
                let hint = match super::nearest(rotator.as_str(), names) {
                    Some(similar) => format!("did you mean \"{similar}\"?"),
                    None => format!("add the section [credential.{rotator}] for it"),
                };
                section.error(place, format!("{key}: there is no credential of this name"), hint);
            } else if config.credentials.get(rotator).is_some_and(|found| found.platform.as_str() != name.value) {
                let hint = format!("name a credential with platform = \"{}\"", name.value);
                section.error(place, format!("{key} is a credential of another platform"), hint);
            }
        }
    }
    for (name, section) in &credentials {
        let Some(credential) = name.value.parse().ok().and_then(|name| config.credentials.get(&name)) else { continue };
        let Some(platform) = config.platforms.get(&credential.platform) else { continue };
        let Some(place) = section.place("rotation") else { continue };
        if platform.rotator.is_none() && !platform.detail.has_own_clients() {
            let hint =
                format!("rotator = \"NAME\" in [platform.{}]: a credential that may make secrets", credential.platform);
            section.warning(place, "nobody can rotate this credential: its platform has no rotator", &hint);
        }
    }
}
