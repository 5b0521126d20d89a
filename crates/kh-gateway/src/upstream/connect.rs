//! Opening one connection: the way out (see [`kh_net::Egress`]) and the HTTP/1.1 handshake.

use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use kh_net::{Egress, Target};
use tokio::task::AbortHandle;

use super::{Origin, UpstreamError};
use crate::exchange::body::OutBody;

/// How connections are opened.
pub(crate) struct Connector {
    within: Duration,
    http: Builder,
}

impl Connector {
    pub(crate) fn new(within: Duration, buffer_bytes: usize) -> Self {
        let mut http = Builder::new();
        http.max_buf_size(buffer_bytes);
        Self { within, http }
    }

    /// A fresh connection and the task that drives it.
    pub(crate) async fn open(
        &self,
        origin: &Origin,
        egress: &Egress,
    ) -> Result<(SendRequest<OutBody>, AbortHandle), UpstreamError> {
        let target = Target { host: &origin.host, port: origin.port, server_name: origin.server_name.as_ref() };
        let stream = egress.connect(target, self.within).await?;
        let (sender, connection) = self.http.handshake(TokioIo::new(stream)).await.map_err(UpstreamError::Protocol)?;
        // The pool owns the task through its abort handle: it ends with the connection or when that is dropped.
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an upstream connection ended with an error");
            }
        });
        Ok((sender, task.abort_handle()))
    }
}
