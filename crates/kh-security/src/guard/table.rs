//! Counts in a table of fixed size, in sets of eight under a lock each.
//!
//! What happens when a set is full is what an attacker with millions of addresses would use. A newcomer takes the place of
//! the entry with the smallest count if that has leaked away; otherwise it wears the smallest count down by one and is not
//! counted itself (as in the frequent-items algorithm of Misra and Gries). Who waits is never replaced nor worn down. So
//! making the guard forget an entry costs at least as many failures as it holds, and that in its own set, which a keyed
//! hash keeps from being aimed at.
//!
//! Invariants: memory is fixed; time that stands still or goes back leaks nothing and lengthens nothing.

use std::time::Duration;

use parking_lot::Mutex;

/// Less than one failure: what may leak away of a count between its first failure and its last and is not given.
const BURST_LEAK: f64 = 0.5;

/// Entries under one lock.
const WAYS: usize = 8;

/// When to refuse, and for how long.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rule {
    pub(super) limit: f64,
    pub(super) hard: f64,
    pub(super) leak_per_ms: f64,
    pub(super) wait_first: Duration,
    pub(super) wait_max: Duration,
    pub(super) strike_memory: Duration,
}

/// One counted thing. A key of zero is a free place.
#[derive(Clone, Copy, Default, Debug)]
struct Entry {
    key: u64,
    failures: f32,
    successes: f32,
    /// Milliseconds of the monotonic clock.
    seen: u64,
    until: u64,
    /// From the last failure, or from when a strike was last forgiven, to `seen`.
    quiet_ms: u32,
    strikes: u8,
}

const _: () = assert!(size_of::<Entry>() <= 40, "as the limits tell it");

/// What a failure brought about.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// A wait began.
    pub(super) began: Option<Duration>,
    /// There was no room to count it.
    pub(super) untracked: bool,
}

/// Counts of one kind.
pub(super) struct Table {
    sets: Box<[Mutex<[Entry; WAYS]>]>,
    rule: Rule,
}

fn millis(mono: Duration) -> u64 {
    u64::try_from(mono.as_millis()).unwrap_or(u64::MAX)
}

/// Zero means a free place.
fn nonzero(key: u64) -> u64 {
    key.max(1)
}

impl Table {
    /// For at least `entries`.
    pub(super) fn new(entries: usize, rule: Rule) -> Self {
        let sets = entries.div_ceil(WAYS).max(1);
        Self { sets: (0..sets).map(|_| Mutex::new([Entry::default(); WAYS])).collect(), rule }
    }

    fn set(&self, key: u64) -> &Mutex<[Entry; WAYS]> {
        // the upper half chooses the set, so that it does not depend on how the key is compared
        let at = usize::try_from(key >> 32).unwrap_or(0) % self.sets.len();
        self.sets.get(at).expect("a remainder is below the number of sets")
    }

    /// How long `key` has to wait still.
    pub(super) fn wait(&self, key: u64, mono: Duration) -> Option<Duration> {
        let (key, now) = (nonzero(key), millis(mono));
        let set = self.set(key).lock();
        let left = set.iter().find(|entry| entry.key == key)?.until.saturating_sub(now);
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// One more failure of `key`.
    pub(super) fn failed(&self, key: u64, mono: Duration) -> Failed {
        let (key, now) = (nonzero(key), millis(mono));
        let mut set = self.set(key).lock();
        let Some(entry) = place(&mut set, key, now, &self.rule) else {
            return Failed { began: None, untracked: true };
        };
        entry.leak(now, &self.rule);
        entry.quiet_ms = 0;
        // who waits is not made to wait longer by what others do in its name
        if entry.until > now {
            return Failed::default();
        }
        entry.failures += 1.0;
        let failures = f64::from(entry.failures);
        let shared = entry.successes >= entry.failures;
        // what leaks away while a burst lasts does not make it one failure longer
        let failures = failures + BURST_LEAK;
        if failures < self.rule.limit || (shared && failures < self.rule.hard) {
            return Failed::default();
        }
        let wait = self.rule.wait(entry.strikes);
        entry.strikes = entry.strikes.saturating_add(1);
        entry.until = now.saturating_add(millis(wait));
        // half of the limit is left for after the wait: who goes on waits again sooner
        entry.failures /= 2.0;
        Failed { began: Some(wait), untracked: false }
    }

    /// A success of `key`. A newcomer takes a free or leaked-away place, and wears nobody down: where there is none, it
    /// is not counted.
    pub(super) fn succeeded(&self, key: u64, mono: Duration) {
        let (key, now) = (nonzero(key), millis(mono));
        let mut set = self.set(key).lock();
        let Some(entry) = found_or_free(&mut set, key, now, &self.rule) else { return };
        entry.leak(now, &self.rule);
        #[allow(clippy::cast_possible_truncation, reason = "a bound, not a count: its exact value does not matter")]
        let most = self.rule.hard as f32;
        entry.successes = (entry.successes + 1.0).min(most);
    }
}

impl Rule {
    /// The wait after this many before: twice as long each time.
    fn wait(&self, strikes: u8) -> Duration {
        let factor = 1_u32.checked_shl(u32::from(strikes)).unwrap_or(u32::MAX);
        self.wait_first.saturating_mul(factor).min(self.wait_max).max(Duration::from_millis(1))
    }
}

impl Entry {
    /// What is left after the time since it was seen last.
    fn leak(&mut self, now: u64, rule: &Rule) {
        let idle = now.saturating_sub(self.seen);
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of a process's life are exact in 53 bits")]
        let leaked = rule.leak_per_ms * idle as f64;
        for count in [&mut self.failures, &mut self.successes] {
            #[allow(clippy::cast_possible_truncation, reason = "counts of some thousand; f32 holds them")]
            let left = (f64::from(*count) - leaked).max(0.0) as f32;
            *count = left;
        }
        // a success moves `seen` and must not begin the hour anew
        let quiet = u64::from(self.quiet_ms).saturating_add(idle);
        let memory = millis(rule.strike_memory);
        let forgiven = quiet.checked_div(memory).unwrap_or(0);
        self.strikes = self.strikes.saturating_sub(u8::try_from(forgiven).unwrap_or(u8::MAX));
        self.quiet_ms = u32::try_from(quiet.checked_rem(memory).unwrap_or(0)).unwrap_or(u32::MAX);
        self.seen = self.seen.max(now);
    }

