//! Who came from where, and whether that can be: impossible travel and new countries. Pure.
//!
//! Only verified successes come in here, so that nobody fills the memory who has no credential. What is remembered is
//! bounded by [`Rules::subjects_max`]; when it is full, who was not seen for long is forgotten, and begins anew without
//! an alert. Nothing is kept over a restart: a subject's first country after it is the one to compare with.
//!
//! Invariants: a subject's first success never alerts; an alert of a speed needs it to be impossible by the wall clock
//! and by the monotonic clock, because the one jumps and the other may stand still in a suspended machine.

mod memory;

use std::{net::IpAddr, time::Duration};

use kh_core::{Now, UnixMillis};

use self::memory::{Fix, Memory, Subject};
use crate::{
    address::Network,
    geo::{Country, Place, Position},
    ocsf::FindingKind,
};

/// The earth's mean radius in km (IUGG).
const EARTH_KM: f64 = 6_371.008_8;

/// What is impossible, and who is exempt.
#[derive(Clone, PartialEq, Debug)]
pub struct Rules {
    /// Whether impossible travel is told.
    pub impossible_travel: bool,
    /// Whether new countries are told.
    pub new_country: bool,
    /// Faster than this is impossible, in km/h. Airliners fly some 900 over ground, with a strong wind behind 1,100.
    pub speed_max_kmh: f64,
    /// Nearer than this is never looked at, in km: location databases err by some hundred, and a mobile network's
    /// address is often told at its operator's seat.
    pub distance_min_km: f64,
    /// A country is new again after that long.
    pub country_memory: Duration,
    /// After an alert, the same subject gives none of the same kind for that long.
    pub quiet: Duration,
    /// Numbers of autonomous systems whose addresses say nothing about a place: VPNs, mobile gateways, clouds.
    pub exempt_asns: Vec<u32>,
    /// Networks whose addresses say nothing about a place.
    pub exempt_networks: Vec<Network>,
    /// Subjects that are everywhere at once, such as a service with several data centres.
    pub exempt_subjects: Vec<String>,
    /// Subjects that are remembered. One takes some 300 bytes.
    pub subjects_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            impossible_travel: true,
            new_country: true,
            speed_max_kmh: 1_000.0,
            distance_min_km: 500.0,
            country_memory: Duration::from_hours(90 * 24),
            quiet: Duration::from_hours(1),
            exempt_asns: Vec::new(),
            exempt_networks: Vec::new(),
            exempt_subjects: Vec::new(),
            subjects_max: 20_000,
        }
    }
}

/// An alert, and what was compared.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Alert {
    Travel { from: Country, to: Country, distance_km: f64, apart: Duration },
    Country { known: Vec<Country>, new: Country },
}

impl Alert {
    pub(crate) fn kind(&self) -> FindingKind {
        match self {
            Self::Travel { .. } => FindingKind::ImpossibleTravel,
            Self::Country { .. } => FindingKind::NewCountry,
        }
    }

    /// One sentence with the numbers.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Travel { from, to, distance_km, apart } => format!(
                "the subject was in {} and, {} seconds later, {distance_km:.0} km away in {}",
                from.as_str(),
                apart.as_secs(),
                to.as_str()
            ),
            Self::Country { known, new } => {
                let known: Vec<&str> = known.iter().map(Country::as_str).collect();
                format!("the subject came from {}; until now from {}", new.as_str(), known.join(", "))
            }
        }
    }
}

/// What a success says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Observed {
    /// The subject was not seen from this country (or from nowhere known) within the last day.
    pub(crate) first_of_day: bool,
    pub(crate) alerts: Vec<Alert>,
}

/// How long a success from the same country is no news.
const DAY: Duration = Duration::from_hours(24);

/// All subjects.
#[derive(Debug)]
pub(crate) struct Travel {
    rules: Rules,
    memory: Memory,
}

impl Travel {
    pub(crate) fn new(rules: Rules) -> Self {
        let memory = Memory::new(rules.subjects_max);
        Self { rules, memory }
    }

    /// How many subjects are remembered.
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// A success of the subject with this key and name.
    pub(crate) fn observe(
        &mut self,
        key: u64,
        name: &str,
        address: Option<IpAddr>,
        place: &Place,
        now: Now,
    ) -> Observed {
        let exempt = self.is_exempt(name, address, place);
        let subject = self.memory.subject(key);
        let first_of_day = subject.first_of_day(place.country, now.wall, DAY);
        let mut observed = Observed { first_of_day, alerts: Vec::new() };
        let Some(country) = place.country.filter(|_| !exempt) else { return observed };
        if let Some(alert) = new_country(&self.rules, subject, country, now.wall)
            && self.rules.new_country
            && subject.may_alert(FindingKind::NewCountry, now, self.rules.quiet)
        {
            observed.alerts.push(alert);
        }
        if let Some(position) = place.position {
            let fix = Fix { position, country, at: now };
            // an event that was overtaken by a later one, or a clock that was set back: nothing to compare
            let comparable = subject.last.filter(|last| last.at.wall <= now.wall);
            if let Some(alert) = comparable.and_then(|last| too_fast(&self.rules, last, fix))
                && self.rules.impossible_travel
                && subject.may_alert(FindingKind::ImpossibleTravel, now, self.rules.quiet)
            {
                observed.alerts.push(alert);
            }
            subject.last = Some(fix);
        }
        observed
    }

    fn is_exempt(&self, name: &str, address: Option<IpAddr>, place: &Place) -> bool {
        let rules = &self.rules;
        place.asn.is_some_and(|asn| rules.exempt_asns.contains(&asn))
            || address.is_some_and(|ip| rules.exempt_networks.iter().any(|network| network.contains(ip)))
            || rules.exempt_subjects.iter().any(|subject| subject == name)
    }
}

fn new_country(rules: &Rules, subject: &mut Subject, country: Country, wall: UnixMillis) -> Option<Alert> {
    let known = subject.countries(wall, rules.country_memory);
    subject.came_from(country, wall);
    (!known.is_empty() && !known.contains(&country)).then_some(Alert::Country { known, new: country })
}

fn too_fast(rules: &Rules, from: Fix, to: Fix) -> Option<Alert> {
    // what both databases' doubts leave for sure
    let sure_km = distance_km(from.position, to.position) - from.position.radius_km - to.position.radius_km;
    if sure_km < rules.distance_min_km {
        return None;
    }
    // the longer of both clocks' spans: an alert needs to be impossible by each of them
    let apart = to.at.wall.since(from.at.wall).max(to.at.mono.saturating_sub(from.at.mono));
    let possible_km = rules.speed_max_kmh * apart.as_secs_f64() / 3_600.0;
    (sure_km > possible_km).then_some(Alert::Travel { from: from.country, to: to.country, distance_km: sure_km, apart })
}

/// Along the great circle, by the haversine formula: exact enough (0.5 %) for what it decides.
fn distance_km(from: Position, to: Position) -> f64 {
    let (from_lat, to_lat) = (from.latitude.to_radians(), to.latitude.to_radians());
    let half_lat = ((to_lat - from_lat) / 2.0).sin();
    let half_long = ((to.longitude - from.longitude).to_radians() / 2.0).sin();
    let chord = half_lat * half_lat + from_lat.cos() * to_lat.cos() * half_long * half_long;
    2.0 * EARTH_KM * chord.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests;
