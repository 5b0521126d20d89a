//! Subjects that are remembered, in bounded memory.
//!
//! Invariant: never more subjects than allowed, and never more countries of one than [`COUNTRIES_MAX`]; the one that goes
//! is one that was not seen since the hand last came by (second chance, as pages are chosen).

use std::{collections::HashMap, time::Duration};

use kh_core::{Now, UnixMillis};

use crate::{
    geo::{Country, Position},
    ocsf::FindingKind,
};

/// Countries of one subject: more than people work in; of an attacker with an account, the oldest go.
pub(super) const COUNTRIES_MAX: usize = 12;

/// Where and when somebody was.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Fix {
    pub(super) position: Position,
    pub(super) country: Country,
    pub(super) at: Now,
}

/// One country, and when the subject was there: last, and when that was last news.
#[derive(Clone, Copy, Debug)]
struct Stay {
    country: Option<Country>,
    seen: UnixMillis,
    news: Option<UnixMillis>,
}

/// What is remembered of one subject.
#[derive(Debug, Default)]
pub(super) struct Subject {
    pub(super) last: Option<Fix>,
    stays: Vec<Stay>,
    /// When each kind alerted last, by the monotonic clock.
    travel_alerted: Option<Duration>,
    country_alerted: Option<Duration>,
}

impl Subject {
    /// Whether a success from here is the first of a day; remembers that it was.
    pub(super) fn first_of_day(&mut self, country: Option<Country>, wall: UnixMillis, day: Duration) -> bool {
        let stay = self.stay(country);
        // a clock that was set back makes news once more, which is better than none for a long time
        let known = stay.news.is_some_and(|news| news <= wall && wall.since(news) < day);
        if !known {
            stay.news = Some(wall);
        }
        !known
    }

    /// The countries that it came from.
    pub(super) fn countries(&self, wall: UnixMillis, memory: Duration) -> Vec<Country> {
        let fresh = |stay: &&Stay| stay.seen != UnixMillis(0) && wall.since(stay.seen) < memory;
        self.stays.iter().filter(fresh).filter_map(|stay| stay.country).collect()
    }

    /// It came from here.
    pub(super) fn came_from(&mut self, country: Country, wall: UnixMillis) {
        self.stay(Some(country)).seen = wall;
    }

    /// Whether it is time for an alert of this kind; remembers that there was one.
    pub(super) fn may_alert(&mut self, kind: FindingKind, now: Now, quiet: Duration) -> bool {
        let slot = match kind {
            FindingKind::ImpossibleTravel => &mut self.travel_alerted,
            FindingKind::NewCountry | FindingKind::BruteForce => &mut self.country_alerted,
        };
        let may = slot.is_none_or(|last| now.mono.saturating_sub(last) >= quiet);
        if may {
            *slot = Some(now.mono);
        }
        may
    }

    fn stay(&mut self, country: Option<Country>) -> &mut Stay {
        let at = self.stays.iter().position(|stay| stay.country == country).unwrap_or_else(|| {
            if self.stays.len() == COUNTRIES_MAX {
                let oldest = self.stays.iter().enumerate().min_by_key(|(_, stay)| stay.news.max(Some(stay.seen)));
                let oldest = oldest.map_or(0, |(at, _)| at);
                self.stays.swap_remove(oldest);
            }
            self.stays.push(Stay { country, seen: UnixMillis(0), news: None });
            self.stays.len() - 1
        });
        self.stays.get_mut(at).expect("the place was found or has just been made")
    }
}

#[derive(Debug)]
struct Slot {
    key: u64,
    seen: bool,
    subject: Subject,
}

/// All subjects.
#[derive(Debug)]
pub(super) struct Memory {
    slots: Vec<Slot>,
    places: HashMap<u64, usize>,
    hand: usize,
    max: usize,
}

impl Memory {
    /// For at most `max` subjects, and at least one.
    pub(super) fn new(max: usize) -> Self {
        Self { slots: Vec::new(), places: HashMap::new(), hand: 0, max: max.max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What is remembered of the subject with this key; a new one if nothing is.
    pub(super) fn subject(&mut self, key: u64) -> &mut Subject {
        let place = self.places.get(&key).copied().unwrap_or_else(|| self.make(key));
        let slot = self.slots.get_mut(place).expect("places point at slots");
        slot.seen = true;
        &mut slot.subject
    }

    fn make(&mut self, key: u64) -> usize {
        let fresh = Slot { key, seen: true, subject: Subject::default() };
        let place = if self.slots.len() < self.max {
            self.slots.push(fresh);
            self.slots.len() - 1
        } else {
            let place = self.choose();
            if let Some(slot) = self.slots.get_mut(place) {
                self.places.remove(&slot.key);
                *slot = fresh;
            }
            place
        };
        self.places.insert(key, place);
        place
    }

    /// The next slot that was not seen since the hand came by; after one round all have lost their second chance.
    fn choose(&mut self) -> usize {
        for _ in 0..=self.slots.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            match self.slots.get_mut(at) {
                Some(slot) if slot.seen => slot.seen = false,
                _ => return at,
            }
        }
        self.hand
    }
}