    /// What it would cost to make it forgotten; infinite while it waits.
    fn weight(&self, now: u64, rule: &Rule) -> f64 {
        if self.until > now {
            return f64::INFINITY;
        }
        let mut then = *self;
        then.leak(now, rule);
        f64::from(then.failures) + f64::from(then.strikes) * rule.limit
    }
}

/// The entry of `key`; for a new one a free place, that of one that has leaked away, or nothing, and then the weakest is
/// worn down.
fn place<'a>(set: &'a mut [Entry; WAYS], key: u64, now: u64, rule: &Rule) -> Option<&'a mut Entry> {
    let at = match find(set, key, now, rule) {
        Found::Place(at) => at,
        Found::Full { weakest } => {
            if let Some(weakest) = set.get_mut(weakest).filter(|entry| entry.until <= now) {
                weakest.leak(now, rule);
                if weakest.failures >= 1.0 {
                    weakest.failures -= 1.0;
                } else {
                    weakest.strikes = weakest.strikes.saturating_sub(1);
                    #[allow(clippy::cast_possible_truncation, reason = "a limit of some hundred; f32 holds it")]
                    let worth = rule.limit as f32;
                    weakest.failures = (worth - 1.0).max(0.0);
                }
            }
            return None;
        }
    };
    taken(set, at, key, now)
}

fn found_or_free<'a>(set: &'a mut [Entry; WAYS], key: u64, now: u64, rule: &Rule) -> Option<&'a mut Entry> {
    match find(set, key, now, rule) {
        Found::Place(at) => taken(set, at, key, now),
        Found::Full { .. } => None,
    }
}

fn taken(set: &mut [Entry; WAYS], at: usize, key: u64, now: u64) -> Option<&mut Entry> {
    let entry = set.get_mut(at)?;
    if entry.key != key {
        *entry = Entry { key, seen: now, ..Entry::default() };
    }
    Some(entry)
}

enum Found {
    /// Its own place, or one that it may take.
    Place(usize),
    Full {
        weakest: usize,
    },
}

fn find(set: &[Entry; WAYS], key: u64, now: u64, rule: &Rule) -> Found {
    if let Some(at) = set.iter().position(|entry| entry.key == key) {
        return Found::Place(at);
    }
    let weights = set.iter().map(|entry| if entry.key == 0 { -1.0 } else { entry.weight(now, rule) });
    let (weakest, weight) =
        weights.enumerate().min_by(|(_, one), (_, other)| one.total_cmp(other)).expect("a set has eight entries");
    if weight < 1.0 { Found::Place(weakest) } else { Found::Full { weakest } }
}

/// Pairs that succeeded, the most recent ones. Only successes come in: nobody without a credential pushes any out.
pub(super) struct Known {
    sets: Box<[Mutex<KnownSet>]>,
}

/// Keys, and when each succeeded last, in milliseconds of the monotonic clock.
type KnownSet = [(u64, u64); WAYS];

impl Known {
    pub(super) fn new(entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS).max(1);
        Self { sets: (0..sets).map(|_| Mutex::new([(0, 0); WAYS])).collect() }
    }

    fn set(&self, key: u64) -> &Mutex<KnownSet> {
        let at = usize::try_from(key >> 32).unwrap_or(0) % self.sets.len();
        self.sets.get(at).expect("a remainder is below the number of sets")
    }

    /// Whether `key` succeeded within `memory`.
    pub(super) fn is_known(&self, key: u64, mono: Duration, memory: Duration) -> bool {
        let (key, now) = (nonzero(key), millis(mono));
        let set = self.set(key).lock();
        set.iter().any(|(known, at)| *known == key && now.saturating_sub(*at) <= millis(memory))
    }

    /// `key` succeeded; the one that is longest ago makes room.
    pub(super) fn succeeded(&self, key: u64, mono: Duration) {
        let (key, now) = (nonzero(key), millis(mono));
        let mut set = self.set(key).lock();
        let at = set.iter().position(|(known, _)| *known == key);
        let oldest =
            set.iter().enumerate().min_by_key(|(_, (known, at))| if *known == 0 { 0 } else { at.saturating_add(1) });
        let at = at.or(oldest.map(|(at, _)| at));
        if let Some(entry) = at.and_then(|at| set.get_mut(at)) {
            *entry = (key, now);
        }
    }
}
