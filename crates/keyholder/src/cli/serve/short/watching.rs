//! `--metrics ADDR` of the short form: `/livez`, `/readyz` and `/metrics` for this machine.
//!
//! Invariant: nothing is told here that is secret, and nothing can be changed; the address is on loopback.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use kh_gateway::GatewayHandle;
use kh_inbound::Verifier;
use prometheus_client::registry::Registry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{compose::cannot_listen, output::Failure};

/// What the answers are made of.
#[derive(Clone)]
struct Watched {
    registry: Arc<Registry>,
    verifier: Arc<Verifier>,
    pulses: Arc<[Arc<kh_gateway::WorkerPulse>]>,
    draining: CancellationToken,
}

/// Serves them until `draining` and a little longer. Answers where.
pub(super) async fn serve(
    address: SocketAddr,
    registry: Registry,
    (gateway, verifier): (&GatewayHandle, &Arc<Verifier>),
    (tasks, draining, ended): (&TaskTracker, &CancellationToken, &CancellationToken),
) -> Result<SocketAddr, Failure> {
    let cannot = |error: std::io::Error| cannot_listen("metrics", address, &error);
    let listener = kh_admin::bind_loopback(address).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    let watched = Watched {
        registry: Arc::new(registry),
        verifier: Arc::clone(verifier),
        pulses: gateway.pulses().to_vec().into(),
        draining: draining.clone(),
    };
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(watched);
    let serving = kh_admin::serve_with(listener, router, kh_admin::Limits::default(), ended.clone());
    drop(tasks.spawn(serving));
    Ok(bound)
}

async fn live(State(watched): State<Watched>) -> impl IntoResponse {
    let moves = watched.pulses.iter().all(|pulse| pulse.is_beating());
    if moves { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "a worker stands still\n") }
}

async fn ready(State(watched): State<Watched>) -> impl IntoResponse {
    let lacking = watched.verifier.lacking();
    if watched.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    if lacking.is_empty() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "no keys\n") }
}

async fn metrics(State(watched): State<Watched>) -> impl IntoResponse {
    let mut out = String::new();
    match prometheus_client::encoding::text::encode(&mut out, &watched.registry) {
        Ok(()) => {
            let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, media)], out).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
