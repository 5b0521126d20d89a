//! When a rotation may change what consumers use: windows of the week and days on which nothing happens.
//!
//! Invariant: what parses prints back in the same words.

use std::{fmt, str::FromStr};

use jiff::civil::{Date, Weekday};
use serde::{Serialize, Serializer};

/// What a window looks like, for the JSON schema.
pub(super) const WINDOW: &str = "^((Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))? )?([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$";

/// What a blackout looks like, for the JSON schema; a day that no month has is refused by the reader alone.
pub(super) const BLACKOUT: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(\.\.[0-9]{4}-[0-9]{2}-[0-9]{2})?$";

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A part of each week: `Mon-Fri 22:00-04:00`, or every day `22:00-04:00`. One that ends before it begins goes into the
/// next day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The days on which it begins, both with them; Sunday may stand before Monday.
    pub days: Option<(Weekday, Weekday)>,
    /// Its begin, in minutes of the day.
    pub from: u16,
    /// Its end, in minutes of the day.
    pub to: u16,
}

/// One day, or several: `2026-12-24..2027-01-06`, both with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blackout {
    /// The first day.
    pub first: Date,
    /// The last one.
    pub last: Date,
}

/// Why one was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// No window.
    #[error("it is not written like Mon-Fri 22:00-04:00")]
    Window,
    /// Begin and end are the same.
    #[error("the window has no length")]
    Empty,
    /// No day.
    #[error("it is no day or span of days, written like 2026-12-24 or 2026-12-24..2027-01-06")]
    Blackout,
    /// The last day comes first.
    #[error("the last day is before the first")]
    Order,
}

fn weekday(text: &str) -> Option<Weekday> {
    let number = DAYS.iter().position(|day| *day == text)?;
    Weekday::from_monday_zero_offset(i8::try_from(number).ok()?).ok()
}

fn word(day: Weekday) -> &'static str {
    usize::try_from(day.to_monday_zero_offset()).ok().and_then(|number| DAYS.get(number)).copied().unwrap_or("Mon")
}

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits =
        |text: &str| (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?;
    let (hours, minutes): (u16, u16) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

impl FromStr for Window {
    type Err = CalendarError;
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let (days, times) = text.split_once(' ').map_or((None, text), |(days, times)| (Some(days), times));
        let days = days.map(|days| {
            let (first, last) = days.split_once('-').unwrap_or((days, days));
            Some((weekday(first)?, weekday(last)?))
        });
        let days = days.map_or(Ok(None), |days| days.map(Some).ok_or(CalendarError::Window))?;
        let (from, to) = times.split_once('-').ok_or(CalendarError::Window)?;
        let from = minutes(from).ok_or(CalendarError::Window)?;
        let to = minutes(to).ok_or(CalendarError::Window)?;
        if from == to { Err(CalendarError::Empty) } else { Ok(Self { days, from, to }) }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.days {
            Some((first, last)) if first == last => write!(f, "{} ", word(first))?,
            Some((first, last)) => write!(f, "{}-{} ", word(first), word(last))?,
            None => {}
        }
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl FromStr for Blackout {
    type Err = CalendarError;
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let day =
            |text: &str| text.parse::<Date>().ok().filter(|day| day.to_string() == text).ok_or(CalendarError::Blackout);
        let (first, last) = (day(first)?, day(last)?);
        if last < first { Err(CalendarError::Order) } else { Ok(Self { first, last }) }
    }
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}..{}", self.first, self.last) }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Blackout {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        for text in
            ["22:00-04:00", "Mon-Fri 22:00-04:00", "Sun 00:00-23:59", "Sat-Sun 08:30-09:00", "Sun-Tue 01:00-02:00"]
        {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("", CalendarError::Window),
            ("22:00", CalendarError::Window),
            ("24:00-01:00", CalendarError::Window),
            ("2:00-3:00", CalendarError::Window),
            ("mon 22:00-23:00", CalendarError::Window),
            ("Mon,Tue 22:00-23:00", CalendarError::Window),
            ("22:00-22:00", CalendarError::Empty),
        ] {
            assert_eq!(text.parse::<Window>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn blackouts() {
        for text in ["2026-12-24", "2026-12-24..2027-01-06"] {
            assert_eq!(text.parse::<Blackout>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("", CalendarError::Blackout),
            ("2026-02-30", CalendarError::Blackout),
            ("2026-12-24T10:00", CalendarError::Blackout),
            ("24.12.2026", CalendarError::Blackout),
            ("2026-12-24..2026-12-23", CalendarError::Order),
        ] {
            assert_eq!(text.parse::<Blackout>(), Err(error), "{text:?}");
        }
    }
}
