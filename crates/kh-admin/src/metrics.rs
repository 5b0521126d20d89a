//! What the local listeners count: requests by route and status, and refusals by their reason.
//!
//! Invariant: a label is a route of the table, a status class or an error code, never something that a caller sent.

use std::borrow::Cow;

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::Response,
    middleware::{Next, from_fn_with_state},
};
use kh_core::{Code, metric};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

const REQUESTS: &str = "keyholder_local_requests";
const REFUSALS: &str = "keyholder_local_refusals";

/// A path that no route names.
const OTHER: &str = "other";

/// What the broker hands over to a platform, whatever the platform's path.
const FORWARDED: &str = "/{profile}/...";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    listener: &'static str,
    route: Cow<'static, str>,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refused {
    listener: &'static str,
    reason: &'static str,
}

/// The counters of all local listeners. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LocalMetrics {
    requests: Family<Answered, Counter>,
    refusals: Family<Refused, Counter>,
}

#[derive(Clone)]
struct OfListener(&'static str, LocalMetrics);

impl LocalMetrics {
    /// Makes and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let made = Self::default();
        registry.register(REQUESTS, metric::help(REQUESTS), made.requests.clone());
        registry.register(REFUSALS, metric::help(REFUSALS), made.refusals.clone());
        made
    }

    /// Counts what `router` answers, under the name of its `listener`.
    pub fn count(&self, router: Router, listener: &'static str) -> Router {
        router.layer(from_fn_with_state(OfListener(listener, self.clone()), counted))
    }
}

/// The route of a request: its template in the listener's own table. The admin API's templates are those of its document.
fn route(listener: &str, request: &Request) -> Cow<'static, str> {
    match request.extensions().get::<MatchedPath>() {
        Some(template) => template.as_str().to_owned().into(),
        None if listener == "broker" && crate::proxy::is_forwarded(request.uri().path()) => FORWARDED.into(),
        None => OTHER.into(),
    }
}

async fn counted(
    State(OfListener(listener, metrics)): State<OfListener>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let route = route(listener, &request);
    let response = next.run(request).await;
    let status = match response.status().as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    metrics.requests.get_or_create(&Answered { listener, route, status }).inc();
    if let Some(code) = response.extensions().get::<Code>().filter(|_| response.status().is_client_error()) {
        metrics.refusals.get_or_create(&Refused { listener, reason: code.0 }).inc();
    }
    response
}
