//! Journeys that can be and such that cannot.

use kh_core::{Entropy, SeededEntropy};

use super::*;

const LONDON: (f64, f64, &str) = (51.5142, -0.0931, "GB");
const MILTON: (f64, f64, &str) = (47.2513, -122.3149, "US");
const PARIS: (f64, f64, &str) = (48.8566, 2.3522, "FR");
const MANCHESTER: (f64, f64, &str) = (53.4808, -2.2426, "GB");

fn place((latitude, longitude, country): (f64, f64, &str)) -> Place {
    let position = Some(Position { latitude, longitude, radius_km: 20.0 });
    Place { country: Country::new(country), position, asn: Some(64_500), ..Place::default() }
}

fn now(seconds: u64) -> Now {
    Now { wall: UnixMillis(1_790_000_000_000 + seconds * 1_000), mono: Duration::from_secs(seconds) }
}

fn rules() -> Rules {
    Rules { quiet: Duration::from_mins(1), ..Rules::default() }
}

/// Success after success of one subject: seconds and place; answers the alerts' names.
fn journey(rules: Rules, stops: &[(u64, (f64, f64, &str))]) -> Vec<Vec<&'static str>> {
    let mut travel = Travel::new(rules);
    let mut seen = |(seconds, at): &(u64, (f64, f64, &str))| {
        let observed = travel.observe(1, "zoe", None, &place(*at), now(*seconds));
        observed.alerts.iter().map(|alert| alert.kind().as_str()).collect()
    };
    stops.iter().map(&mut seen).collect()
}

const HOUR: u64 = 3_600;

#[test]
fn journeys() {
    let none: Vec<&str> = vec![];
    // London to Milton: 7,700 km
    assert_eq!(
        journey(rules(), &[(0, LONDON), (HOUR, MILTON), (2 * HOUR, MILTON)]),
        [none.clone(), vec!["new_country", "impossible_travel"], none.clone()]
    );
    assert_eq!(journey(rules(), &[(0, LONDON), (9 * HOUR, MILTON)]), [none.clone(), vec!["new_country"]]);
    // 340 km: never looked at, not even within one second
    assert_eq!(journey(rules(), &[(0, LONDON), (1, PARIS)]), [none.clone(), vec!["new_country"]]);
    assert_eq!(journey(rules(), &[(0, LONDON), (1, MANCHESTER)]), [none.clone(), none.clone()]);
    // there and back: an alert of a kind once in a while
    assert_eq!(
        journey(rules(), &[(0, LONDON), (1, MILTON), (2, LONDON), (70, MILTON)]),
        [none.clone(), vec!["new_country", "impossible_travel"], none.clone(), vec!["impossible_travel"]]
    );
}

#[test]
fn the_first_success_and_unknown_places_never_alert() {
    let mut travel = Travel::new(rules());
    assert!(travel.observe(1, "a", None, &place(LONDON), now(0)).alerts.is_empty());
    assert!(travel.observe(2, "b", None, &place(MILTON), now(1)).alerts.is_empty(), "another subject");
    assert!(travel.observe(1, "a", None, &Place::default(), now(2)).alerts.is_empty());
    let country_alone = Place { position: None, ..place(MILTON) };
    let found = travel.observe(1, "a", None, &country_alone, now(3));
    assert_eq!(found.alerts.iter().map(Alert::kind).collect::<Vec<_>>(), [FindingKind::NewCountry]);
}

#[test]
fn exempt_operators_networks_and_subjects_do_not_alert_and_do_not_move_anybody() {
    let ip: IpAddr = "198.18.7.7".parse().unwrap();
    for rules in [
        Rules { exempt_asns: vec![64_501], ..rules() },
        Rules { exempt_networks: vec!["198.18.0.0/15".parse().unwrap()], ..rules() },
    ] {
        let mut travel = Travel::new(rules);
        travel.observe(1, "a", None, &place(LONDON), now(0));
        let vpn = Place { asn: Some(64_501), ..place(MILTON) };
        assert!(travel.observe(1, "a", Some(ip), &vpn, now(1)).alerts.is_empty());
        assert!(travel.observe(1, "a", None, &place(LONDON), now(2)).alerts.is_empty(), "it never left");
    }
    let everywhere = Rules { exempt_subjects: vec!["batch".to_owned()], ..rules() };
    let mut travel = Travel::new(everywhere);
    travel.observe(1, "batch", None, &place(LONDON), now(0));
    assert!(travel.observe(1, "batch", None, &place(MILTON), now(1)).alerts.is_empty());
}

