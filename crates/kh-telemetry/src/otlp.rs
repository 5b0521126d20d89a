//! Export of spans and metrics over OTLP (HTTP with protobuf, OTLP specification 1.10).
//!
//! Invariants: a request only ever tries to put its span into a bounded queue; what does not fit, and what the collector
//! does not take after a few tries, is counted and dropped; the end of the process waits for the last export no longer
//! than it is told.

mod client;
mod metrics;
mod settings;
mod span;
mod text;

use std::{sync::Arc, time::Duration};

use kh_core::{
    Clock, Entropy, metric,
    port::observer::{Finished, RequestTrace},
    trace::{SpanId, TraceContext, TraceId},
};
use kh_net::Egress;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{client::Client, settings::nanos};
pub use self::{
    settings::{OtlpSettings, Ratio, SettingsError, parse_headers},
    text::{Family as MetricFamily, ParseError, Sample, parse as parse_text},
};

/// Finished requests that wait to be exported: some seconds of full load while the collector is slow.
const QUEUE: usize = 4_096;

/// Requests in one export; each gives two spans or a few more.
const BATCH: usize = 512;

/// Longest wait until a span is exported (the OpenTelemetry SDKs' own default).
const SPAN_DELAY: Duration = Duration::from_secs(5);

/// What happened to one signal's items and requests.
#[derive(Clone, Debug)]
pub(crate) struct SignalCounters {
    pub(crate) sent: Counter,
    pub(crate) dropped: Counter,
    pub(crate) failed: Counter,
    pub(crate) rejected: Counter,
    pub(crate) ok: Counter,
    pub(crate) error: Counter,
}

/// The counters of both signals.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    pub(crate) traces: SignalCounters,
    pub(crate) metrics: SignalCounters,
}

impl Counters {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        const ITEMS: &str = "keyholder_otlp_items";
        const REQUESTS: &str = "keyholder_otlp_requests";
        type Labels = [(&'static str, &'static str); 2];
        let (items, requests) = (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
        registry.register(ITEMS, metric::help(ITEMS), items.clone());
        registry.register(REQUESTS, metric::help(REQUESTS), requests.clone());
        let of = |signal| {
            let item = |result| items.get_or_create_owned(&[("signal", signal), ("result", result)]);
            let request = |result| requests.get_or_create_owned(&[("signal", signal), ("result", result)]);
            SignalCounters {
                sent: item("sent"),
                dropped: item("dropped"),
                failed: item("failed"),
                rejected: item("rejected"),
                ok: request("ok"),
                error: request("error"),
            }
        };
        Self { traces: of("traces"), metrics: of("metrics") }
    }
}

/// Decides which requests are traced, gives out ids, and takes finished requests.
pub(crate) struct Tracer {
    entropy: Arc<dyn Entropy>,
    ratio: Ratio,
    queue: mpsc::Sender<Arc<Finished>>,
    counters: SignalCounters,
}

impl Tracer {
    /// Parent-based: a caller's decision stands; a trace that begins here is sampled by ratio of its id.
    pub(crate) fn begin(&self, caller: Option<TraceContext>) -> Option<RequestTrace> {
        let span = self.span_id()?;
        let context = if let Some(caller) = caller {
            TraceContext { span, ..caller }
        } else {
            let mut bytes = [0; 16];
            self.entropy.fill(&mut bytes);
            let trace = TraceId::new(bytes)?;
            TraceContext { trace, span, sampled: self.ratio.samples(trace), random: true }
        };
        Some(RequestTrace { context, parent: caller.map(|caller| caller.span) })
    }

    pub(crate) fn span_id(&self) -> Option<SpanId> {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        SpanId::new(bytes)
    }

    /// A request is over. Never waits.
    pub(crate) fn tell(&self, request: &Arc<Finished>) {
        if request.trace.is_some_and(|trace| trace.context.sampled) && self.queue.try_send(Arc::clone(request)).is_err()
        {
            self.counters.dropped.inc_by(1 + request.attempts.len() as u64);
        }
    }
}

/// What an export works with.
pub(crate) struct Exporter {
    pub(crate) settings: OtlpSettings,
    pub(crate) client: Client,
    pub(crate) counters: Counters,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started_nanos: u64,
}

impl Exporter {
    pub(crate) fn new(
        settings: OtlpSettings,
        egress: Arc<Egress>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        counters: Counters,
    ) -> Self {
        let client = Client::new(&settings, egress, Arc::clone(&clock), entropy);
        let started_nanos = nanos(clock.now().wall);
        Self { settings, client, counters, clock, started_nanos }
    }

    /// The tracer and the task behind it, when traces are wanted.
    pub(crate) fn tracer(
        self: &Arc<Self>,
        entropy: Arc<dyn Entropy>,
        stop: CancellationToken,
    ) -> Option<(Tracer, impl Future<Output = ()> + Send + use<>)> {
        self.settings.traces_url.as_ref()?;
        let (queue, requests) = mpsc::channel(QUEUE);
        let counters = self.counters.traces.clone();
        let tracer = Tracer { entropy, ratio: self.settings.ratio, queue, counters };
        Some((tracer, Arc::clone(self).export_spans(requests, stop)))
    }

    async fn export_spans(self: Arc<Self>, mut requests: mpsc::Receiver<Arc<Finished>>, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let first = tokio::select! {
                first = requests.recv() => first,
                () = stop.cancelled() => break,
            };
            let Some(first) = first else { break };
            batch.push(first);
            let due = Instant::now() + self.settings.span_delay.unwrap_or(SPAN_DELAY);
            while batch.len() < BATCH {
                tokio::select! {
                    more = requests.recv() => match more {
                        Some(request) => batch.push(request),
                        None => break,
                    },
                    () = tokio::time::sleep_until(due) => break,
                    () = stop.cancelled() => break,
                }
            }
            self.send_spans(&mut batch).await;
        }
        // what was taken before the end is sent at the end
        requests.close();
        while let Some(request) = requests.recv().await {
            batch.push(request);
            if batch.len() == BATCH {
                self.send_spans(&mut batch).await;
            }
        }
        self.send_spans(&mut batch).await;
    }

    async fn send_spans(&self, batch: &mut Vec<Arc<Finished>>) {
        let Some(url) = self.settings.traces_url.as_ref().filter(|_| !batch.is_empty()) else { return };
        let (body, count) = span::request(&self.settings, batch);
        batch.clear();
        self.client.export::<span::Answer>(url, &body, count, &self.counters.traces).await;
    }

    /// Sends the registry's metrics again and again, and once more at the end.
    pub(crate) async fn export_metrics(self: Arc<Self>, registry: Arc<Registry>, stop: CancellationToken) {
        let Some(url) = self.settings.metrics_url.clone() else { return };
        loop {
            let over = tokio::select! {
                () = tokio::time::sleep(self.settings.metrics_interval) => false,
                () = stop.cancelled() => true,
            };
            let mut text = String::new();
            let families = match prometheus_client::encoding::text::encode(&mut text, &registry) {
                Ok(()) => text::parse(&text).unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            let now = nanos(self.clock.now().wall);
            let (body, count) = metrics::request(&self.settings, &families, self.started_nanos, now);
            self.client.export::<metrics::Answer>(&url, &body, count, &self.counters.metrics).await;
            if over {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
