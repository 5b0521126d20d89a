//! The control API, on a listener of its own. Invariant: it changes the sandbox, never the journal's truth, and answers
//! errors as `application/problem+json` (RFC 9457).

use crate::clock::iso;
use crate::config::LimitsConfig;
use crate::faults::FaultRule;
use crate::operations::Operations;
use crate::reply::{Dropped, Reply, ReplyBody};
use crate::shared::{Shared, check_limits};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Read;

/// Largest control request: a fault plan of a thousand rules fits well.
const BODY_MAX: usize = 1024 * 1024;
/// Unpacked size above which the embedded document would be damaged.
const OPENAPI_MAX: u64 = 128 * 1024 * 1024;
/// Journal entries per answer when the request does not say.
const ENTRIES_DEFAULT: usize = 1_000;

/// Answers one control request.
pub(crate) async fn respond(shared: &Shared, request: Request<Incoming>) -> Result<Response<ReplyBody>, Dropped> {
    let (parts, body) = request.into_parts();
    let reply = match Limited::new(body, BODY_MAX).collect().await {
        Ok(collected) => {
            let query = parts.uri.query().unwrap_or_default();
            route(shared, parts.method.as_str(), parts.uri.path(), query, &collected.to_bytes()).await
        }
        Err(_) => problem(413, "the request is larger than 1 MiB"),
    };
    let mut response = Response::new(ReplyBody::whole(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().extend(reply.headers);
    Ok(response)
}

async fn route(shared: &Shared, method: &str, path: &str, query: &str, body: &Bytes) -> Reply {
    match (method, path) {
        ("GET", "/healthz") => Reply::text(200, "text/plain", "ok\n"),
        ("GET", "/_sandbox/faults") => Reply::json(200, &shared.faults.report()),
        ("PUT", "/_sandbox/faults") => set_faults(shared, body),
        ("POST", "/_sandbox/tokens/revoke") => revoke(shared, body),
        ("GET", "/_sandbox/clock") => clock_answer(shared),
        ("POST", "/_sandbox/clock") => set_clock(shared, body),
        ("GET", "/_sandbox/requests") => requests(shared, query),
        ("DELETE", "/_sandbox/requests") => {
            shared.journal.clear();
            Reply::empty(204)
        }
        ("GET", "/_sandbox/limits") => Reply::json(200, &json!(*shared.limits())),
        ("PUT", "/_sandbox/limits") => set_limits(shared, body),
        ("GET", "/_sandbox/openapi.json") => openapi().await,
        _ => problem(404, "there is no such control operation"),
    }
}

fn problem(status: u16, detail: &str) -> Reply {
    let body = json!({"type": "about:blank", "status": status, "code": "sandbox.control", "detail": detail});
    Reply::text(status, "application/problem+json", body.to_string())
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| problem(400, &error.to_string()))
}

/// A plan is `{"rules": [...]}` or the list itself; what `GET` answered can be sent back.
fn set_faults(shared: &Shared, body: &[u8]) -> Reply {
    let mut plan: Value = match read(body) {
        Ok(plan) => plan,
        Err(refused) => return refused,
    };
    let list = plan.get_mut("rules").map(Value::take).unwrap_or(plan);
    let Value::Array(mut rows) = list else { return problem(400, "a fault plan is {\"rules\": [...]} or a list") };
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.remove("seen");
        row.remove("hits");
    }
    let rules: Vec<FaultRule> = match serde_json::from_value(Value::Array(rows)) {
        Ok(rules) => rules,
        Err(error) => return problem(400, &error.to_string()),
    };
    match shared.faults.replace(rules) {
        Ok(()) => Reply::json(200, &shared.faults.report()),
        Err(reason) => problem(400, &reason),
    }
}

/// Which tokens to revoke; exactly one member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Revoke {
    Client(String),
    Sha256(String),
    All(bool),
}

fn revoke(shared: &Shared, body: &[u8]) -> Reply {
    let wanted: Revoke = match read(body) {
        Ok(wanted) => wanted,
        Err(refused) => return refused,
    };
    let (client, digest) = match &wanted {
        Revoke::Client(client) => (Some(client.as_str()), None),
        Revoke::Sha256(digest) => (None, Some(digest.as_str())),
        Revoke::All(true) => (None, None),
        Revoke::All(false) => return problem(400, "all is true, or name a client or a sha256"),
    };
    let revoked = shared.genesys.revoke(client, digest) + shared.cxone.revoke(client, digest);
    Reply::json(200, &json!({"revoked": revoked}))
}

/// A change of the sandbox's time; members may be combined and apply in this order.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct ClockChange {
    /// Stop or restart.
    freeze: Option<bool>,
    /// Seconds forward; negative is back.
    shift_seconds: Option<i64>,
    /// Milliseconds forward; negative is back.
    shift_ms: Option<i64>,
}

fn set_clock(shared: &Shared, body: &[u8]) -> Reply {
    let change: ClockChange = match read(body) {
        Ok(change) => change,
        Err(refused) => return refused,
    };
    if let Some(freeze) = change.freeze {
        shared.clock.freeze(freeze);
    }
    let seconds = change.shift_seconds.unwrap_or(0).saturating_mul(1_000);
    if !shared.clock.shift(seconds.saturating_add(change.shift_ms.unwrap_or(0))) {
        return problem(400, "the clock shifts by at most a thousand years");
    }
    clock_answer(shared)
}

fn clock_answer(shared: &Shared) -> Reply {
    let now = shared.clock.now_ms();
    Reply::json(200, &json!({"now": iso(now), "now_ms": now, "frozen": shared.clock.frozen()}))
}

/// `?after=SEQ&limit=N&client=ID&endpoint=TEMPLATE&method=M&platform=P`, all optional.
fn requests(shared: &Shared, query: &str) -> Reply {
    let value = |name: &str| crate::exchange::form_value(query.as_bytes(), name);
    let after = value("after").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let limit = value("limit").and_then(|text| text.parse().ok()).unwrap_or(ENTRIES_DEFAULT);
    let (client, endpoint, method, platform) = (value("client"), value("endpoint"), value("method"), value("platform"));
    let entries = shared.journal.entries(
        |entry| {
            entry.seq > after
                && client.as_ref().is_none_or(|client| entry.client.as_ref() == Some(client))
                && endpoint.as_ref().is_none_or(|endpoint| *endpoint == entry.endpoint)
                && method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(&entry.method))
                && platform.as_ref().is_none_or(|platform| platform == entry.platform)
        },
        limit,
    );
    let (counts, total) = shared.journal.counts();
    Reply::json(200, &json!({"requests": entries, "counts": counts, "total": total}))
}

fn set_limits(shared: &Shared, body: &[u8]) -> Reply {
    let limits: LimitsConfig = match read(body) {
        Ok(limits) => limits,
        Err(refused) => return refused,
    };
    if let Err(reason) = check_limits(&limits) {
        return problem(400, &reason);
    }
    let answer = Reply::json(200, &json!(limits));
    *shared.limits.write() = std::sync::Arc::new(limits);
    answer
}

/// The published document of Genesys Cloud; unpacking 23 MB is computation, so not on a runtime thread.
async fn openapi() -> Reply {
    let unpacked = tokio::task::spawn_blocking(|| {
        let mut text = Vec::new();
        GzDecoder::new(Operations::openapi_gz()).take(OPENAPI_MAX).read_to_end(&mut text).map(|_| text)
    });
    match unpacked.await {
        Ok(Ok(text)) => Reply::text(200, "application/json", text),
        Ok(Err(_)) | Err(_) => problem(500, "the embedded document is damaged"),
    }
}
