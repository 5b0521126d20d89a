//! Windows and blackout days in IANA time zones, resolved into the moments that the core decides by.
//!
//! Invariant: a day that cannot be resolved (outside of the calendar's range) opens nothing: rotation waits, it does not
//! guess.

use std::time::Duration;

use jiff::{
    Timestamp,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use kh_core::UnixMillis;
use kh_rotation::policy::{Calendar, Span};

/// How far ahead days are resolved. A run lives some weeks at most, and the calendar is resolved anew at each look.
const DAYS_AHEAD: u32 = 35;

/// A weekly stretch of time in which changes may be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// The days on which it begins.
    pub days: Vec<Weekday>,
    /// When it begins.
    pub from: Time,
    /// When it ends; at or before `from`: on the next day.
    pub to: Time,
}

/// Whole days on which no change may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blackout {
    /// The first day.
    pub first: Date,
    /// The last day.
    pub last: Date,
}

/// When a credential's secret may be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Times {
    /// The zone that all of it is meant in.
    pub zone: TimeZone,
    /// Windows; none: always.
    pub windows: Vec<Window>,
    /// Blackout days.
    pub blackouts: Vec<Blackout>,
}

impl Default for Times {
    fn default() -> Self {
        Self { zone: TimeZone::UTC, windows: Vec::new(), blackouts: Vec::new() }
    }
}

impl Times {
    /// The moments of the coming weeks.
    pub fn calendar(&self, now: UnixMillis) -> Calendar {
        let blackouts = self.blackouts.iter().filter_map(|blackout| self.blackout(*blackout)).collect();
        if self.windows.is_empty() {
            return Calendar { windows: None, blackouts };
        }
        let mut spans = Vec::new();
        let today = i64::try_from(now.0).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        // from yesterday on: a window may have begun then and still be open
        let mut day = today.and_then(|today| self.zone.to_datetime(today).date().yesterday().ok());
        for _ in 0..DAYS_AHEAD {
            let Some(date) = day else { break };
            let of_day = self.windows.iter().filter(|window| window.days.contains(&date.weekday()));
            spans.extend(of_day.filter_map(|window| self.window(window, date)));
            day = date.tomorrow().ok();
        }
        spans.sort_by_key(|span| (span.from, span.to));
        Calendar { windows: Some(spans), blackouts }
    }

    fn window(&self, window: &Window, date: Date) -> Option<Span> {
        let last = if window.to <= window.from { date.tomorrow().ok()? } else { date };
        let span = Span { from: self.moment(date, window.from)?, to: self.moment(last, window.to)? };
        // on the night when the clocks go forward a short one may fall into the missing hour
        (span.from < span.to).then_some(span)
    }

    fn blackout(&self, blackout: Blackout) -> Option<Span> {
        let end = blackout.last.tomorrow().ok()?;
        Some(Span { from: self.moment(blackout.first, Time::midnight())?, to: self.moment(end, Time::midnight())? })
    }

    /// A time that the clocks skip is the moment after the gap; one that they show twice is the first.
    fn moment(&self, date: Date, time: Time) -> Option<UnixMillis> {
        let moment = self.zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok()?;
        u64::try_from(moment.as_millisecond()).ok().map(UnixMillis)
    }

    /// How long after `now` this calendar must be resolved again at the latest.
    pub const FRESH_FOR: Duration = Duration::from_hours(24);
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};

    fn at(text: &str) -> UnixMillis {
        let moment: Timestamp = text.parse().unwrap();
        UnixMillis(u64::try_from(moment.as_millisecond()).unwrap())
    }

    fn berlin(windows: Vec<Window>, blackouts: Vec<Blackout>) -> Times {
        Times { zone: TimeZone::get("Europe/Berlin").unwrap(), windows, blackouts }
    }

    fn nightly(from: i8, to: i8) -> Window {
        let days = vec![
            Weekday::Monday,
            Weekday::Tuesday,
            Weekday::Wednesday,
            Weekday::Thursday,
            Weekday::Friday,
            Weekday::Saturday,
            Weekday::Sunday,
        ];
        Window { days, from: time(from, 0, 0, 0), to: time(to, 0, 0, 0) }
    }

    /// `open`, or the moment when to look again.
    fn check(times: &Times, now: &str) -> String {
        let now = at(now);
        let later = now.plus(Duration::from_hours(1));
        match times.calendar(now).closed_until(now, later) {
            None => "open".to_owned(),
            Some(until) => Timestamp::from_millisecond(i64::try_from(until.0).unwrap()).unwrap().to_string(),
        }
    }

    #[test]
    fn without_windows_it_is_always_open() {
        assert_eq!(check(&Times::default(), "2026-11-21T12:00:00Z"), "open");
    }

    #[test]
    fn a_window_over_midnight_is_open_on_both_days() {
        let times = berlin(vec![Window { days: vec![Weekday::Saturday], ..nightly(22, 4) }], Vec::new());
        // Saturday 2026-11-21, 22:00 to 04:00 in Berlin is 21:00Z to 03:00Z
        for (now, expected) in [
            ("2026-11-21T20:59:59Z", "2026-11-21T21:00:00Z"),
            ("2026-11-21T21:00:00Z", "open"),
            ("2026-11-22T02:59:59Z", "open"),
            ("2026-11-22T03:00:00Z", "2026-11-28T21:00:00Z"),
        ] {
            assert_eq!(check(&times, now), expected, "{now}");
        }
    }

    #[test]
    fn windows_follow_the_clocks_of_their_zone() {
        let times = berlin(vec![nightly(2, 3)], Vec::new());
        // clocks go back on 2026-10-25 at 03:00: 02:00 is shown twice, the first begins at 00:00Z
        assert_eq!(check(&times, "2026-10-25T00:30:00Z"), "open");
        assert_eq!(check(&times, "2026-10-24T23:00:00Z"), "2026-10-25T00:00:00Z");
        // clocks go forward on 2026-03-29 at 02:00: the hour does not exist, nothing opens that night
        assert_eq!(check(&times, "2026-03-29T00:30:00Z"), "2026-03-30T00:00:00Z");
        let wider = berlin(vec![nightly(1, 4)], Vec::new());
        assert_eq!(check(&wider, "2026-03-29T00:00:00Z"), "open");
        assert_eq!(check(&wider, "2026-03-29T02:00:00Z"), "2026-03-29T23:00:00Z", "it is two hours long that night");
    }

    #[test]
    fn blackouts_win_over_windows() {
        let blackout = Blackout { first: date(2026, 12, 24), last: date(2026, 12, 26) };
        let times = berlin(vec![nightly(0, 23)], vec![blackout]);
        assert_eq!(check(&times, "2026-12-23T21:30:00Z"), "open");
        assert_eq!(check(&times, "2026-12-23T23:00:00Z"), "2026-12-26T23:00:00Z", "whole days of its zone");
        assert_eq!(check(&times, "2026-12-26T23:00:00Z"), "open");
        let always = berlin(Vec::new(), vec![blackout]);
        assert_eq!(check(&always, "2026-12-25T12:00:00Z"), "2026-12-26T23:00:00Z");
    }
}
