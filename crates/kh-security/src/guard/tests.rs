//! Offenders wait, neighbours do not, and millions of addresses change neither.

use std::net::{Ipv4Addr, Ipv6Addr};

use kh_core::UnixMillis;

use super::*;

fn at(seconds: u64) -> Now {
    Now { wall: UnixMillis(1_790_000_000_000), mono: Duration::from_secs(1_000 + seconds) }
}

fn guard(limits: Limits) -> Guard {
    Guard::new(limits, &Counters::default())
}

fn ip(text: &str) -> Option<IpAddr> {
    let ip = text.parse();
    assert!(ip.is_ok(), "{text}");
    ip.ok()
}

fn attempt(address: Option<IpAddr>, client: Option<&str>) -> Attempt<'_> {
    Attempt { address, realm: None, client }
}

fn check(guard: &Guard, address: Option<IpAddr>, client: Option<&str>, now: Now) -> Result<(), RetryAfter> {
    guard.check_attempt(attempt(address, client), now)
}

fn failed(guard: &Guard, address: Option<IpAddr>, client: Option<&str>, now: Now) -> Option<RetryAfter> {
    guard.count_failure(attempt(address, client), now)
}

fn succeeded(guard: &Guard, address: Option<IpAddr>, client: Option<&str>, now: Now) {
    guard.succeeded(attempt(address, client), now);
}

/// Fails `times` times at once, as far as it is let; answers how often it was let.
fn fails(guard: &Guard, address: Option<IpAddr>, client: Option<&str>, times: u32, now: Now) -> u32 {
    let mut let_through = 0;
    for _ in 0..times {
        if check(guard, address, client, now).is_ok() {
            failed(guard, address, client, now);
            let_through += 1;
        }
    }
    let_through
}

#[test]
fn an_address_is_refused_at_the_limit_for_longer_and_longer() {
    let guard = guard(Limits::default());
    let offender = ip("192.0.2.1");
    assert_eq!(fails(&guard, offender, None, 1_000, at(0)), 100);
    let refused = check(&guard, offender, None, at(0)).unwrap_err();
    assert_eq!((refused.scope, refused.seconds()), (Scope::Address, 5));
    assert_eq!(check(&guard, ip("192.0.2.2"), None, at(0)), Ok(()), "its neighbour is not it");
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..10 {
        now += check(&guard, offender, None, at(now)).unwrap_err().seconds();
        assert_eq!(check(&guard, offender, None, at(now)), Ok(()));
        fails(&guard, offender, None, 1_000, at(now));
        waits.push(check(&guard, offender, None, at(now)).unwrap_err().seconds());
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 900, 900, 900]);
}

#[test]
fn a_burst_that_takes_a_while_has_no_failure_more() {
    let guard = guard(Limits::default());
    let late = |step: u32| Now { mono: at(0).mono + Duration::from_millis(u64::from(step) * 20), ..at(0) };
    let let_through = (0..200).filter(|step| fails(&guard, ip("192.0.2.1"), None, 1, late(*step)) == 1).count();
    assert_eq!(let_through, 100);
}

#[test]
fn waits_decay() {
    let guard = guard(Limits::default());
    let offender = ip("192.0.2.1");
    fails(&guard, offender, None, 1_000, at(0));
    fails(&guard, offender, None, 1_000, at(5));
    assert_eq!(check(&guard, offender, None, at(5)).unwrap_err().seconds(), 10);
    // an hour takes one wait back, and a window all failures
    assert_eq!(fails(&guard, offender, None, 1_000, at(5 + 3_600)), 100);
    assert_eq!(check(&guard, offender, None, at(5 + 3_600)).unwrap_err().seconds(), 10);
    assert_eq!(fails(&guard, offender, None, 1_000, at(5 + 5 * 3_600)), 100);
    assert_eq!(check(&guard, offender, None, at(5 + 5 * 3_600)).unwrap_err().seconds(), 5);
}

/// An address that is shared, or the client itself with its right secret, succeeds now and then.
#[test]
fn waits_decay_from_the_last_failure_whatever_succeeds() {
    const HALF_HOUR: u64 = 1_800;
    for (now_and_then, wait) in [("nothing", 5), ("a success", 5), ("a failure", 20)] {
        let guard = guard(Limits::default());
        let address = ip("192.0.2.1");
        fails(&guard, address, None, 1_000, at(0));
        fails(&guard, address, None, 1_000, at(5));
        assert_eq!(check(&guard, address, None, at(5)).unwrap_err().seconds(), 10);
        for half_hours in 1..=10 {
            let now = at(5 + half_hours * HALF_HOUR);
            match now_and_then {
                "a success" => succeeded(&guard, address, None, now),
                "a failure" => assert_eq!(failed(&guard, address, None, now), None),
                _ => {}
            }
        }
        let now = at(5 + 10 * HALF_HOUR);
        fails(&guard, address, None, 1_000, now);
        assert_eq!(check(&guard, address, None, now).unwrap_err().seconds(), wait, "{now_and_then}");
    }
}

