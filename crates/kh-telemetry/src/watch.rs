//! Everything that watches the process, started and ended together.

use std::{io, sync::Arc, time::Duration};

use kh_core::{
    Clock, Entropy,
    port::{
        Observer,
        observer::{Finished, RequestTrace},
    },
    trace::{SpanId, TraceContext},
};
use kh_net::Egress;
use prometheus_client::registry::Registry;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{self, AccessLog, Form, Target},
    otlp::{Counters, Exporter, OtlpSettings, Tracer},
};

/// What watches are wanted.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The access log; none is off.
    pub access: Option<(Target, Form)>,
    /// The export over OTLP; none is off.
    pub otlp: Option<OtlpSettings>,
}

/// The running watches. The observer of the gateway, when any of them wants to know of requests.
pub struct Telemetry {
    access: Option<AccessLog>,
    tracer: Option<Tracer>,
    exporter: Option<Arc<Exporter>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Starts what `settings` want and registers their counters; all counters are there in any case. The collector is
    /// reached through `egress`. Fails when the access log cannot be opened. Metrics are exported from [`Telemetry::export`] on.
    pub fn start(
        settings: Settings,
        registry: &mut Registry,
        egress: Arc<Egress>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        runtime: &Handle,
    ) -> io::Result<Arc<Self>> {
        let access = if let Some((target, form)) = &settings.access {
            Some(AccessLog::start(target, *form, registry)?)
        } else {
            access::register_idle(registry);
            None
        };
        let counters = Counters::register(registry);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let exporter =
            settings.otlp.map(|otlp| Arc::new(Exporter::new(otlp, egress, clock, Arc::clone(&entropy), counters)));
        let tracer = exporter.as_ref().and_then(|exporter| exporter.tracer(entropy, stop.clone()));
        let tracer = tracer.map(|(tracer, task)| {
            drop(tasks.spawn_on(task, runtime));
            tracer
        });
        Ok(Arc::new(Self { access, tracer, exporter, stop, tasks }))
    }

    /// Exports the finished registry's metrics from now on, if that is wanted.
    pub fn export(&self, registry: Arc<Registry>, runtime: &Handle) {
        if let Some(exporter) = &self.exporter {
            let task = Arc::clone(exporter).export_metrics(registry, self.stop.clone());
            drop(self.tasks.spawn_on(task, runtime));
        }
    }

    /// Itself, if anybody wants to know of requests: with nobody, the gateway does not even gather what to tell.
    pub fn observer(self: &Arc<Self>) -> Option<Arc<dyn Observer>> {
        (self.access.is_some() || self.tracer.is_some()).then(|| Arc::clone(self) as Arc<dyn Observer>)
    }

    /// Opens the access log's file again, after a rotation.
    pub fn reopen(&self) {
        if let Some(access) = &self.access {
            access.reopen();
        }
    }

    /// Writes and sends what waits, for at most `deadline` each; answers whether all was done. Call it when no request
    /// is left.
    pub async fn stop(self: Arc<Self>, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let sent = timeout(deadline, self.tasks.wait()).await.is_ok();
        // the wait blocks, so it is done on a thread for such things
        let access = Arc::clone(&self);
        let written = tokio::task::spawn_blocking(move || access.access.as_ref().is_none_or(|log| log.stop(deadline)));
        sent & written.await.unwrap_or(false)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Observer for Telemetry {
    fn begin(&self, caller: Option<TraceContext>) -> Option<RequestTrace> {
        self.tracer.as_ref()?.begin(caller)
    }

    fn span_id(&self) -> Option<SpanId> {
        self.tracer.as_ref()?.span_id()
    }

    fn finished(&self, request: Finished) {
        let request = Arc::new(request);
        if let Some(tracer) = &self.tracer {
            tracer.tell(&request);
        }
        if let Some(access) = &self.access {
            access.tell(&request);
        }
    }
}
