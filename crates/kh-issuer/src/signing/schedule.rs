//! Which key signs, which keys are published, and when the next one is made: pure, from the times of the keys and `now`.
//!
//! Invariants, each tried by a property test: the key that signs is published; a key that took over by schedule was
//! published for [`Policy::ahead`] before; a key stays published until the last token that it signed has expired, and
//! [`LEEWAY`] longer.
//!
//! A key that a clock placed far ahead does not stop the schedule, and is not moved by it while another key signs before
//! it: whether that clock or this one is wrong is not known here.

use std::time::Duration;

use kh_core::UnixMillis;
use serde::{Deserialize, Serialize};

/// Longest life of a JWT, and so the time for which a key stays published after its successor began to sign. A JWT is
/// verified by whoever has the public key, without asking: a day is long for that already.
pub const JWT_TTL_MAX: Duration = Duration::from_hours(24);

/// What verifiers commonly allow between clocks, and the time that another process of this state may go on signing with
/// the key before (it looks every few seconds).
pub(crate) const LEEWAY: Duration = Duration::from_mins(5);

/// Longest time for which a key is published before it signs: API gateways keep a key set for hours.
pub(crate) const AHEAD_MAX: Duration = Duration::from_hours(24);

/// Keys at once. At the shortest useful interval of an hour some 27 are published; the document of so many RSA keys
/// fits the secret store's 64 KiB.
pub const KEYS_MAX: usize = 32;

/// A signature algorithm of RFC 7518 section 3.1 or RFC 8037.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits: what every verifier of RFC 9068 section 2.1 must support.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Es256, Self::Rs256, Self::EdDsa];

    /// Its `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// How keys are made and replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The algorithm of the next key.
    pub algorithm: Algorithm,
    /// For how long one key signs.
    pub interval: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { algorithm: Algorithm::default(), interval: Self::INTERVAL }
    }
}

impl Policy {
    /// 30 days, unless something else is said.
    pub const INTERVAL: Duration = Duration::from_hours(30 * 24);

    /// For how long a key is published before it signs.
    pub fn ahead(&self) -> Duration {
        AHEAD_MAX.min(self.interval / 2)
    }
}

/// The times of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Times {
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// From when it signs, until the next one does.
    pub signs_from: UnixMillis,
}

/// What a person may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// A new key, published first and signing after [`Policy::ahead`].
    Ahead,
    /// A new key that signs at once, or the one that waits already: for verifiers that fetch the key set again when they
    /// meet an unknown key.
    Now,
    /// A new key that signs at once, and no other is published any more: what was signed before is worthless.
    Compromised,
}

/// What is to be done to the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Make a key that signs from this time on.
    Add(UnixMillis),
    /// Let every key that waits sign from this time on: the newest signs.
    Hasten(UnixMillis),
    /// Let the oldest key sign from this time on. All keys are far ahead, so that it signs already; no other key is
    /// published for a shorter time because of it.
    Begin(UnixMillis),
    /// Make a key that signs from this time on and forget all others.
    Replace(UnixMillis),
}

/// The place of the key that signs at `now`. `keys` are in the order in which they sign; with a clock that was set back
/// before all of them the first one signs, which is published like the others.
pub(crate) fn signer(keys: &[Times], now: UnixMillis) -> Option<usize> {
    let begun = keys.iter().rposition(|key| key.signs_from <= now);
    begun.or((!keys.is_empty()).then_some(0))
}

/// Whether the key at `place` is published at `now`: until what it signed has expired.
pub(crate) fn is_published(keys: &[Times], place: usize, now: UnixMillis) -> bool {
    match keys.get(place + 1) {
        Some(next) => now < next.signs_from.plus(JWT_TTL_MAX).plus(LEEWAY),
        None => place < keys.len(),
    }
}

/// What is due by schedule at `now`.
pub(crate) fn due(keys: &[Times], policy: &Policy, now: UnixMillis) -> Option<Step> {
    if keys.is_empty() {
        return Some(Step::Add(now));
    }
    let Some(newest) = newest(keys, policy, now) else { return Some(Step::Begin(now)) };
    if newest.signs_from > now || live(keys, now) >= KEYS_MAX {
        return None;
    }
    let first = now.plus(policy.ahead());
    if newest.algorithm != policy.algorithm {
        return Some(Step::Add(first));
    }
    let end = newest.signs_from.plus(policy.interval);
    (first >= end).then(|| Step::Add(first.max(end)))
}

/// What `order` means at `now`; none where a key waits already or there are as many as can be.
pub(crate) fn ordered(keys: &[Times], policy: &Policy, order: Order, now: UnixMillis) -> Option<Step> {
    let waits = |key: &Times| key.signs_from > now;
    match order {
        Order::Compromised => Some(Step::Replace(now)),
        Order::Now if keys.last().is_some_and(waits) => Some(Step::Hasten(now)),
        _ if live(keys, now) >= KEYS_MAX => None,
        Order::Now => Some(Step::Add(now)),
        Order::Ahead if keys.is_empty() => Some(Step::Add(now)),
        Order::Ahead if newest(keys, policy, now).is_none_or(waits) => None,
        Order::Ahead => Some(Step::Add(now.plus(policy.ahead()))),
    }
}

