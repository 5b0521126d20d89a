//! The running log: its file, its queue, its alerts.

use std::{fs, path::Path};

use kh_core::{
    ManualClock, SeededEntropy, UnixMillis,
    port::security::{AddressSource, ClientAddress, Site},
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::*;
use crate::geo::Files;

#[derive(Default)]
struct Notices(Mutex<Vec<Notice>>);

impl Notifier for Notices {
    fn notify(&self, notice: Notice) {
        self.0.lock().push(notice);
    }
}

struct Rig {
    log: Arc<Log>,
    clock: ManualClock,
    counters: Counters,
    notices: Arc<Notices>,
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

fn geo(counters: &Counters) -> Arc<Geo> {
    let file =
        |name| Some(format!("{}/tests/data/maxmind/GeoLite2-{name}-Test.mmdb", env!("CARGO_MANIFEST_DIR")).into());
    let geo = Geo::new(Files { city: file("City"), asn: file("ASN"), country: None }, counters);
    geo.refresh();
    Arc::new(geo)
}

fn start(successes: Successes, alerts: Option<Rules>) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("security.jsonl");
    let counters = Counters::register(&mut Registry::default());
    let clock = ManualClock::at(UnixMillis(1_790_000_000_000));
    let notices = Arc::new(Notices::default());
    let parts = Parts {
        geo: geo(&counters),
        notifier: Some(Arc::clone(&notices) as Arc<dyn Notifier>),
        collector: None,
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(SeededEntropy::new(1)),
    };
    let settings = Settings { target: Some(Target::File(path.clone())), successes, alerts };
    let log = Log::start(settings, parts, &counters).unwrap();
    Rig { log, clock, counters, notices, path, _folder: folder }
}

impl Rig {
    fn event(&self, subject: &str, ip: &str, outcome: Outcome) -> AuthenticationEvent {
        AuthenticationEvent {
            verified: outcome == Outcome::Success,
            issuer: Some(Told::new("https://id.example")),
            subject: Some(Told::new(subject)),
            client_address: Some(ClientAddress { ip: ip.parse().unwrap(), source: AddressSource::Peer }),
            ..AuthenticationEvent::new(self.clock.now().wall, Site::Gateway, outcome)
        }
    }

    fn success(&self, subject: &str, ip: &str) {
        self.log.record(self.event(subject, ip, Outcome::Success));
    }

    fn failure(&self, subject: &str, ip: &str) {
        self.log.record(self.event(subject, ip, Outcome::Failure { reason: "expired" }));
    }

    fn lines(&self) -> Vec<Value> {
        assert!(self.log.stop(Duration::from_mins(1)));
        read(&self.path)
    }
}

fn read(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const LONDON: &str = "81.2.69.160";
const MILTON: &str = "216.160.83.56";

#[test]
fn failures_are_always_written_with_their_place() {
    let rig = start(Successes::No, None);
    rig.failure("zoe", LONDON);
    rig.failure("zoe", "10.0.0.1");
    rig.success("zoe", LONDON);
    let lines = rig.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["src_endpoint"]["location"]["city"], "London");
    assert_eq!(lines[0]["status_code"], "expired");
    assert!(lines[1]["src_endpoint"].get("location").is_none());
    let uid = |line: &Value| line["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!((uid(&lines[0]).ends_with("-0"), uid(&lines[1]).ends_with("-1")), (true, true));
    assert_eq!(rig.counters.lines.written.get(), 2);
}

#[test]
fn successes_are_written_as_they_are_wanted() {
    for (successes, expected) in [(Successes::No, 0), (Successes::FirstPerCountry, 3), (Successes::All, 5)] {
        let rig = start(successes, None);
        for (subject, ip) in [("a", LONDON), ("a", LONDON), ("b", LONDON), ("a", "89.160.20.112"), ("a", LONDON)] {
            rig.success(subject, ip);
        }
        assert_eq!(rig.lines().len(), expected, "{successes:?}");
    }
}

#[test]
fn successes_are_asked_for_only_when_somebody_wants_them() {
    let ip = Some(LONDON.parse().unwrap());
    let quiet = start(Successes::No, None);
    let now = quiet.clock.now();
    assert!(!quiet.log.wants_success("i", "s", ip, now));
    for rig in [start(Successes::All, None), start(Successes::No, Some(Rules::default()))] {
        assert!(rig.log.wants_success("i", "s", ip, now));
        assert!(!rig.log.wants_success("i", "s", ip, now));
        // the time is the caller's: no clock is read
        assert!(rig.log.wants_success("i", "s", ip, now.plus(Duration::from_hours(1))));
    }
}

#[test]
fn alerts_stand_in_the_log_and_are_told_to_people() {
    let rig = start(Successes::FirstPerCountry, Some(Rules::default()));
    rig.success("zoe", LONDON);
    rig.clock.advance(Duration::from_mins(30));
    rig.success("zoe", MILTON);
    let lines = rig.lines();
    let classes: Vec<u64> = lines.iter().map(|line| line["class_uid"].as_u64().unwrap()).collect();
    assert_eq!(classes, [3002, 3002, 2004, 2004]);
    let found: Vec<&str> = lines[2..].iter().map(|line| line["finding_info"]["types"][0].as_str().unwrap()).collect();
    assert_eq!(found, ["new_country", "impossible_travel"]);
    let desc = lines[3]["finding_info"]["desc"].as_str().unwrap();
    assert!(
        desc.starts_with("the subject was in GB and, 1800 seconds later, 7") && desc.ends_with("km away in US"),
        "{desc}"
    );
    let notices = rig.notices.0.lock();
    let kinds: Vec<&str> = notices.iter().map(|notice| notice.kind.as_str()).collect();
    assert_eq!(kinds, ["security.new_country", "security.impossible_travel"]);
    assert!(notices[1].summary.starts_with("zoe: the subject was in GB"), "{}", notices[1].summary);
    assert_ne!(notices[0].id, notices[1].id);
}

#[test]
fn what_is_not_verified_moves_nobody() {
    let rig = start(Successes::All, Some(Rules::default()));
    rig.success("zoe", LONDON);
    rig.failure("zoe", MILTON);
    rig.log.record(AuthenticationEvent { verified: false, ..rig.event("zoe", MILTON, Outcome::Success) });
    let lines = rig.lines();
    assert!(lines.iter().all(|line| line["class_uid"] == 3002), "{lines:#?}");
    assert!(rig.notices.0.lock().is_empty());
    assert_eq!(rig.counters.subjects.get(), 1);
}

#[test]
fn a_throttled_caller_is_an_alert_without_a_notice() {
    let rig = start(Successes::No, None);
    let refused = RetryAfter { scope: Scope::Client, wait: Duration::from_secs(20) };
    rig.log.throttled(refused, Some(LONDON.parse().unwrap()), Some("billing\n"));
    let lines = rig.lines();
    assert_eq!(lines[0]["finding_info"]["types"][0], "brute_force");
    assert_eq!(lines[0]["evidences"][0]["actor"]["app_uid"], "billing\u{fffd}");
    assert!(lines[0]["finding_info"]["desc"].as_str().unwrap().ends_with("is refused for 20 seconds"));
    assert!(rig.notices.0.lock().is_empty());
}

#[test]
fn rotation_loses_and_doubles_no_line() {
    let rig = start(Successes::No, None);
    for round in 0..20 {
        rig.failure(&round.to_string(), LONDON);
        fs::rename(&rig.path, rig.path.with_extension(round.to_string())).unwrap();
        rig.log.reopen();
        for _ in 0..3_000 {
            if rig.path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(rig.path.exists());
    }
    assert!(rig.log.stop(Duration::from_mins(1)));
    let mut sequence: Vec<u64> = fs::read_dir(rig.path.parent().unwrap())
        .unwrap()
        .flat_map(|entry| read(&entry.unwrap().path()))
        .map(|line| line["metadata"]["sequence"].as_u64().unwrap())
        .collect();
    sequence.sort_unstable();
    assert_eq!(sequence, (0..20).collect::<Vec<_>>());
}

#[test]
fn recording_never_waits_for_a_disk_that_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // held open and never read: the writer stands still once the pipe is full
    let held = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let counters = Counters::register(&mut Registry::default());
    let clock = ManualClock::at(UnixMillis(1));
    let parts = Parts {
        geo: Arc::new(Geo::new(Files::default(), &counters)),
        notifier: None,
        collector: None,
        clock: Arc::new(clock),
        entropy: Arc::new(SeededEntropy::new(1)),
    };
    let settings = Settings { target: Some(Target::File(fifo)), ..Settings::default() };
    let log = Log::start(settings, parts, &counters).unwrap();
    for _ in 0..4 * QUEUE {
        log.record(AuthenticationEvent::new(UnixMillis(1), Site::Admin, Outcome::Failure { reason: "expired" }));
    }
    assert!(counters.lines.dropped.get() > QUEUE as u64);
    assert!(!log.stop(Duration::from_millis(1)), "the end does not wait for it either");
    drop(held);
}
