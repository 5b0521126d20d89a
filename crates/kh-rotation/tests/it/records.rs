//! The form of the records: what is written today is read tomorrow, and nothing else is.

use kh_core::port::Strategy;
use kh_rotation::{Level, Record, Run, Step, record::ParseError};

use super::sim::{START, Sim, begin_of};

const FIRST: &str = r#"{"v":1,"at":1800000000000,"step":{"begun":{"run":"00000000-0000-0000-0000-000000000007","credential":"acme","strategy":"overlap","level":"regular","generation":2,"by":"first","own":false,"places":[{"store":"a","path":"acme"}],"hooks":[],"platform":{"reversible_stop":false,"active_max":4,"settles_within_ms":1000,"token_life_max_ms":900000,"second_rotator":true},"earlier":[],"actor":"ann","reason":"scheduled"}}}"#;
const INTENT: &str = r#"{"v":1,"at":5,"step":{"intended":{"effect":{"prune":{"id":"s1","by":{"rotator":"first"}}},"basis":{"evidence":[{"consumer":"gateway","grade":"used","seen_version":null,"at":4}],"overridden":[],"by":[]}}}}"#;
const ANSWER: &str = r#"{"v":1,"at":6,"step":{"settled":{"outcome":{"promoted":{"version":"12"}}}}}"#;

#[test]
fn the_written_form_is_stable() {
    let first = Record::new(START, Step::Begun(Box::new(begin_of(Strategy::Overlap, Level::Regular, 1))));
    assert_eq!(first.to_json(), FIRST);
    for line in [FIRST, INTENT, ANSWER] {
        assert_eq!(Record::parse(line).unwrap().to_json(), line);
    }
}

#[test]
fn what_is_not_a_record_is_refused() {
    let newer = ANSWER.replace("\"v\":1", "\"v\":2");
    assert_eq!(Record::parse(&newer), Err(ParseError::Version(2)));
    let unknown = [
        ANSWER.replace("\"at\":6", "\"at\":6,\"more\":1"),
        ANSWER.replace("\"version\":\"12\"", "\"version\":\"12\",\"more\":1"),
        INTENT.replace("\"id\":\"s1\"", "\"id\":\"s1\",\"secret\":\"x\""),
        FIRST.replace("\"own\":false", "\"own\":false,\"more\":1"),
        ANSWER.replace("promoted", "promotedd"),
    ];
    for line in unknown {
        assert!(matches!(Record::parse(&line), Err(ParseError::Malformed { .. })), "{line}");
    }
    for cut in 0..INTENT.len() {
        assert!(Record::parse(&INTENT[..cut]).is_err());
    }
}

#[test]
fn a_parse_error_does_not_repeat_the_line() {
    let line = ANSWER.replace("\"12\"", "\"s3cr3t\", \"x\": 1");
    let error = Record::parse(&line).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cr3t"));
}

#[test]
fn records_that_cannot_follow_are_refused() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.drive(std::time::Duration::from_mins(1));
    let live = sim.run.clone();
    let refuse = |line: &str, why: &str| {
        let error = live.clone().apply(&Record::parse(line).unwrap()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.seq, live.seq() + 1);
    };
    refuse(FIRST, "begins once");
    refuse(ANSWER, "no intent to settle");
    // The old secret may go; another one may not, and not without evidence.
    let prune = INTENT;
    refuse(&prune.replace("s1", "s2"), "only the journalled old secret");
    refuse(&prune.replace("\"used\"", "\"ttl\""), "no consumer was seen");
    refuse(&prune.replace("\"overridden\":[]", "\"overridden\":[\"x\"]"), "nobody overrode it");
    assert!(live.clone().apply(&Record::parse(prune).unwrap()).is_ok());
    let cleanup = r#"{"v":1,"at":5,"step":{"intended":{"effect":{"cleanup":{"id":"s2","by":{"rotator":"first"}}},"basis":null}}}"#;
    refuse(cleanup, "only what the journal names");
    refuse(r#"{"v":1,"at":5,"step":{"ended":{"end":{"completed":{"unknown":[]}}}}}"#, "cannot have ended so");
    refuse(r#"{"v":1,"at":5,"step":{"orphaned":{"ids":["s1"]}}}"#, "in use is no orphan");
    assert!(Run::replay(&[]).is_err());
    assert!(Run::begin(&Record::parse(ANSWER).unwrap()).is_err());
}

/// The short form of the fuzz target `journal`: bytes of a journal change, and what is still read is what is written.
#[test]
fn damaged_lines_are_records_or_refused_and_the_fold_never_panics() {
    use kh_core::{Entropy, SeededEntropy, UnixMillis};
    use kh_rotation::{Policy, View, decide};
    let mut sim = Sim::of(Strategy::Overlap);
    sim.drive(std::time::Duration::from_hours(24));
    let good: Vec<String> = sim.journal.iter().map(Record::to_json).collect();
    assert!(good.len() > 8, "{}", good.len());
    let entropy = SeededEntropy::new(5);
    let below = |end: usize| usize::try_from(entropy.below(end as u64)).expect("it is below a usize");
    let (mut kept, mut refused, mut decided) = (0, 0, 0);
    for _ in 0..6_000 {
        let mut lines = good.clone();
        for _ in 0..=below(2) {
            let (at, from) = (below(lines.len()), below(good.len()));
            let mut bytes = lines[at].clone().into_bytes();
            match below(4) {
                // a digit of a time, a generation or a version
                0 => {
                    let digits: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
                    if !digits.is_empty() {
                        bytes[digits[below(digits.len())]] = b'0' + u8::try_from(below(10)).expect("it is a digit");
                    }
                }
                1 => bytes.truncate(1 + below(bytes.len())),
                2 => bytes = good[from].clone().into_bytes(),
                _ => {
                    let byte = below(bytes.len());
                    bytes[byte] = u8::try_from(below(128)).expect("it is ASCII");
                }
            }
            lines[at] = String::from_utf8(bytes).expect("all is ASCII");
        }
        let read: Result<Vec<Record>, _> = lines.iter().map(|line| Record::parse(line)).collect();
        let Ok(records) = read else {
            refused += 1;
            continue;
        };
        for record in &records {
            assert_eq!(Record::parse(&record.to_json()).as_ref(), Ok(record));
        }
        let Ok(run) = Run::replay(&records) else {
            refused += 1;
            continue;
        };
        kept += 1;
        for now in [0, START.0, u64::MAX] {
            let _decision = decide(&run, &View::default(), &Policy::default(), UnixMillis(now));
            decided += 1;
        }
    }
    assert!(kept > 300 && refused > 300 && decided == 3 * kept, "both happen: {kept} and {refused}");
}
