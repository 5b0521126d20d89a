//! Stories of the machine under a virtual clock: what happens, second by second, and what it decides.

use super::*;
use proptest::prelude::*;

fn at(seconds: u64) -> Now {
    Now { wall: UnixMillis(1_790_000_000_000 + seconds * 1000), mono: Duration::from_secs(seconds) }
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Runs events `second:event` and compares what is decided. `ask` prints `y` or `n`; `bg`, `cut`, `ok`, `ok<fresh>`, `err`
/// and `err<retry>` print the seconds until the next fetch in the background.
fn check(bounds: Bounds, story: &str, expected: &str) {
    let mut machine = Refresh::new(bounds, at(0));
    let mut decided = Vec::new();
    for step in story.split_whitespace() {
        let (second, event) = step.split_once(':').unwrap();
        let now = at(second.parse().unwrap());
        let number = |rest: &str| (!rest.is_empty()).then(|| SECONDS(rest.parse().unwrap()));
        if event == "ask" {
            decided.push(if machine.ask(now) { "y".to_owned() } else { "n".to_owned() });
            continue;
        }
        if event == "bg" {
            machine.begin(now);
        } else if event == "cut" {
            machine.cut_off(now);
        } else if let Some(rest) = event.strip_prefix("ok") {
            machine.fetched(now, number(rest));
        } else {
            machine.failed(now, number(event.strip_prefix("err").unwrap()));
        }
        decided.push(machine.due_in(now).as_secs().to_string());
    }
    assert_eq!(decided.join(" "), expected, "{story}");
}

#[test]
fn the_background_follows_the_issuer_within_bounds() {
    check(Bounds::REMOTE, "0:bg 0:ok", "30 300");
    check(Bounds::REMOTE, "0:bg 0:ok60", "30 60");
    check(Bounds::REMOTE, "0:bg 0:ok1", "30 30");
    check(Bounds::REMOTE, "0:bg 0:ok86400", "30 3600");
    check(Bounds::FILE, "0:bg 0:ok", "2 2");
}

#[test]
fn failures_wait_longer_each_time_and_as_long_as_the_issuer_says() {
    check(Bounds::REMOTE, "0:bg 0:err 1:bg 1:err 3:bg 3:err", "30 1 30 2 30 4");
    check(
        Bounds::REMOTE,
        "0:err 0:err 0:err 0:err 0:err 0:err 0:err 0:err 0:err 0:err",
        "1 2 4 8 16 32 64 128 256 300",
    );
    check(Bounds::REMOTE, "0:err60", "60");
    check(Bounds::REMOTE, "0:err99999", "300");
    check(Bounds::REMOTE, "0:err 1:ok 301:err", "1 300 1");
}

#[test]
fn unknown_keys_are_asked_for_once_per_interval() {
    check(Bounds::REMOTE, "0:bg 0:ok 5:ask 9:ask 10:ask 11:ask 20:ask", "30 300 n n y n y");
    // the interval is taken before the fetch: also while it is under way, and when it fails
    check(Bounds::REMOTE, "100:ask 100:ask 101:err 102:ask 109:ask 110:ask", "y n 1 n n y");
    // an issuer that asks for time is given it
    check(Bounds::REMOTE, "100:ask 101:err60 111:ask 160:ask 161:ask", "y 60 n n y");
}

#[test]
fn a_fetch_that_was_cut_off_holds_up_the_next_one_for_a_second() {
    check(Bounds::REMOTE, "0:bg 0:ok 100:ask 102:cut 102:ask 103:ask 104:ask", "30 300 y 1 n y n");
    check(Bounds::REMOTE, "0:bg 20:cut 20:ask", "30 1 y");
    // it is no failure: the waits after failures go on where they were
    check(Bounds::REMOTE, "0:err 1:bg 2:cut 3:bg 3:err", "1 30 1 30 2");
}

#[test]
fn a_fetch_for_a_caller_counts_for_the_background() {
    check(Bounds::REMOTE, "0:bg 0:ok 200:ask 200:ok 300:ask", "30 300 y 300 y");
}

#[test]
fn a_set_is_used_until_it_is_too_old_by_either_clock() {
    let mut machine = Refresh::new(Bounds::REMOTE, at(0));
    assert_eq!(machine.good_until(), None);
    machine.fetched(at(0), None);
    let until = machine.good_until().unwrap();
    let day = 24 * 3600;
    assert!(!until.is_over(at(day - 1)));
    assert!(until.is_over(at(day)));
    assert!(until.is_over(Now { mono: SECONDS(5), ..at(day) }), "the wall clock alone says so");
    assert!(until.is_over(Now { wall: at(0).wall, mono: SECONDS(day) }), "the monotonic clock alone says so");
    machine.failed(at(10), None);
    assert_eq!(machine.good_until(), Some(until), "a failure does not lengthen it");
    machine.fetched(at(20), None);
    assert!(!machine.good_until().unwrap().is_over(at(day + 19)));
    let mut file = Refresh::new(Bounds::FILE, at(0));
    file.fetched(at(0), None);
    assert_eq!(file.good_until(), Some(Until::NEVER));
}

#[test]
fn a_set_is_behind_from_a_failed_fetch_to_the_next_good_one() {
    let mut machine = Refresh::new(Bounds::REMOTE, at(0));
    machine.fetched(at(0), None);
    assert!(!machine.is_behind());
    assert!(machine.ask(at(10)));
    assert!(!machine.is_behind(), "whoever asked waits for it");
    machine.failed(at(11), None);
    assert!(machine.is_behind());
    machine.begin(at(12));
    assert!(machine.is_behind());
    machine.fetched(at(13), None);
    assert!(!machine.is_behind());
    machine.cut_off(at(20));
    assert!(machine.is_behind(), "nor does one that was cut off tell");
    machine.fetched(at(21), None);
    assert!(!machine.is_behind());
}

#[test]
fn bounds_are_put_right() {
    let zero = Duration::ZERO;
    let wild =
        Bounds { interval: zero, interval_min: zero, interval_max: zero, ask_every: zero, stale_max: Some(zero) };
    let sane = wild.sane();
    assert_eq!((sane.interval, sane.ask_every, sane.stale_max), (SECONDS(1), SECONDS(1), Some(SECONDS(1))));
    assert_eq!(Bounds::REMOTE.sane(), Bounds::REMOTE);
    assert_eq!(Bounds::FILE.sane(), Bounds::FILE);
}

proptest! {
    /// However callers, the background and the network interleave: fetches that callers cause are `ask_every` apart,
    /// and every second of a run without callers is at most one fetch.
    #[test]
    fn no_interleaving_floods_the_issuer(steps in prop::collection::vec((0_u64..4, 0_u8..5), 1..400)) {
        let mut machine = Refresh::new(Bounds::REMOTE, at(0));
        let (mut second, mut last_asked) = (0, None::<u64>);
        for (pass, event) in steps {
            second += pass;
            let now = at(second);
            match event {
                0 | 1 => if machine.ask(now) {
                    prop_assert!(last_asked.is_none_or(|last| second - last >= 10), "asked at {last_asked:?} and {second}");
                    last_asked = Some(second);
                },
                2 => if machine.due_in(now).is_zero() { machine.begin(now); prop_assert!(!machine.due_in(now).is_zero()) },
                3 => machine.fetched(now, Some(SECONDS(pass))),
                _ => machine.failed(now, None),
            }
            prop_assert!(machine.due_in(now) <= Bounds::REMOTE.interval_max);
        }
    }
}
