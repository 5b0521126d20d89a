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