/// The newest key, but for those that wait longer than any that is made at `now`: a clock that ran ahead placed them, or
/// the clock was set back since. They are published, and sign when their time comes.
fn newest<'a>(keys: &'a [Times], policy: &Policy, now: UnixMillis) -> Option<&'a Times> {
    let latest = now.plus(policy.ahead()).plus(LEEWAY);
    keys.iter().rfind(|key| key.signs_from <= latest)
}

fn live(keys: &[Times], now: UnixMillis) -> usize {
    (0..keys.len()).filter(|place| is_published(keys, *place, now)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);
    const START: UnixMillis = UnixMillis(1_790_000_000_000);

    fn policy(interval: Duration) -> Policy {
        Policy { algorithm: Algorithm::Es256, interval }
    }

    /// What the service does with a step, on times alone.
    fn carry_out(keys: &mut Vec<Times>, step: Step, policy: &Policy, now: UnixMillis) {
        let new = |signs_from| Times { algorithm: policy.algorithm, signs_from };
        match step {
            Step::Add(at) => keys.insert(keys.partition_point(|key| key.signs_from <= at), new(at)),
            Step::Hasten(at) => {
                for key in keys.iter_mut() {
                    key.signs_from = key.signs_from.min(at);
                }
            }
            Step::Begin(at) => keys[0].signs_from = at,
            Step::Replace(at) => *keys = vec![new(at)],
        }
        let kept: Vec<_> = (0..keys.len()).filter(|place| is_published(keys, *place, now)).collect();
        *keys = kept.into_iter().map(|place| keys[place]).collect();
    }

    #[test]
    fn a_year_by_the_schedule() {
        let policy = policy(30 * DAY);
        let (mut keys, mut now, mut made, mut most) = (Vec::new(), START, 0, 0);
        while now < START.plus(365 * DAY) {
            if let Some(step) = due(&keys, &policy, now) {
                carry_out(&mut keys, step, &policy, now);
                made += 1;
            }
            most = most.max(live(&keys, now));
            now = now.plus(HOUR);
        }
        assert_eq!((made, most), (13, 2), "one in 30 days; two for the days around a change");
    }

    #[test]
    fn another_algorithm_is_published_before_it_signs() {
        let mut keys = vec![Times { algorithm: Algorithm::Rs256, signs_from: START }];
        let policy = policy(30 * DAY);
        assert_eq!(due(&keys, &policy, START.plus(HOUR)), Some(Step::Add(START.plus(HOUR + DAY))));
        carry_out(&mut keys, Step::Add(START.plus(DAY)), &policy, START);
        assert_eq!(due(&keys, &policy, START.plus(HOUR)), None, "one waits already");
        assert_eq!(signer(&keys, START.plus(Duration::from_hours(23))), Some(0));
        assert_eq!(signer(&keys, START.plus(DAY)), Some(1));
        assert!(is_published(&keys, 0, START.plus(2 * DAY)) && !is_published(&keys, 0, START.plus(2 * DAY + HOUR)));
    }

    #[test]
    fn orders() {
        let policy = policy(30 * DAY);
        assert_eq!(ordered(&[], &policy, Order::Ahead, START), Some(Step::Add(START)));
        let one = [Times { algorithm: Algorithm::Es256, signs_from: START }];
        assert_eq!(ordered(&one, &policy, Order::Ahead, START), Some(Step::Add(START.plus(DAY))));
        assert_eq!(ordered(&one, &policy, Order::Now, START), Some(Step::Add(START)));
        assert_eq!(ordered(&one, &policy, Order::Compromised, START), Some(Step::Replace(START)));
        let waiting = [one[0], Times { signs_from: START.plus(DAY), ..one[0] }];
        assert_eq!(ordered(&waiting, &policy, Order::Ahead, START), None);
        assert_eq!(ordered(&waiting, &policy, Order::Now, START), Some(Step::Hasten(START)));
        let full: Vec<_> = (0..KEYS_MAX).map(|_| one[0]).collect();
        assert_eq!(ordered(&full, &policy, Order::Now, START), None);
        assert_eq!(
            due(&full, &policy, START.plus(60 * DAY)),
            Some(Step::Add(START.plus(61 * DAY))),
            "the old ones ended"
        );
    }

    #[test]
    fn a_clock_that_was_set_back_still_has_a_signer_and_makes_no_key() {
        let keys = [Times { algorithm: Algorithm::Es256, signs_from: START }];
        assert_eq!(signer(&keys, UnixMillis(0)), Some(0));
        assert_eq!(due(&keys, &policy(30 * DAY), START.minus(HOUR)), None);
        assert_eq!(due(&keys, &policy(30 * DAY), UnixMillis(0)), Some(Step::Begin(UnixMillis(0))));
        assert_eq!(signer(&[], START), None);
    }

    #[test]
    fn keys_that_a_clock_placed_far_ahead_neither_stop_the_schedule_nor_move() {
        let policy = policy(30 * DAY);
        let at = |signs_from| Times { algorithm: Algorithm::Es256, signs_from };
        let (soon, far) = (START.plus(DAY), START.plus(365 * DAY));
        let mut keys = vec![at(START), at(far), at(far.plus(DAY))];
        assert_eq!(due(&keys, &policy, START), None);
        assert_eq!(ordered(&keys, &policy, Order::Ahead, START), Some(Step::Add(soon)));
        carry_out(&mut keys, Step::Add(soon), &policy, START);
        assert_eq!(keys, [at(START), at(soon), at(far), at(far.plus(DAY))]);
        assert_eq!(ordered(&keys, &policy, Order::Ahead, START), None, "one waits already");
        let next = START.plus(30 * DAY);
        assert_eq!(due(&keys, &policy, next), Some(Step::Add(next.plus(DAY))));
        let rest = START.plus(20 * DAY);
        assert_eq!((signer(&keys, rest), due(&keys, &policy, rest)), (Some(1), None));
        assert_eq!(ordered(&keys, &policy, Order::Now, rest), Some(Step::Hasten(rest)));
        carry_out(&mut keys, Step::Hasten(rest), &policy, rest);
        assert_eq!((signer(&keys, rest), keys.last()), (Some(2), Some(&at(rest))), "the newest, at once");
    }

    #[test]
    fn a_set_that_begins_far_ahead_is_replaced_by_schedule_all_the_same() {
        let policy = policy(30 * DAY);
        let at = |signs_from| Times { algorithm: Algorithm::Es256, signs_from };
        let far = START.plus(365 * DAY);
        let mut keys = vec![at(far), at(far.plus(30 * DAY))];
        assert_eq!((signer(&keys, START), ordered(&keys, &policy, Order::Ahead, START)), (Some(0), None));
        assert_eq!(due(&keys, &policy, START), Some(Step::Begin(START)));
        carry_out(&mut keys, Step::Begin(START), &policy, START);
        assert_eq!(keys, [at(START), at(far.plus(30 * DAY))]);
        let next = START.plus(29 * DAY);
        assert_eq!((due(&keys, &policy, START), due(&keys, &policy, next)), (None, Some(Step::Add(next.plus(DAY)))));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Wait(u64),
        Order(u8),
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// Any waits and any orders of a person: what was signed can be verified as long as it lives, and nothing signs
        /// by schedule that was not published before.
        #[test]
        fn every_live_token_finds_its_key(
            interval_h in 1_u64..2000,
            acts in prop::collection::vec(
                prop_oneof![
                    6 => (1_u64..200).prop_map(Act::Wait),
                    1 => (0_u8..2).prop_map(Act::Order),
                ],
                1..120,
            ),
        ) {
            let policy = policy(Duration::from_hours(interval_h));
            let (mut keys, mut now) = (Vec::<Times>::new(), START);
            // tokens as (the key that signed, its expiry), and keys as (signs_from, when it was first published)
            let mut tokens: Vec<(UnixMillis, UnixMillis)> = Vec::new();
            let mut ordered_now = false;
            let mut seen: Vec<(UnixMillis, UnixMillis)> = Vec::new();
            for act in acts {
                // so that no two keys sign from the same moment on, by which the test tells them apart
                now = now.plus(Duration::from_millis(1));
                let step = match act {
                    Act::Wait(hours) => {
                        now = now.plus(Duration::from_hours(hours));
                        due(&keys, &policy, now)
                    }
                    Act::Order(0) => ordered(&keys, &policy, Order::Ahead, now),
                    Act::Order(_) => {
                        ordered_now = true;
                        ordered(&keys, &policy, Order::Now, now)
                    }
                };
                if let Some(step) = step {
                    carry_out(&mut keys, step, &policy, now);
                }
                prop_assert!(keys.len() <= KEYS_MAX + 1);
                for key in &keys {
                    if !seen.iter().any(|(at, _)| *at == key.signs_from) {
                        seen.push((key.signs_from, now));
                    }
                }
                let place = signer(&keys, now).unwrap();
                prop_assert!(is_published(&keys, place, now));
                let signing = keys[place].signs_from;
                if !ordered_now && seen.len() > 1 && signing != seen[0].0 {
                    let since = seen.iter().find(|(at, _)| *at == signing).unwrap().1;
                    prop_assert!(now.since(since) >= policy.ahead(), "published {since:?}, signs at {now:?}");
                }
                tokens.push((signing, now.plus(JWT_TTL_MAX)));
                tokens.retain(|(_, expires)| now < expires.plus(LEEWAY));
                for (key, _) in &tokens {
                    let place = keys.iter().position(|one| one.signs_from == *key);
                    prop_assert!(
                        place.is_some_and(|place| is_published(&keys, place, now)),
                        "a live token's key is gone"
                    );
                }
            }
        }
    }
}
