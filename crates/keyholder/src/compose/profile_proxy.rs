//! Joins the broker's reverse-proxy port with the gateway's engine for local callers.

use std::sync::Arc;

use axum::{body::Body, extract::Request, http::Response};
use kh_admin::ProfileProxy;
use kh_broker::Credential;
use kh_core::port::BoxFuture;
use kh_gateway::{Limits, LocalProxy, Ports};

/// The gateway's engine behind `/{profile}/...`.
pub(crate) struct GatewayProxy(LocalProxy);

impl GatewayProxy {
    /// Must be made on the runtime that serves the broker's listener.
    pub(crate) fn new(ports: Ports, limits: Limits) -> Arc<Self> {
        Arc::new(Self(LocalProxy::new(ports, limits)))
    }
}

impl ProfileProxy for GatewayProxy {
    fn forward(
        &self,
        request: Request<Body>,
        credential: Arc<Credential>,
        prefix_len: usize,
    ) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move { self.0.handle(request, credential, prefix_len).await.map(Body::new) })
    }
}
