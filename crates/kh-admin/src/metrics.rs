//! What the local listeners count: requests by route and status, and refusals by their reason.
//!
//! Invariant: a label is a route of the table, a status class or an error code, never something that a caller sent.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
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

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    listener: &'static str,
    route: &'static str,
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

/// The route of a path, as the reference of the listeners writes it.
fn route(listener: &str, path: &str) -> &'static str {
    const PLAIN: [&str; 5] = ["/livez", "/readyz", "/healthz", "/metrics", "/v1/status"];
    if let Some(known) = PLAIN.iter().find(|known| **known == path) {
        return known;
    }
    let under = |start: &str| path.strip_prefix(start).is_some_and(|rest| !rest.is_empty());
    match path {
        _ if under("/v1/token/") && path.ends_with("/invalidate") => "/v1/token/{profile}/invalidate",
        _ if under("/v1/token/") => "/v1/token/{profile}",
        _ if under("/v1/header/") => "/v1/header/{profile}",
        _ if listener == "broker" && crate::proxy::is_forwarded(path) => "/{profile}/...",
        _ => OTHER,
    }
}

async fn counted(
    State(OfListener(listener, metrics)): State<OfListener>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let route = route(listener, request.uri().path());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_few_and_hold_nothing_of_the_caller() {
        for (path, expected) in [
            ("/livez", "/livez"),
            ("/v1/status", "/v1/status"),
            ("/v1/token/acme", "/v1/token/{profile}"),
            ("/v1/token/acme/invalidate", "/v1/token/{profile}/invalidate"),
            ("/v1/header/acme", "/v1/header/{profile}"),
            ("/v1/token/", OTHER),
            ("/secret-name", OTHER),
            ("/", OTHER),
        ] {
            assert_eq!(route("admin", path), expected, "{path}");
        }
        assert_eq!(route("broker", "/acme/api/v2/users"), "/{profile}/...");
    }
}
