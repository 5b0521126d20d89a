//! Whether a client was used: `POST .../usage/query` and its results.
//!
//! Figures are sums per day and up to a day old. Invariant: the answer "not used" is given only when a whole day after
//! the time asked for is known; a day that began before that time is not counted, because its sum also has the uses
//! that were right.

use ::http::Method;
use kh_core::{
    UnixMillis,
    port::{ManageError, secret_management::Rotator},
    rotation::ManagedId,
};
use kh_net::http::OutBody;
use serde_json::{Value, json};

use super::{CLIENTS, GenesysManagement, parse};
use crate::management::{
    calls::Ask,
    client_document,
    refusal::{Effect, unreadable},
};

const DAY_MS: u64 = 86_400_000;

/// Looks at a running query before it is given up: a query over a few days takes seconds.
const POLLS_MAX: usize = 10;

/// Oldest start that a query takes: 90 days before its end (usage API of clients).
const SPAN_MAX_MS: u64 = 89 * DAY_MS;

/// What can be said at `now` about the uses since `since`: the first whole day, and whether it is known by now.
fn window(since: UnixMillis, now: UnixMillis, lag_ms: u64) -> (u64, bool) {
    let first = since.0.div_ceil(DAY_MS).saturating_mul(DAY_MS).max(now.0.saturating_sub(SPAN_MAX_MS));
    (first, now.0 >= first.saturating_add(DAY_MS).saturating_add(lag_ms))
}

/// Requests in the rows of days that began at or after `first`; None for rows of another shape.
fn total(results: &[Value], first: u64) -> Option<u64> {
    let mut sum = 0_u64;
    for row in results {
        let row = row.as_object()?;
        let day = client_document::time(row, "date")?;
        if day.0 >= first {
            sum = sum.saturating_add(row.get("requests")?.as_u64()?);
        }
    }
    Some(sum)
}

impl GenesysManagement {
    pub(super) async fn usage(
        &self,
        id: &ManagedId,
        since: UnixMillis,
        by: Rotator,
    ) -> Result<Option<u64>, ManageError> {
        let now = self.calls.http.clock().now().wall;
        let lag_ms = u64::try_from(self.settings.usage_lag.as_millis()).unwrap_or(u64::MAX);
        let (first, known) = window(since, now, lag_ms);
        if first >= now.0 {
            return Ok(None);
        }
        let iso = |ms: u64| i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let (Some(from), Some(to)) = (iso(first), iso(now.0)) else { return Ok(None) };
        let query = json!({"interval": format!("{from}/{to}"), "granularity": "Day", "metrics": ["Requests"]});
        let ask = Ask {
            method: Method::POST,
            body: Some(OutBody::json(&query)),
            ..Ask::read(self.calls.url(by, CLIENTS, &[&id.0, "usage", "query"]).await?).about(id)
        };
        let answer = self.calls.send(by, ask).await?;
        let execution = parse(&answer).and_then(|body| Some(body.get("executionId")?.as_str()?.to_owned()));
        let execution = execution.ok_or_else(|| unreadable(Effect::Read, &answer.head, "an execution"))?;
        let used = total(&self.results(id, &execution, by).await?, first)
            .ok_or_else(|| unreadable(Effect::Read, &answer.head, "rows of usage"))?;
        Ok((used > 0 || known).then_some(used))
    }

    async fn results(&self, id: &ManagedId, execution: &str, by: Rotator) -> Result<Vec<Value>, ManageError> {
        for _ in 0..POLLS_MAX {
            let url = self.calls.url(by, CLIENTS, &[&id.0, "usage", "query", "results", execution]).await?;
            let answer = self.calls.send(by, Ask::read(url).about(id)).await?;
            let body = parse(&answer).unwrap_or(Value::Null);
            match (body.get("queryStatus").and_then(Value::as_str), body.get("results").and_then(Value::as_array)) {
                (Some("Complete"), Some(rows)) => return Ok(rows.clone()),
                // an empty result may be left out
                (Some("Complete"), None) => return Ok(Vec::new()),
                (Some("Running"), _) => tokio::time::sleep(self.settings.usage_pause).await,
                _ => return Err(unreadable(Effect::Read, &answer.head, "the result of a usage query")),
            }
        }
        Err(ManageError::NotDone { reason: "the platform did not finish a usage query in time".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn only_whole_days_that_are_known_count() {
        let day = |days: u64, hours: u64| days * DAY_MS + hours * HOUR_MS;
        let check = |since: u64, now: u64, expected: (u64, bool)| {
            assert_eq!(window(UnixMillis(since), UnixMillis(now), DAY_MS), expected, "{since} {now}");
        };
        check(day(100, 10), day(101, 23), (day(101, 0), false));
        check(day(100, 10), day(102, 23), (day(101, 0), false));
        check(day(100, 10), day(103, 0), (day(101, 0), true));
        check(day(100, 0), day(102, 0), (day(100, 0), true));
        check(day(100, 10), day(300, 0), (day(300 - 89, 0), true));
    }

    #[test]
    fn rows() {
        let row = |date: &str, requests: u64| json!({"date": date, "requests": requests});
        let rows = [row("1970-01-02T00:00:00Z", 7), row("1970-01-03T00:00:00.000Z", 5)];
        assert_eq!(total(&rows, DAY_MS), Some(12));
        assert_eq!(total(&rows, 2 * DAY_MS), Some(5));
        assert_eq!(total(&rows, 3 * DAY_MS), Some(0));
        assert_eq!(total(&[json!({"date": "yesterday", "requests": 1})], 0), None);
        assert_eq!(total(&[json!({"date": "1970-01-03T00:00:00Z"})], 0), None);
    }
}
