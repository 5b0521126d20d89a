//! API usage per client: `/oauth/clients/{id}/usage/*`. Invariant: the rows count what the client really called, as late
//! as `usage_lag_seconds` says; the answer is asynchronous in form (execution, then results) as on the platform.

use super::state::State;
use super::{client_rules, error};
use crate::clock;
use crate::error_body::ErrorBody;
use crate::exchange::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Executions kept; the oldest go first.
const EXECUTIONS_MAX: usize = 1_000;
/// Rows kept: clients times endpoints times hours of a test run.
const ROWS_MAX: usize = 50_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// Counters and executed queries.
#[derive(Debug, Default)]
pub(super) struct Usage {
    rows: BTreeMap<RowKey, Counts>,
    executions: BTreeMap<String, Execution>,
}

#[derive(Debug)]
struct Execution {
    client: String,
    from: i64,
    to: i64,
    /// How often its results were asked for.
    looks: u32,
}

/// Counted per hour, so that a lag of hours can be shown; told per day.

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    client: String,
    hour: i64,
    template: String,
    method: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    by_hundred: [u64; 4],
    limited: u64,
    requests: u64,
}

/// Counts one answered request.
pub(super) fn note(shared: &Shared, client: &str, method: &str, template: &str, status: u16) {
    let hour = shared.clock.now_ms().div_euclid(HOUR_MS);
    let key = RowKey { client: client.to_owned(), hour, template: template.to_owned(), method: method.to_owned() };
    let mut state = shared.genesys.state.lock();
    if state.usage.rows.len() >= ROWS_MAX && !state.usage.rows.contains_key(&key) {
        return;
    }
    let counts = state.usage.rows.entry(key).or_default();
    counts.requests += 1;
    if status == 429 {
        counts.limited += 1;
        return;
    }
    let hundred = usize::from(status / 100).saturating_sub(2);
    if let Some(slot) = counts.by_hundred.get_mut(hundred) {
        *slot += 1;
    }
}

pub(super) fn handle(shared: &Shared, call: &Call, template: &str, values: &[&str]) -> Result<Reply, Reply> {
    let client = values.first().copied().unwrap_or_default();
    let mut state = shared.genesys.state.lock();
    client_rules::existing(shared, &state, call, client)?;
    let now = shared.clock.now_ms();
    match (call.method.as_str(), template) {
        ("GET", "/api/v2/oauth/clients/{clientId}/usage/summary") => {
            let days = call.query_value("days").and_then(|days| days.parse::<i64>().ok()).unwrap_or(7).clamp(1, 365);
            Ok(execute(shared, &mut state, client, now.saturating_sub(days * DAY_MS), now))
        }
        ("POST", "/api/v2/oauth/clients/{clientId}/usage/query") => {
            let body = call.json().ok().flatten().unwrap_or_default();
            let (from, to) = interval(&body).ok_or_else(|| {
                error(
                    &ErrorBody::bad_request("interval is start/end in ISO-8601", &call.correlation)
                        .detail("invalid.value", "interval"),
                )
            })?;
            Ok(execute(shared, &mut state, client, from, to))
        }
        _ => results(shared, &mut state, call, client, values.get(1).copied().unwrap_or_default()),
    }
}

fn interval(body: &Value) -> Option<(i64, i64)> {
    let (start, end) = body.get("interval")?.as_str()?.split_once('/')?;
    let millis = |text: &str| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    Some((millis(start)?, millis(end)?))
}

fn execute(shared: &Shared, state: &mut State, client: &str, from: i64, to: i64) -> Reply {
    let id = shared.mint.next_uuid();
    if state.usage.executions.len() >= EXECUTIONS_MAX {
        state.usage.executions.pop_first();
    }
    let uri = format!("/api/v2/oauth/clients/{client}/usage/query/results/{id}");
    let body = json!({"executionId": id, "resultsUri": uri});
    let execution = Execution { client: client.to_owned(), from, to, looks: 0 };
    state.usage.executions.insert(id, execution);
    Reply::json(202, &body)
}

fn results(shared: &Shared, state: &mut State, call: &Call, client: &str, execution: &str) -> Result<Reply, Reply> {
    let behaviours = &shared.config.behaviours;
    let lag = i64::try_from(behaviours.usage_lag_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let known_before = shared.clock.now_ms().saturating_sub(lag);
    let found = state.usage.executions.get_mut(execution).filter(|found| found.client == client);
    let found = found.ok_or_else(|| error(&ErrorBody::not_found(&call.correlation)))?;
    found.looks = found.looks.saturating_add(1);
    if found.looks <= behaviours.usage_running_looks {
        return Ok(Reply::json(200, &json!({"queryStatus": "Running"})));
    }
    let days = found.from.div_euclid(DAY_MS)..=found.to.div_euclid(DAY_MS);
    let name = state.clients.get(client).map(|client| client.text("name").to_owned());
    let rows = daily(&state.usage.rows, client, &days, known_before);
    let rows: Vec<Value> = rows
        .into_iter()
        .map(|((day, template, method), counts)| {
            let [status200, status300, status400, status500] = counts.by_hundred;
            json!({
                "clientId": client, "clientName": name, "templateUri": template, "httpMethod": method,
                "status200": status200, "status300": status300, "status400": status400, "status500": status500,
                "status429": counts.limited, "requests": counts.requests, "date": clock::iso(day * DAY_MS),
            })
        })
        .collect();
    Ok(Reply::json(200, &json!({"results": rows, "queryStatus": "Complete"})))
}

/// The client's hours that were over before `known_before` (all up to now without a lag), summed per day.
fn daily<'a>(
    rows: &'a BTreeMap<RowKey, Counts>,
    client: &str,
    days: &std::ops::RangeInclusive<i64>,
    known_before: i64,
) -> BTreeMap<(i64, &'a str, &'a str), Counts> {
    let mut sums: BTreeMap<(i64, &str, &str), Counts> = BTreeMap::new();
    for (key, counts) in rows.iter().filter(|(key, _)| key.client == client) {
        let (start, day) = (key.hour * HOUR_MS, (key.hour * HOUR_MS).div_euclid(DAY_MS));
        if !days.contains(&day) || start > known_before {
            continue;
        }
        let sum = sums.entry((day, key.template.as_str(), key.method.as_str())).or_default();
        sum.limited += counts.limited;
        sum.requests += counts.requests;
        for (to, from) in sum.by_hundred.iter_mut().zip(counts.by_hundred) {
            *to += from;
        }
    }
    sums
}
