//! The running fault plan: rules with their counters. Invariant: a counter moves for each request that meets the static
//! conditions of its rule, whether or not the rule then fires.

use super::{FaultEffect, FaultRule, pattern};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::time::Duration;

/// Rules that one plan may hold: a plan is written by hand or by a test, thousands mean a mistake.
const RULES_MAX: usize = 1_000;

/// What a rule can look at.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) platform: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) endpoint: &'a str,
    pub(crate) client: Option<&'a str>,
    /// Unix seconds of the sandbox's clock.
    pub(crate) now: i64,
}

/// The effect that decides the answer, if any fired.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Injection {
    #[default]
    None,
    DropBefore,
    DropAfter,
    Status {
        status: u16,
        retry_after: Option<String>,
        body: Option<String>,
    },
    BadJson,
    TruncatedBody,
    EmptyBody,
    Unauthorized {
        code: String,
    },
}

/// Everything that the plan wants for one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) delay: Duration,
    pub(crate) skew_seconds: i64,
    /// Bytes per piece and the pause between pieces.
    pub(crate) slow: Option<(usize, Duration)>,
    pub(crate) injection: Injection,
}

#[derive(Debug)]
struct Running {
    rule: FaultRule,
    seen: u64,
    hits: u64,
}

/// The plan in force.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Mutex<(Vec<Running>, Draw)>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, and good enough to decide which request fails.
#[derive(Debug)]
struct Draw(u64);

impl Draw {
    /// A number in 0.0..1.0.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        // 32 bits are exact in a double and far finer than any probability that a plan names.
        f64::from((mixed >> 32) as u32) / f64::from(u32::MAX)
    }
}

impl Faults {
    pub(crate) fn new(rules: Vec<FaultRule>, seed: u64) -> Result<Self, String> {
        let faults = Self { rules: Mutex::new((Vec::new(), Draw(seed))) };
        faults.replace(rules)?;
        Ok(faults)
    }

    /// Takes a new plan; counters start at zero.
    pub(crate) fn replace(&self, rules: Vec<FaultRule>) -> Result<(), String> {
        if rules.len() > RULES_MAX {
            return Err(format!("a fault plan holds at most {RULES_MAX} rules"));
        }
        for (index, rule) in rules.iter().enumerate() {
            check(rule).map_err(|problem| format!("rule {index}: {problem}"))?;
        }
        self.rules.lock().0 = rules.into_iter().map(|rule| Running { rule, seen: 0, hits: 0 }).collect();
        Ok(())
    }

    /// The plan with its counters, for the control API.
    pub(crate) fn report(&self) -> Value {
        let guard = self.rules.lock();
        let rows: Vec<Value> = guard
            .0
            .iter()
            .map(|running| {
                let mut row = serde_json::to_value(&running.rule).unwrap_or_default();
                if let Some(fields) = row.as_object_mut() {
                    fields.insert("seen".to_owned(), json!(running.seen));
                    fields.insert("hits".to_owned(), json!(running.hits));
                }
                row
            })
            .collect();
        json!({ "rules": rows })
    }

    /// Decides what happens to one request and counts it.
    pub(crate) fn decide(&self, subject: &Subject<'_>) -> Verdict {
        let mut guard = self.rules.lock();
        let (rules, draw) = &mut *guard;
        let mut verdict = Verdict::default();
        for running in rules {
            if !concerns(&running.rule, subject) {
                continue;
            }
            running.seen += 1;
            if !fires(running, draw) {
                continue;
            }
            running.hits += 1;
            add(&mut verdict, &running.rule.effect);
            if verdict.injection != Injection::None {
                break;
            }
        }
        verdict
    }
}

fn check(rule: &FaultRule) -> Result<(), String> {
    if rule.matches.probability.is_some_and(|probability| !(0.0..=1.0).contains(&probability)) {
        return Err("a probability lies between 0.0 and 1.0".to_owned());
    }
    if rule.matches.nth == Some(0) {
        return Err("nth counts from 1".to_owned());
    }
    match &rule.effect {
        FaultEffect::Status { status, retry_after, .. } => {
            if !(400..=599).contains(status) {
                return Err("a fault status lies between 400 and 599".to_owned());
            }
            if retry_after.as_ref().is_some_and(|value| http::HeaderValue::from_str(value).is_err()) {
                return Err("retry_after is not a header value".to_owned());
            }
        }
        FaultEffect::SlowBody { bytes: 0, .. } => return Err("slow_body needs at least 1 byte per piece".to_owned()),
        FaultEffect::DropBefore
        | FaultEffect::DropAfter
        | FaultEffect::Delay { .. }
        | FaultEffect::BadJson
        | FaultEffect::TruncatedBody
        | FaultEffect::EmptyBody
        | FaultEffect::SlowBody { .. }
        | FaultEffect::ClockSkew { .. }
        | FaultEffect::Unauthorized { .. } => {}
    }
    Ok(())
}

fn concerns(rule: &FaultRule, subject: &Subject<'_>) -> bool {
    let wanted = &rule.matches;
    wanted.platform.as_deref().is_none_or(|platform| platform == subject.platform)
        && wanted.method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(subject.method))
        && wanted.path.as_deref().is_none_or(|path| pattern::matches(path, subject.path))
        && wanted.endpoint.as_deref().is_none_or(|endpoint| endpoint == subject.endpoint)
        && wanted.client.as_deref().is_none_or(|client| Some(client) == subject.client)
        && wanted.until.is_none_or(|until| subject.now < until)
}

fn fires(running: &Running, draw: &mut Draw) -> bool {
    let wanted = &running.rule.matches;
    wanted.nth.is_none_or(|nth| running.seen == nth)
        && wanted.first.is_none_or(|first| running.seen <= first)
        && wanted.probability.is_none_or(|probability| draw.next() < probability)
}

fn add(verdict: &mut Verdict, effect: &FaultEffect) {
    match effect {
        FaultEffect::DropBefore => verdict.injection = Injection::DropBefore,
        FaultEffect::DropAfter => verdict.injection = Injection::DropAfter,
        FaultEffect::Delay { ms } => verdict.delay = verdict.delay.saturating_add(Duration::from_millis(*ms)),
        FaultEffect::Status { status, retry_after, body } => {
            verdict.injection =
                Injection::Status { status: *status, retry_after: retry_after.clone(), body: body.clone() };
        }
        FaultEffect::BadJson => verdict.injection = Injection::BadJson,
        FaultEffect::TruncatedBody => verdict.injection = Injection::TruncatedBody,
        FaultEffect::EmptyBody => verdict.injection = Injection::EmptyBody,
        FaultEffect::SlowBody { bytes, ms } => verdict.slow = Some((*bytes, Duration::from_millis(*ms))),
        FaultEffect::ClockSkew { seconds } => verdict.skew_seconds = verdict.skew_seconds.saturating_add(*seconds),
        FaultEffect::Unauthorized { code } => verdict.injection = Injection::Unauthorized { code: code.clone() },
    }
}