#[test]
fn a_slow_program_with_a_wrong_secret_is_never_refused() {
    let guard = guard(Limits::default());
    for second in (0..86_400).step_by(31) {
        assert_eq!(fails(&guard, ip("192.0.2.1"), Some("reports"), 1, at(second)), 1, "{second}");
    }
}

#[test]
fn what_others_send_does_not_lengthen_a_wait() {
    let guard = guard(Limits::default());
    fails(&guard, ip("192.0.2.1"), None, 100, at(0));
    for _ in 0..1_000 {
        assert_eq!(failed(&guard, ip("192.0.2.1"), None, at(1)), None);
    }
    assert_eq!(check(&guard, ip("192.0.2.1"), None, at(1)).unwrap_err().seconds(), 4);
    assert_eq!(check(&guard, ip("192.0.2.1"), None, at(5)), Ok(()));
}

#[test]
fn ipv6_is_counted_by_64_and_ipv4_however_it_is_written() {
    let guard = guard(Limits::default());
    for host in 0..100_u16 {
        let six = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, host);
        failed(&guard, Some(six.into()), None, at(0));
        failed(&guard, if host % 2 == 0 { ip("192.0.2.1") } else { ip("::ffff:192.0.2.1") }, None, at(0));
    }
    assert!(check(&guard, ip("2001:db8:1:2:ffff::1"), None, at(0)).is_err());
    assert!(check(&guard, ip("2001:db8:1:3::1"), None, at(0)).is_ok());
    assert!(check(&guard, ip("192.0.2.1"), None, at(0)).is_err());
}

#[test]
fn one_bad_program_behind_a_nat_is_refused_and_its_neighbours_are_not() {
    let guard = guard(Limits::default());
    let office = ip("192.0.2.1");
    for second in 0..3_600 {
        fails(&guard, office, Some("broken"), 10, at(second));
        assert_eq!(check(&guard, office, Some("billing"), at(second)), Ok(()), "{second}");
    }
    let refused = check(&guard, office, Some("broken"), at(3_599)).unwrap_err();
    assert_eq!(refused.scope, Scope::Client, "everywhere: it never succeeded anywhere");
}

#[test]
fn an_address_that_mostly_succeeds_is_shared_and_has_ten_times_the_room() {
    let guard = guard(Limits::default());
    let office = ip("192.0.2.1");
    for _ in 0..300 {
        succeeded(&guard, office, Some("billing"), at(0));
        failed(&guard, office, None, at(0));
    }
    assert_eq!(check(&guard, office, None, at(0)), Ok(()), "300 failures beside 300 successes");
    // an attacker with an account of his own gets the factor and no more
    for _ in 0..5_000 {
        succeeded(&guard, office, Some("mine"), at(0));
        if check(&guard, office, None, at(0)).is_ok() {
            failed(&guard, office, None, at(0));
        }
    }
    assert!(check(&guard, office, None, at(0)).is_err());
}

#[test]
fn nobody_locks_a_client_out_of_where_it_is_known() {
    let guard = guard(Limits::default());
    let home = ip("198.51.100.7");
    succeeded(&guard, home, Some("billing"), at(0));
    for host in 0..200_u8 {
        fails(&guard, Some(Ipv4Addr::new(203, 0, 113, host).into()), Some("billing"), 3, at(1));
    }
    assert_eq!(check(&guard, ip("192.0.2.9"), Some("billing"), at(1)).unwrap_err().scope, Scope::Client);
    assert_eq!(check(&guard, home, Some("billing"), at(1)), Ok(()));
    assert_eq!(check(&guard, home, Some("billing"), at(2)), Ok(()));
    // whoever guesses from there has a count of its own
    fails(&guard, home, Some("billing"), 50, at(3));
    assert_eq!(check(&guard, home, Some("billing"), at(3)).unwrap_err().scope, Scope::ClientAtAddress);
    // and after a day it is not known there any more
    for day in [24 * 3_600 - 1, 24 * 3_600 + 1] {
        for host in 0..200_u8 {
            fails(&guard, Some(Ipv4Addr::new(203, 0, 113, host).into()), Some("billing"), 3, at(day));
        }
        assert_eq!(check(&guard, home, Some("billing"), at(day)).is_ok(), day < 24 * 3_600, "{day}");
    }
}

#[test]
fn what_strangers_do_at_a_shared_address_holds_up_no_client_that_succeeded_there() {
    let guard = guard(Limits::default());
    let shared = ip("198.51.100.7");
    succeeded(&guard, shared, Some("billing"), at(0));
    fails(&guard, shared, None, 1_000, at(1));
    assert_eq!(check(&guard, shared, None, at(1)).unwrap_err().scope, Scope::Address);
    assert_eq!(check(&guard, shared, Some("stranger"), at(1)).unwrap_err().scope, Scope::Address);
    assert_eq!(check(&guard, shared, Some("billing"), at(1)), Ok(()));
}

#[test]
fn one_id_at_two_apis_is_two_clients() {
    let guard = guard(Limits::default());
    let attempt = |realm| Attempt { address: ip("192.0.2.1"), realm, client: Some("billing") };
    for _ in 0..20 {
        guard.failed(attempt(Some("reports")), at(0));
    }
    let refused = |realm| guard.check(attempt(realm), at(0)).is_err();
    assert_eq!([refused(Some("reports")), refused(Some("other")), refused(None)], [true, false, false]);
}