#[test]
fn a_country_is_forgotten_after_its_time() {
    let short = Rules { country_memory: Duration::from_hours(48), ..rules() };
    let found = journey(short, &[(0, LONDON), (40 * HOUR, PARIS), (50 * HOUR, LONDON), (51 * HOUR, PARIS)]);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 1, 0]);
}

#[test]
fn a_clock_that_jumps_and_a_clock_that_stands_still_accuse_nobody() {
    let at = |wall: u64, mono: u64| Now { wall: now(wall).wall, mono: Duration::from_secs(mono) };
    let travels = |first: Now, second: Now| {
        let mut travel = Travel::new(rules());
        travel.observe(1, "a", None, &place(LONDON), first);
        let found = travel.observe(1, "a", None, &place(MILTON), second).alerts;
        found.iter().any(|alert| alert.kind() == FindingKind::ImpossibleTravel)
    };
    assert!(travels(at(0, 0), at(HOUR, HOUR)), "the test reaches the interesting case");
    assert!(!travels(at(20 * HOUR, 0), at(19 * HOUR, 10 * HOUR)), "the wall clock was set back");
    assert!(!travels(at(0, 0), at(10 * HOUR, 60)), "the machine was suspended");
    assert!(!travels(at(0, 0), at(60, 10 * HOUR)), "the wall clock was set back, and has come by again");
}

#[test]
fn the_first_of_a_day() {
    let mut travel = Travel::new(rules());
    let mut first = |seconds, at| travel.observe(1, "a", None, &at, now(seconds)).first_of_day;
    assert!(first(0, place(LONDON)));
    assert!(!first(1, place(MANCHESTER)));
    assert!(first(2, place(PARIS)));
    assert!(first(3, Place::default()) && !first(4, Place::default()));
    assert!(!first(86_399, place(LONDON)));
    assert!(first(86_400, place(LONDON)));
    assert!(first(10, place(LONDON)), "a clock that was set back makes news, and hides none");
}

#[test]
fn memory_is_bounded_and_the_busy_stay() {
    let mut travel = Travel::new(Rules { subjects_max: 1_000, ..rules() });
    travel.observe(0, "busy", None, &place(LONDON), now(0));
    for key in 1..=100_000 {
        travel.observe(key, "other", None, &place(PARIS), now(1));
        if key % 100 == 0 {
            travel.observe(0, "busy", None, &place(LONDON), now(2));
        }
    }
    assert_eq!(travel.len(), 1_000);
    let found = travel.observe(0, "busy", None, &place(MILTON), now(3)).alerts;
    assert_eq!(found.len(), 2, "who comes again and again is remembered");
    // and a subject's own countries are bounded
    let letters = (b'A'..=b'Z').flat_map(|one| (b'A'..=b'Z').map(move |two| [one, two]));
    for (seconds, code) in letters.enumerate() {
        let country = Country::new(std::str::from_utf8(&code).unwrap());
        let there = Place { country, ..Place::default() };
        travel.observe(0, "busy", None, &there, now(10 + seconds as u64));
    }
    let known = travel.memory.subject(0).countries(now(1_000).wall, rules().country_memory);
    assert_eq!(known.len(), memory::COUNTRIES_MAX);
    assert!(known.contains(&Country::new("ZZ").unwrap()), "{known:?}");
}

#[test]
fn distances() {
    let km = |from: (f64, f64, &str), to: (f64, f64, &str)| {
        distance_km(place(from).position.unwrap(), place(to).position.unwrap())
    };
    for (from, to, expected) in [
        (LONDON, LONDON, 0.0),
        (LONDON, PARIS, 342.0),
        (LONDON, MILTON, 7_752.0),
        ((0.0, 0.0, "AA"), (0.0, 180.0, "AA"), 20_015.0),
        ((90.0, 0.0, "AA"), (-90.0, 0.0, "AA"), 20_015.0),
        ((0.0, 179.9, "AA"), (0.0, -179.9, "AA"), 22.2),
    ] {
        let found = km(from, to);
        assert!((found - expected).abs() < expected * 0.005 + 0.1, "{found} is not {expected}");
        assert!((found - km(to, from)).abs() < 1e-6);
    }
    // no place on earth is not a number away
    let entropy = SeededEntropy::new(1);
    let degrees = |most: u32| {
        f64::from(u32::try_from(entropy.below(u64::from(most) * 2_000)).unwrap()) / 1_000.0 - f64::from(most)
    };
    for _ in 0..10_000 {
        let found = km((degrees(90), degrees(180), "AA"), (degrees(90), degrees(180), "AA"));
        assert!((0.0..20_016.0).contains(&found), "{found}");
    }
}
