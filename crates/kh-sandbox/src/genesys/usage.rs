//! API usage per client: `/oauth/clients/{id}/usage/*`. Invariant: the rows count what the client really called; the
//! answer is asynchronous in form (execution, then results) as on the platform.

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
/// Rows kept: clients times endpoints times days of a test run.
const ROWS_MAX: usize = 50_000;
const DAY_MS: i64 = 86_400_000;

/// Counters and executed queries.
#[derive(Debug, Default)]
pub(super) struct Usage {
    rows: BTreeMap<RowKey, Counts>,
    executions: BTreeMap<String, (String, i64, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    client: String,
    day: i64,
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
    let day = shared.clock.now_ms().div_euclid(DAY_MS);
    let key = RowKey { client: client.to_owned(), day, template: template.to_owned(), method: method.to_owned() };
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
        _ => results(&state, call, client, values.get(1).copied().unwrap_or_default()),
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
    state.usage.executions.insert(id, (client.to_owned(), from, to));
    Reply::json(202, &body)
}

fn results(state: &State, call: &Call, client: &str, execution: &str) -> Result<Reply, Reply> {
    let (_, from, to) = state
        .usage
        .executions
        .get(execution)
        .filter(|(owner, _, _)| owner == client)
        .ok_or_else(|| error(&ErrorBody::not_found(&call.correlation)))?;
    let days = from.div_euclid(DAY_MS)..=to.div_euclid(DAY_MS);
    let name = state.clients.get(client).map(|client| client.text("name").to_owned());
    let rows: Vec<Value> = state
        .usage
        .rows
        .iter()
        .filter(|(key, _)| key.client == client && days.contains(&key.day))
        .map(|(key, counts)| {
            let [status200, status300, status400, status500] = counts.by_hundred;
            json!({
                "clientId": client, "clientName": name, "templateUri": key.template, "httpMethod": key.method,
                "status200": status200, "status300": status300, "status400": status400, "status500": status500,
                "status429": counts.limited, "requests": counts.requests, "date": clock::iso(key.day * DAY_MS),
            })
        })
        .collect();
    Ok(Reply::json(200, &json!({"results": rows, "queryStatus": "Complete"})))
}
