//! Durations as people write them: `30s`, `15m`, `24h`, `90d`.
//!
//! Invariant: what parses is at least one second and at most ten years, and prints back in the same form.

use std::time::Duration;

/// Units from large to small, with their seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Longest duration accepted anywhere: ten years, so that sums with the current time cannot overflow.
const LONGEST_SECONDS: u64 = 10 * 365 * 86_400;

/// What a duration looks like, for the JSON schema; only the ten years are not in it.
pub(super) const PATTERN: &str = "^0*[1-9][0-9]*[smhd]$";

/// Why a duration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number and one unit.
    #[error("a duration is a whole number and a unit: 30s, 15m, 24h or 90d")]
    Form,
    /// Zero.
    #[error("the shortest duration is 1s")]
    Zero,
    /// More than ten years.
    #[error("the longest duration is 3650d")]
    TooLong,
}

/// Parses `30s`, `15m`, `24h`, `90d`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let unit = text.chars().next_back().ok_or(DurationError::Form)?;
    let (_, seconds) = UNITS.iter().find(|(letter, _)| *letter == unit).ok_or(DurationError::Form)?;
    let digits = text.strip_suffix(unit).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::Form);
    }
    let count: u64 = digits.parse().map_err(|_| DurationError::TooLong)?;
    let total = count.checked_mul(*seconds).ok_or(DurationError::TooLong)?;
    match total {
        0 => Err(DurationError::Zero),
        1..=LONGEST_SECONDS => Ok(Duration::from_secs(total)),
        _ => Err(DurationError::TooLong),
    }
}

/// Writes a duration of whole seconds in the largest unit that divides it.
pub fn format(span: Duration) -> String {
    let total = span.as_secs();
    let (unit, seconds) =
        UNITS.iter().find(|(_, seconds)| total > 0 && total.is_multiple_of(*seconds)).unwrap_or(&('s', 1));
    format!("{}{unit}", total / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("15m", 900), ("24h", 86_400), ("90d", 7_776_000), ("007s", 7)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, error) in [
            ("", DurationError::Form),
            ("s", DurationError::Form),
            ("5", DurationError::Form),
            ("-5s", DurationError::Form),
            ("+5s", DurationError::Form),
            ("1.5h", DurationError::Form),
            ("5 s", DurationError::Form),
            ("5ä", DurationError::Form),
            ("0s", DurationError::Zero),
            ("3651d", DurationError::TooLong),
            ("99999999999999999999s", DurationError::TooLong),
            ("213503982334602d", DurationError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_prints_parses_back() {
        for (text, printed) in [("90s", "90s"), ("60s", "1m"), ("24h", "1d"), ("3601s", "3601s")] {
            let span = parse(text).unwrap();
            assert_eq!(format(span), printed);
            assert_eq!(parse(&format(span)), Ok(span));
        }
    }
}
