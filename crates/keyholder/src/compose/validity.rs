//! From when until when a certificate is valid, and whether somebody should renew it.
//!
//! Invariant: pure but for parsing; the time comes in as an argument.

use std::time::Duration;

use kh_core::UnixMillis;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

/// A certificate is to be renewed when less than this is left, or less than a fifth of its life, whichever is shorter:
/// certificates of a year are renewed by people, those of days by a program that does so after two thirds.
const SOON: Duration = Duration::from_hours(14 * 24);
const SOON_PART: u64 = 5;

/// RFC 5280 section 4.1.2.5, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Validity {
    /// First second of its validity.
    pub(crate) not_before: i64,
    /// Last second of its validity.
    pub(crate) not_after: i64,
}

/// What a validity means at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Nothing is to be done.
    Valid,
    /// It is valid and to be renewed.
    ExpiresSoon,
    /// No caller accepts it any more.
    Expired,
    /// No caller accepts it yet.
    NotYetValid,
}

impl Validity {
    /// Of a certificate; none if it is not one.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (rest, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = certificate.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        rest.is_empty().then_some(Self { not_before, not_after })
    }

    /// What it means now.
    pub(crate) fn standing(self, now: UnixMillis) -> Standing {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < self.not_before {
            return Standing::NotYetValid;
        }
        if now > self.not_after {
            return Standing::Expired;
        }
        let (left, life) = (self.not_after.abs_diff(now), self.not_after.abs_diff(self.not_before));
        if left < SOON.as_secs().min(life / SOON_PART) { Standing::ExpiresSoon } else { Standing::Valid }
    }

    /// The last moment, for people.
    pub(crate) fn end(self) -> String {
        shown(self.not_after)
    }

    /// The first moment, for people.
    pub(crate) fn begin(self) -> String {
        shown(self.not_before)
    }

    /// What is wrong with it now, as the end of a sentence about the certificate; none if nothing is.
    pub(crate) fn problem(self, now: UnixMillis) -> Option<String> {
        match self.standing(now) {
            Standing::Valid => None,
            Standing::ExpiresSoon => Some(format!("expires soon, at {}", self.end())),
            Standing::Expired => Some(format!("expired at {}", self.end())),
            Standing::NotYetValid => Some(format!("is not valid before {}", self.begin())),
        }
    }
}

fn shown(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("second {seconds} since 1970"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> UnixMillis {
        UnixMillis(u64::try_from(day * DAY).unwrap() * 1_000)
    }

    #[test]
    fn standings() {
        let year = Validity { not_before: 1_000 * DAY, not_after: 1_365 * DAY };
        let week = Validity { not_before: 1_000 * DAY, not_after: 1_007 * DAY };
        for (validity, day, expected) in [
            (year, 999, Standing::NotYetValid),
            (year, 1_000, Standing::Valid),
            (year, 1_350, Standing::Valid),
            (year, 1_352, Standing::ExpiresSoon),
            (year, 1_365, Standing::ExpiresSoon),
            (year, 1_366, Standing::Expired),
            (week, 1_001, Standing::Valid),
            (week, 1_005, Standing::Valid),
            (week, 1_006, Standing::ExpiresSoon),
            (week, 1_008, Standing::Expired),
        ] {
            assert_eq!(validity.standing(at(day)), expected, "{validity:?} on day {day}");
            assert_eq!(validity.problem(at(day)).is_none(), expected == Standing::Valid);
        }
    }

    #[test]
    fn certificates() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let validity = Validity::of(certificate.der()).unwrap();
        assert_eq!(
            (validity.begin().as_str(), validity.end().as_str()),
            ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z")
        );
        let whole = certificate.der().to_vec();
        for bad in [&whole[..whole.len() - 1], &[&whole[..], b"x"].concat(), b"", b"not a certificate"] {
            assert_eq!(Validity::of(&CertificateDer::from(bad.to_vec())), None);
        }
    }
}
