//! `POST /v1/pickup`: a program that reads the secret itself says which one it uses.
//!
//! The body is one JSON object:
//!
//! | member | |
//! |---|---|
//! | `profile` | the credential |
//! | `consumer` | the program's name as the rotation's policy knows it, or `name/replica` |
//! | `fingerprint` | of the secret: `_kh.fingerprint` in the stored document |
//! | `last_mint_ok_at` | RFC 3339: when it last logged in with it; without it, it has only read it |
//! | `generation`, `version` | optional: what it knows of the document |
//! | `alive_for` | optional, seconds: when it will have reported again; 1 to 604,800, else 900 |
//!
//! Invariants: nobody reports for keyholder's own processes; a report cannot be about the future, so that a clock that
//! is ahead proves nothing about a secret that is promoted later; nothing in it is secret.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Response, StatusCode},
};
use jiff::Timestamp;
use kh_core::{
    Code, CredentialName, Fingerprint, Problem, Retry, UnixMillis,
    port::{Grade, Sighting},
    rotation::VersionId,
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{BODY_MAX, BODY_TIME, BrokerPorts, body, malformed, unknown};
use crate::problem;

/// How long a program counts as alive that does not say when it reports again: as long as the usual cache of a secret.
const ALIVE_FOR: Duration = Duration::from_mins(15);

/// The longest that one may say.
const ALIVE_FOR_MAX: u64 = 7 * 24 * 3600;

/// Longest name of a consumer or version, in characters.
const NAME_MAX: usize = 128;

/// First parts of names that keyholder's own processes have.
const OWN: [&str; 3] = ["gateway", "broker", "exec"];

/// What a program reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pickup {
    /// Whose secret.
    pub profile: CredentialName,
    /// The program.
    pub consumer: String,
    /// The secret.
    pub fingerprint: Fingerprint,
    /// What it knows of the document.
    pub version: Option<VersionId>,
    /// Its last login, if it told one.
    pub last_login: Option<UnixMillis>,
    /// When it will have reported again.
    pub alive_for: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    profile: CredentialName,
    consumer: String,
    fingerprint: Fingerprint,
    #[serde(default)]
    last_mint_ok_at: Option<String>,
    #[serde(default)]
    generation: Option<u64>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    alive_for: Option<u64>,
}

/// Reads a report; none if a member is missing, unknown or not what it should be.
pub fn parse(body: &[u8]) -> Option<Pickup> {
    let wire: Wire = serde_json::from_slice(body).ok()?;
    let first = wire.consumer.split('/').next().unwrap_or_default();
    if !is_name(&wire.consumer) || OWN.contains(&first) {
        return None;
    }
    if !wire.version.as_deref().is_none_or(is_name) {
        return None;
    }
    let last_login = match &wire.last_mint_ok_at {
        None => None,
        Some(text) => Some(UnixMillis(u64::try_from(text.parse::<Timestamp>().ok()?.as_millisecond()).ok()?)),
    };
    let alive_for = match wire.alive_for {
        None => ALIVE_FOR,
        Some(seconds @ 1..=ALIVE_FOR_MAX) => Duration::from_secs(seconds),
        Some(_) => return None,
    };
    let version = wire.version.or_else(|| wire.generation.map(|number| format!("generation {number}"))).map(VersionId);
    let Wire { profile, consumer, fingerprint, .. } = wire;
    Some(Pickup { profile, consumer, fingerprint, version, last_login, alive_for })
}

/// Letters, digits and `-_./`, without empty parts.
fn is_name(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte));
    letters && text.len() <= NAME_MAX && text.split('/').all(|part| !part.is_empty())
}

impl Pickup {
    /// What is written down at `now`: that the program holds the secret itself, and, if it told one, its last login. The
    /// first stands beside the second, because a rotation must know who reads the secret, however well it uses it.
    pub fn sightings(self, now: UnixMillis) -> Vec<Sighting> {
        let holds = Sighting {
            credential: self.profile,
            consumer: self.consumer,
            fingerprint: self.fingerprint,
            version: self.version,
            grade: Grade::Fetched,
            at: now,
            alive_until: now.plus(self.alive_for),
        };
        let used = self.last_login.map(|at| Sighting { grade: Grade::Used, at: at.min(now), ..holds.clone() });
        std::iter::once(holds).chain(used).collect()
    }
}

