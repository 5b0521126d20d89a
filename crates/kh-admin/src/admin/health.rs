//! `/livez` and `/readyz`: whether the process is worth keeping, and whether callers should be sent to it.
//!
//! Invariants: what another process could have broken (a disk, a platform, a secret) never makes `/livez` fail, because
//! a restart would not heal it; one bad credential never makes `/readyz` fail for the callers of the others.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{Response, StatusCode},
};
use kh_broker::{CredentialState, CredentialStatus};
use kh_core::{Code, Problem};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::{AdminPorts, json, text};
use crate::problem;

/// Longest time for one readiness check: probes usually give up after a few seconds.
const CHECK_TIME: Duration = Duration::from_secs(2);

/// How often, and with which pauses, a part that stands still is looked at again: a process that was frozen and goes on
/// this moment needs some milliseconds.
const PULSE_LOOKS: u32 = 20;
const PULSE_PAUSE: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct Liveness {
    live: bool,
    /// Parts that stand still.
    stalled: Vec<String>,
}

/// 200 `ok`, or 503 with the names of what stands still.
pub(super) async fn live(State(ports): State<AdminPorts>) -> Response<Body> {
    let still = || ports.pulses.iter().filter(|pulse| !pulse.beats()).map(|pulse| pulse.name()).collect::<Vec<_>>();
    for _ in 1..PULSE_LOOKS {
        if still().is_empty() {
            return text("text/plain", "ok\n".to_owned());
        }
        sleep(PULSE_PAUSE).await;
    }
    let stalled = still();
    if stalled.is_empty() {
        return text("text/plain", "ok\n".to_owned());
    }
    tracing::error!(stalled = ?stalled, "a part of keyholder stands still; a supervisor should restart it");
    json(StatusCode::SERVICE_UNAVAILABLE, &Liveness { live: false, stalled })
}

/// Whether a caller who asks for this credential's token now may hope for one. A credential that nobody asked for yet
/// counts as usable.
pub(crate) fn is_usable(status: &CredentialStatus) -> bool {
    match status.state {
        CredentialState::Ready | CredentialState::Refreshing | CredentialState::Empty | CredentialState::Fetching => {
            true
        }
        CredentialState::Rejected | CredentialState::Waiting => false,
    }
}

/// Whether callers should be sent here with these credentials: not if the platform refuses every one of them. One that
/// waits counts as good: the wait is short, every instance has the same, and callers are told to come back later.
pub(crate) fn are_usable(credentials: &[CredentialStatus]) -> bool {
    credentials.is_empty() || credentials.iter().any(|status| status.state != CredentialState::Rejected)
}

#[derive(Serialize)]
struct Verdict {
    name: String,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    /// It makes nothing unready.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    advisory: bool,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// Whether a stop signal came.
    draining: bool,
    checks: Vec<Verdict>,
    credentials: Vec<Verdict>,
}

/// Whether callers should be sent here; with `?credential=NAME`, callers of that credential.
pub(super) async fn ready(State(ports): State<AdminPorts>, RawQuery(query): RawQuery) -> Response<Body> {
    let Some(wanted) = wanted(query.as_deref()) else {
        let malformed = Problem::new(Code::REQUEST_MALFORMED, "the only parameter is credential, a credential's name");
        return problem::answer(&malformed);
    };
    let mut known = ports.broker.status();
    if let Some(name) = &wanted {
        known.retain(|status| status.name.as_str() == name);
        if known.is_empty() {
            return problem::answer(&Problem::new(Code::NOT_FOUND, "no credential has this name"));
        }
    }
    let checks = run_checks(&ports).await;
    let credentials: Vec<_> = known.iter().map(verdict).collect();
    let usable = match wanted {
        Some(_) => credentials.iter().all(|verdict| verdict.ready),
        None => are_usable(&known),
    };
    let draining = ports.draining.is_cancelled();
    let ready = usable && !draining && checks.iter().all(|verdict| verdict.ready || verdict.advisory);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Readiness { ready, draining, checks, credentials })
}

/// The credential asked for, if any; none when the query says something else.
#[allow(clippy::option_option, reason = "no query, a good one and a bad one are three things")]
fn wanted(query: Option<&str>) -> Option<Option<String>> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Some(None) };
    let name = query.strip_prefix("credential=").filter(|name| !name.contains(['&', '=']))?;
    percent_decode_str(name).decode_utf8().ok().map(|name| Some(name.into_owned()))
}

async fn run_checks(ports: &AdminPorts) -> Vec<Verdict> {
    let mut checks = Vec::with_capacity(ports.checks.len());
    for check in ports.checks.iter() {
        let failed = match timeout(CHECK_TIME, check.check()).await {
            Ok(Ok(())) => None,
            Ok(Err(code)) => Some(code),
            Err(_) => Some(Code::UPSTREAM_TIMEOUT),
        };
        let (name, advisory) = (check.name().to_owned(), check.is_advisory());
        checks.push(Verdict { name, ready: failed.is_none(), code: failed, advisory });
    }
    checks
}

fn verdict(status: &CredentialStatus) -> Verdict {
    let ready = is_usable(status);
    let code = (!ready).then(|| status.last_error.unwrap_or(Code::TOKEN_UNAVAILABLE));
    Verdict { name: status.name.to_string(), ready, code, advisory: false }
}