#[test]
fn millions_of_addresses_take_no_memory_and_free_no_offender() {
    let small = Limits { addresses: 1_024, ..Limits::default() };
    let guard = guard(small);
    let offenders: Vec<IpAddr> = (0..20).map(|host| Ipv4Addr::new(192, 0, 2, host).into()).collect();
    for offender in &offenders {
        fails(&guard, Some(*offender), None, 100, at(0));
    }
    // fifty failures are a count that is worth keeping too
    for _ in 0..50 {
        failed(&guard, ip("198.51.100.1"), None, at(0));
    }
    let flood = if std::env::var_os("KEYHOLDER_LONG").is_some() { 10_000_000 } else { 400_000 };
    for number in 0..flood {
        failed(&guard, Some(Ipv4Addr::from_bits(0x0b00_0000_u32 + number).into()), None, at(1));
    }
    for offender in &offenders {
        assert!(check(&guard, Some(*offender), None, at(2)).is_err(), "{offender} was freed");
    }
    assert!(guard.counters.untracked.get() > 40_000, "the table was full");
    let left = fails(&guard, ip("198.51.100.1"), None, 1_000, at(2));
    assert!(left <= 51, "its fifty failures were forgotten: {left} more until it waits");
    let new = ip("203.0.113.200");
    // the flood leaks away, and who comes then is counted
    assert_eq!(fails(&guard, new, None, 1_000, at(700)), 100);
}

#[test]
fn exempt_addresses_and_unix_sockets_are_never_refused() {
    let guard = guard(Limits { exempt: vec!["10.0.0.0/8".parse().unwrap()], ..Limits::default() });
    for address in [ip("10.1.2.3"), ip("::ffff:10.1.2.3"), None] {
        assert_eq!(fails(&guard, address, Some("billing"), 10_000, at(0)), 10_000);
    }
    assert_eq!(check(&guard, ip("192.0.2.1"), Some("billing"), at(0)), Ok(()), "nor count against anybody");
}

#[test]
fn the_begin_of_a_wait_is_news_once() {
    let counters = Counters::default();
    let guard = Guard::new(Limits::default(), &counters);
    let news: Vec<RetryAfter> = (0..500).filter_map(|_| failed(&guard, ip("192.0.2.1"), Some("a"), at(0))).collect();
    let scopes: Vec<Scope> = news.iter().map(|news| news.scope).collect();
    // both the pair and the client at the twentieth, one of them is told; the address at the hundredth
    assert_eq!(scopes.len(), 2, "{scopes:?}");
    assert_eq!(scopes[1], Scope::Address);
    assert_eq!(counters.guard.began.each_ref().map(prometheus_client::metrics::counter::Counter::get), [1, 1, 1]);
    check(&guard, ip("192.0.2.1"), Some("a"), at(0)).unwrap_err();
    assert_eq!(counters.guard.refused.iter().map(prometheus_client::metrics::counter::Counter::get).sum::<u64>(), 1);
}

#[test]
fn each_scope_has_the_counter_of_its_place() {
    assert_eq!(Scope::ALL.map(Scope::index), [0, 1, 2]);
}

#[test]
fn the_wall_clock_does_not_matter_and_a_standing_clock_lengthens_nothing() {
    let guard = guard(Limits::default());
    fails(&guard, ip("192.0.2.1"), None, 100, at(0));
    let jumped = |wall| Now { wall: UnixMillis(wall), ..at(4) };
    for wall in [0, u64::MAX, 1_790_000_000_000] {
        assert_eq!(check(&guard, ip("192.0.2.1"), None, jumped(wall)).unwrap_err().seconds(), 1);
    }
    // an earlier reading of another thread
    assert!(check(&guard, ip("192.0.2.1"), None, at(0)).is_err());
    assert_eq!(check(&guard, ip("192.0.2.1"), None, at(5)), Ok(()));
}

#[test]
fn workers_share_it() {
    let guard = guard(Limits::default());
    std::thread::scope(|scope| {
        for worker in 0..4_u8 {
            let guard = &guard;
            scope.spawn(move || {
                for number in 0..20_000_u32 {
                    let other = Ipv4Addr::from_bits(0x0b00_0000 + number * 4 + u32::from(worker));
                    failed(guard, Some(other.into()), Some("client"), at(0));
                    check(guard, Some(other.into()), None, at(0)).ok();
                    succeeded(guard, Some(other.into()), Some("client"), at(0));
                    failed(guard, ip("192.0.2.1"), None, at(0));
                }
            });
        }
    });
    assert!(check(&guard, ip("192.0.2.1"), None, at(0)).is_err());
}

#[test]
fn retry_after_is_whole_seconds_and_never_zero() {
    for (millis, seconds) in [(1, 1), (999, 1), (1_000, 1), (1_001, 2), (900_000, 900)] {
        let refused = RetryAfter { scope: Scope::Client, wait: Duration::from_millis(millis) };
        assert_eq!(refused.seconds(), seconds);
    }
}