pub(super) async fn pickup(State(ports): State<BrokerPorts>, request: Request) -> Response<Body> {
    let Some(journal) = &ports.journal else {
        return problem::answer(&Problem::new(Code::NOT_FOUND, "this broker keeps no record of rotations"));
    };
    let Ok(bytes) = timeout(BODY_TIME, to_bytes(request.into_body(), BODY_MAX)).await else {
        return malformed("the body did not come in time");
    };
    let Ok(bytes) = bytes else {
        let detail = format!("the body is longer than {BODY_MAX} bytes or broke off");
        return problem::answer(&Problem::new(Code::REQUEST_TOO_LARGE, detail));
    };
    let Some(report) = parse(&bytes) else {
        return malformed(
            "the body must be {\"profile\",\"consumer\",\"fingerprint\",\"last_mint_ok_at\"?,\"generation\"?,\"version\"?,\"alive_for\"?}",
        );
    };
    if ports.broker.credential(&report.profile).is_none() {
        return unknown();
    }
    for sighting in report.sightings(ports.clock.now().wall) {
        let Err(error) = journal.sight(sighting).await else { continue };
        let problem = Problem::new(error.code(), error.to_string());
        return match error.retry() {
            Retry::After(wait) => problem::answer_after(&problem, wait),
            Retry::Never | Retry::Now => problem::answer(&problem),
        };
    }
    body::nothing(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#""profile":"acme","consumer":"crm/eu-1","fingerprint":"0123456789abcdef""#;

    fn of(more: &str) -> Option<Pickup> {
        parse(format!("{{{GOOD}{more}}}").as_bytes())
    }

    #[test]
    fn reports() {
        let plain = of("").unwrap();
        assert_eq!((plain.alive_for, &plain.last_login, &plain.version), (ALIVE_FOR, &None, &None));
        let full = of(r#","last_mint_ok_at":"2026-11-21T09:00:00Z","generation":4,"alive_for":60"#).unwrap();
        assert_eq!(full.last_login, Some(UnixMillis(1_795_251_600_000)));
        assert_eq!(full.version, Some(VersionId("generation 4".to_owned())));
        assert_eq!(full.alive_for, Duration::from_mins(1));
        for bad in [
            r#","alive_for":0"#,
            r#","alive_for":604801"#,
            r#","last_mint_ok_at":"yesterday""#,
            r#","last_mint_ok_at":"1960-01-01T00:00:00Z""#,
            r#","last_mint_ok_at":1795251600"#,
            r#","secret":"x""#,
            r#","version":"a b""#,
            r#","generation":-1"#,
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        for consumer in
            ["", "gateway", "gateway/host/1", "exec/x", "broker", "a b", "a//b", "/a", "a\n", &"x".repeat(129)]
        {
            let body = format!(r#"{{"profile":"acme","consumer":"{consumer}","fingerprint":"0123456789abcdef"}}"#);
            assert_eq!(parse(body.as_bytes()), None, "{consumer}");
        }
        for body in [
            "",
            "[]",
            r#"{"profile":"acme","consumer":"crm"}"#,
            r#"{"profile":"acme","consumer":"c","fingerprint":"0123"}"#,
        ] {
            assert_eq!(parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_proves_nothing_about_later() {
        let now = UnixMillis(1_795_251_600_000);
        let until = now.plus(Duration::from_mins(1));
        let told = |more: &str| -> Vec<_> {
            let written = of(more).unwrap().sightings(now);
            written.into_iter().map(|seen| (seen.grade, seen.at, seen.alive_until)).collect()
        };
        let holds = (Grade::Fetched, now, until);
        let ahead = told(r#","last_mint_ok_at":"2026-11-21T10:00:00Z","alive_for":60"#);
        assert_eq!(ahead, [holds, (Grade::Used, now, until)]);
        let behind = told(r#","last_mint_ok_at":"2026-11-21T08:00:00Z","alive_for":60"#);
        assert_eq!(behind, [holds, (Grade::Used, now.minus(Duration::from_hours(1)), until)]);
        assert_eq!(told(r#","alive_for":60"#), [holds]);
    }

    /// The short form of the fuzz target `broker_request`.
    #[test]
    fn damaged_reports_never_speak_for_keyholder_or_of_the_future() {
        use kh_core::{Entropy, SeededEntropy};
        let now = UnixMillis(1_795_251_600_000);
        let good = format!(
            r#"{{{GOOD},"last_mint_ok_at":"2026-11-21T09:00:00Z","generation":4,"version":"v1","alive_for":60}}"#
        );
        let entropy = SeededEntropy::new(3);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut body = good.clone().into_bytes();
            for _ in 0..=entropy.below(2) {
                let at = usize::try_from(entropy.below(body.len() as u64)).unwrap();
                body[at] = u8::try_from(entropy.below(256)).unwrap();
            }
            let Some(report) = parse(&body) else {
                refused += 1;
                continue;
            };
            taken += 1;
            for seen in report.sightings(now) {
                let first = seen.consumer.split('/').next().unwrap();
                assert!(seen.at <= now && seen.alive_until > now && !OWN.contains(&first), "{seen:?}");
            }
        }
        assert!(taken > 300 && refused > 300, "both happen: {taken} and {refused}");
    }
}
