//! The bounds under a clock that only the test moves.

use super::*;

const REAL: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
const ATTACKER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)));

fn at(seconds: u64) -> Now {
    Now::default().plus(Duration::from_secs(seconds))
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + number))
}

/// Sends wrong logins as fast as they are let through; answers how many secrets were looked at until `end`.
fn guess(throttle: &mut Throttle, client: &str, from: Option<IpAddr>, start: u64, end: u64) -> u32 {
    let mut looked_at = 0;
    let mut now = at(start);
    while now.mono < Duration::from_secs(end) {
        match throttle.admit(client, from, now) {
            Ok(()) => {
                looked_at += 1;
                throttle.wrong(client, from, now);
                now = now.plus(Duration::from_millis(1));
            }
            Err(wait) => now = now.plus(wait.left),
        }
    }
    looked_at
}

#[test]
fn a_guesser_gets_few_tries_and_is_told_how_long_to_wait() {
    let mut throttle = Throttle::default();
    for number in 0..PAIR_FREE {
        assert_eq!(throttle.admit("c", ATTACKER, at(0)), Ok(()));
        assert_eq!(throttle.wrong("c", ATTACKER, at(0)), None, "number {number} is free");
    }
    throttle.admit("c", ATTACKER, at(0)).unwrap();
    let first = Wait { bound: Bound::Pair, left: PAIR_FIRST };
    assert_eq!(throttle.wrong("c", ATTACKER, at(0)), Some(first));
    assert_eq!(throttle.admit("c", ATTACKER, at(0)), Err(first));
    assert_eq!(throttle.admit("c", ATTACKER, at(1)), Ok(()), "after it the next try");
    let day = guess(&mut throttle, "c", ATTACKER, 1, 24 * 3600);
    assert!((250..400).contains(&day), "one in five minutes in the long run: {day}");
    assert_eq!(throttle.admit("c", REAL, at(24 * 3600)), Ok(()), "another address is not concerned");
}

#[test]
fn an_attacker_elsewhere_never_holds_up_a_caller_that_logged_in_before() {
    let mut throttle = Throttle::default();
    throttle.right("c", REAL, at(0));
    for second in 0..3600 {
        for number in 0..20 {
            let from = Some(address(second * 20 + number));
            if throttle.admit("c", from, at(u64::from(second))).is_ok() {
                throttle.wrong("c", from, at(u64::from(second)));
            }
        }
        assert_eq!(throttle.admit("c", REAL, at(u64::from(second))), Ok(()), "second {second}");
        throttle.right("c", REAL, at(u64::from(second)));
    }
    // and a new address of the real caller gets in within seconds, against 20 attackers a second
    let new = Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5)));
    let mut waited = 0;
    let mut now = at(3600);
    while let Err(wait) = throttle.admit("c", new, now) {
        assert_eq!(wait.bound, Bound::Client);
        now = now.plus(wait.left);
        waited += 1;
    }
    assert!(waited <= 2, "{waited}");
}

#[test]
fn the_guesses_of_a_whole_network_are_paced() {
    let mut throttle = Throttle::default();
    let mut looked_at = 0;
    for second in 0..600_u32 {
        for number in 0..50 {
            let from = Some(address(second * 50 + number));
            if throttle.admit("c", from, at(u64::from(second))).is_ok() {
                looked_at += 1;
                throttle.wrong("c", from, at(u64::from(second)));
            }
        }
    }
    // the free ones of each window, then one a second
    assert!((700..=1_000).contains(&looked_at), "{looked_at} of 30,000 were looked at");
}

#[test]
fn a_shared_address_with_an_attacker_behind_it_costs_seconds() {
    let mut throttle = Throttle::default();
    throttle.right("c", REAL, at(0));
    guess(&mut throttle, "c", REAL, 0, 600);
    let wait = throttle.admit("c", REAL, at(600)).err().map_or(Duration::ZERO, |wait| wait.left);
    assert!(wait <= PAIR_TRUSTED_MAX, "{wait:?}");
    throttle.right("c", REAL, at(620));
    assert_eq!(throttle.admit("c", REAL, at(620)), Ok(()), "a right login ends it");
    // many unknown ids from that address hold up neither the client that it logs in with
    for number in 0..1_000 {
        throttle.wrong(&format!("unknown-{number}"), REAL, at(621));
    }
    assert_eq!(throttle.admit("c", REAL, at(621)), Ok(()));
    let other = throttle.admit("d", REAL, at(621)).unwrap_err();
    assert_eq!((other.bound, other.left), (Bound::Address, ADDRESS_MAX));
}

#[test]
fn an_unknown_client_is_counted_as_a_known_one() {
    let mut throttle = Throttle::default();
    let mut answers = Vec::new();
    for client in ["known", "nobody", ""] {
        let told: Vec<_> = (0..30)
            .map(|second| {
                let admitted = throttle.admit(client, Some(address(9)), at(second));
                (admitted, admitted.is_ok().then(|| throttle.wrong(client, Some(address(9)), at(second))))
            })
            .collect();
        answers.push(told);
        throttle = Throttle::default();
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[test]
fn an_ipv6_network_is_one_address_and_a_mapped_one_is_its_ipv4() {
    let mut throttle = Throttle::default();
    let of = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    for number in 0..=PAIR_FREE {
        throttle.wrong("c", of(&format!("2001:db8:1:2::{number}")), at(0));
    }
    assert!(throttle.admit("c", of("2001:db8:1:2:ffff::1"), at(0)).is_err());
    assert!(throttle.admit("c", of("2001:db8:1:3::1"), at(0)).is_ok());
    for _ in 0..=PAIR_FREE {
        throttle.wrong("c", of("192.0.2.9"), at(0));
    }
    assert!(throttle.admit("c", of("::ffff:192.0.2.9"), at(0)).is_err());
    assert!(throttle.admit("c", None, at(0)).is_ok(), "a unix socket has no address");
}

#[test]
fn who_waits_goes_on_waiting_whatever_else_is_sent() {
    let mut throttle = Throttle::default();
    for _ in 0..PAIR_FREE + 20 {
        throttle.wrong("c", ATTACKER, at(0));
    }
    for number in 0..100_000 {
        throttle.wrong(&format!("c{}", number % 7), Some(address(number)), at(0));
        throttle.right("r", Some(address(number)), at(0));
    }
    assert!(throttle.admit("c", ATTACKER, at(1)).is_err());
    assert_eq!(throttle.counts.0.len() * WAYS, PLACES, "and the memory is what it was");
}
