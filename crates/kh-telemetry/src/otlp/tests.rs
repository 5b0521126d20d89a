//! Export to a collector of this process, decoded with the official message types.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kh_core::{
    ManualClock, SeededEntropy, UnixMillis,
    port::observer::{Attempt, Ended},
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::ExportMetricsServiceRequest,
        trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{metric::Data, number_data_point},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use parking_lot::Mutex;
use prometheus_client::metrics::{gauge::Gauge, histogram::Histogram, info::Info};
use prost::Message;
use tokio::net::TcpListener;

use super::*;
use crate::spans;

/// What a collector answers to its n-th request: status and body.
type Answers = fn(usize) -> (u16, Vec<u8>);

/// A request as it came in: path, the value of `api-key`, body.
type Heard = (String, Option<String>, Bytes);

struct Collector {
    address: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Collector {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (heard, count) = (Arc::<Mutex<Vec<Heard>>>::default(), Arc::<AtomicUsize>::default());
        let made = Self { address, heard: Arc::clone(&heard) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, count) = (Arc::clone(&heard), Arc::clone(&count));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (heard, count) = (Arc::clone(&heard), Arc::clone(&count));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        assert_eq!(parts.headers["content-type"], "application/x-protobuf");
                        let key = parts.headers.get("api-key").map(|value| value.to_str().unwrap().to_owned());
                        heard.lock().push((parts.uri.path().to_owned(), key, body));
                        let (status, body) = answers(count.fetch_add(1, Ordering::SeqCst));
                        let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
                        Ok::<_, Infallible>(response.unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        made
    }

    fn spans(&self) -> Vec<Span> {
        let heard = self.heard.lock();
        let traces = heard.iter().filter(|(path, ..)| path == "/v1/traces");
        let requests = traces.map(|(.., body)| ExportTraceServiceRequest::decode(body.clone()).unwrap());
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|spans| spans.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

fn exporter(collector: &str, change: impl FnOnce(&mut OtlpSettings)) -> Arc<Exporter> {
    let mut settings = OtlpSettings::for_collector(collector).unwrap();
    settings.resource.push(("service.name".to_owned(), "keyholder".to_owned()));
    change(&mut settings);
    let clock = Arc::new(ManualClock::at(UnixMillis(1_790_000_000_000)));
    let counters = Counters::register(&mut Registry::default());
    let egress = Arc::new(Egress::trusting(&[]).unwrap());
    Arc::new(Exporter::new(settings, egress, clock, Arc::new(SeededEntropy::new(7)), counters))
}

fn finished(trace: Option<RequestTrace>) -> Finished {
    let attempt = |span: u64, status, error| Attempt {
        span: SpanId::new(span.to_be_bytes()),
        after: Duration::from_millis(1),
        took: Duration::from_millis(2),
        host: "api.example".into(),
        port: 443,
        secure: true,
        status,
        error,
    };
    Finished {
        began: UnixMillis(1_790_000_000_000),
        took: Duration::from_millis(10),
        head_took: Some(Duration::from_millis(5)),
        method: "GET".into(),
        path: Some("/api/v2/users/6c5f4b1e-customer".into()),
        http_version: "1.1",
        secure: false,
        peer: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        user_agent: Some("sdk/1".into()),
        status: Some(200),
        outcome: Some("proxied"),
        code: None,
        client: Some("0190a1b2-0000-7000-8000-000000000000".parse().unwrap()),
        client_name: Some("billing".parse().unwrap()),
        route: None,
        caller: None,
        credential: Some("acme".parse().unwrap()),
        correlation_id: Some("c-1".into()),
        bytes_in: 1,
        bytes_out: 2,
        ended: Ended::Complete,
        trace,
        attempts: vec![attempt(11, Some(401), None), attempt(12, None, Some("timeout")), attempt(13, Some(200), None)],
    }
}

fn attribute(of: &[KeyValue], key: &str) -> Option<String> {
    let value = of.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

const CALLER: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_request_becomes_a_server_span_with_a_client_span_per_attempt() {
    let collector = Collector::start(|_| (200, Vec::new())).await;
    let headers = kh_core::SecretString::new("api-key=k1".to_owned());
    let exporter = exporter(&collector.address, |settings| settings.headers = parse_headers(&headers).unwrap());
    let stop = CancellationToken::new();
    let (tracer, task) = exporter.tracer(Arc::new(SeededEntropy::new(1)), stop.clone()).unwrap();
    let task = tokio::spawn(task);
    let trace = tracer.begin(TraceContext::parse(CALLER)).unwrap();
    tracer.tell(&Arc::new(finished(Some(trace))));
    stop.cancel();
    task.await.unwrap();
    let spans = collector.spans();
    let [server, clients @ ..] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((server.name.as_str(), server.kind), ("GET /api/v2/users/{id}", SpanKind::Server.into()));
    let caller = TraceContext::parse(CALLER).unwrap();
    assert_eq!(server.trace_id, caller.trace.bytes());
    assert_eq!(server.parent_span_id, caller.span.bytes());
    assert_eq!(server.span_id, trace.context.span.bytes());
    assert_eq!(server.end_time_unix_nano - server.start_time_unix_nano, 10_000_000);
    assert_eq!((server.flags & 0x301, server.status.clone()), (0x301, None));
    assert_eq!(clients.len(), 3);
    for (index, client) in clients.iter().enumerate() {
        assert_eq!((client.name.as_str(), client.kind), ("GET", SpanKind::Client.into()));
        assert_eq!((&client.trace_id, &client.parent_span_id), (&server.trace_id, &server.span_id));
        assert_eq!(client.span_id, (11 + index as u64).to_be_bytes());
        let resend = attribute(&client.attributes, "http.request.resend_count");
        assert_eq!(resend, (index > 0).then(|| index.to_string()));
    }
    let errors: Vec<_> = clients.iter().map(|span| attribute(&span.attributes, "error.type")).collect();
    assert_eq!(errors, [Some("401".to_owned()), Some("timeout".to_owned()), None]);
    let failed: Vec<bool> = clients.iter().map(|span| span.status.is_some()).collect();
    assert_eq!(failed, [true, true, false]);
    // everything that is sent is in the catalogue, and nothing of the path's ids is sent
    for span in &spans {
        let kind = if span.kind == i32::from(SpanKind::Server) { spans::SERVER } else { spans::CLIENT };
        for attribute in &span.attributes {
            assert!(spans::has_attribute(kind, &attribute.key), "{} is not listed", attribute.key);
        }
    }
    let body = collector.heard.lock().first().cloned().unwrap();
    assert!(!String::from_utf8_lossy(&body.2).contains("customer") && body.1.as_deref() == Some("k1"));
    let counters = &exporter.counters.traces;
    assert_eq!((counters.sent.get(), counters.ok.get(), counters.dropped.get(), counters.failed.get()), (4, 1, 0, 0));
}

#[test]
fn failures_of_the_gateway_are_errors_and_refusals_are_not() {
    let trace = RequestTrace { context: TraceContext::parse(CALLER).unwrap(), parent: None };
    let settings = OtlpSettings::for_collector("http://127.0.0.1:1").unwrap();
    for (status, ended, code, is_error, kind) in [
        (Some(200), Ended::Complete, None, false, None),
        (Some(200), Ended::CallerGone, None, false, None),
        (Some(200), Ended::UpstreamBroke, None, true, Some("upstream_broke")),
        (Some(404), Ended::Complete, None, false, None),
        (Some(403), Ended::Complete, Some(kh_core::Code::CALL_NOT_ALLOWED), false, Some("keyholder.call.not_allowed")),
        (Some(503), Ended::Complete, None, true, Some("503")),
        (None, Ended::CallerGone, None, false, None),
    ] {
        let request = Finished { status, ended, code, attempts: Vec::new(), ..finished(Some(trace)) };
        let (body, count) = span::request(&settings, &[Arc::new(request)]);
        let decoded = ExportTraceServiceRequest::decode(body).unwrap();
        let span = &decoded.resource_spans[0].scope_spans[0].spans[0];
        let found = span.status.as_ref().map(|status| status.code) == Some(StatusCode::Error.into());
        assert_eq!((found, count), (is_error, 1), "{status:?} {ended:?}");
        assert_eq!(attribute(&span.attributes, "error.type").as_deref(), kind, "{status:?} {ended:?}");
    }
}

#[tokio::test]
async fn a_callers_decision_stands_and_new_traces_follow_the_ratio() {
    let exporter = exporter("http://127.0.0.1:1", |settings| settings.ratio = Ratio::new(0.5).unwrap());
    let (tracer, _task) = exporter.tracer(Arc::new(SeededEntropy::new(1)), CancellationToken::new()).unwrap();
    for sampled in [true, false] {
        let caller = TraceContext { sampled, ..TraceContext::parse(CALLER).unwrap() };
        let begun = tracer.begin(Some(caller)).unwrap();
        assert_eq!((begun.context.sampled, begun.context.trace), (sampled, caller.trace));
        assert!(begun.parent == Some(caller.span) && begun.context.span != caller.span);
    }
    let sampled = (0..1_000).filter(|_| tracer.begin(None).unwrap().context.sampled).count();
    assert!((400..600).contains(&sampled), "{sampled}");
}

/// Spans of what is not sampled go nowhere; what finds the queue full is counted and dropped, and nobody waits.
#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let exporter = exporter("http://127.0.0.1:1", |_| {});
    // the task is never run: nothing takes from the queue
    let (tracer, _task) = exporter.tracer(Arc::new(SeededEntropy::new(1)), CancellationToken::new()).unwrap();
    let caller = TraceContext::parse(CALLER).unwrap();
    let of = |sampled| Arc::new(finished(tracer.begin(Some(TraceContext { sampled, ..caller }))));
    for _ in 0..QUEUE {
        tracer.tell(&of(true));
        tracer.tell(&of(false));
    }
    assert_eq!(exporter.counters.traces.dropped.get(), 0);
    for _ in 0..10 {
        tracer.tell(&of(true));
        tracer.tell(&of(false));
    }
    assert_eq!(exporter.counters.traces.dropped.get(), 40, "a server span and three client spans each");
}

#[tokio::test(start_paused = true)]
async fn what_may_help_is_tried_again_and_what_cannot_is_not() {
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "no".to_owned() };
    assert_eq!(
        ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec(),
        REJECTS_ONE,
        "the constant is what a collector sends"
    );
    for (answers, sent, failed, rejected, requests) in [
        ((|_| (200, Vec::new())) as Answers, 4, 0, 0, 1),
        (|at| if at < 2 { (503, Vec::new()) } else { (200, Vec::new()) }, 4, 0, 0, 3),
        (|at| if at < 1 { (429, Vec::new()) } else { (200, Vec::new()) }, 4, 0, 0, 2),
        (|_| (503, Vec::new()), 0, 4, 0, 3),
        (|_| (400, Vec::new()), 0, 4, 0, 1),
        (|_| (302, Vec::new()), 0, 4, 0, 1),
        (|_| (200, REJECTS_ONE.to_vec()), 3, 0, 1, 1),
        (|_| (200, b"junk".to_vec()), 4, 0, 0, 1),
    ] {
        let collector = Collector::start(answers).await;
        let exporter = exporter(&collector.address, |_| {});
        let caller = TraceContext::parse(CALLER).unwrap();
        let trace = RequestTrace { context: caller, parent: None };
        exporter.send_spans(&mut vec![Arc::new(finished(Some(trace)))]).await;
        let counters = &exporter.counters.traces;
        let got = (counters.sent.get(), counters.failed.get(), counters.rejected.get());
        assert_eq!((got, collector.heard.lock().len()), ((sent, failed, rejected), requests));
    }
}

/// A partial success that rejects one span.
const REJECTS_ONE: &[u8] = &[10, 6, 8, 1, 18, 2, b'n', b'o'];

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_not_there_or_silent_costs_its_batch_alone() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    for (collector, requests) in [("http://127.0.0.1:1", 3), (address.as_str(), 3)] {
        let exporter = exporter(collector, |_| {});
        let trace = RequestTrace { context: TraceContext::parse(CALLER).unwrap(), parent: None };
        exporter.send_spans(&mut vec![Arc::new(finished(Some(trace)))]).await;
        let counters = &exporter.counters.traces;
        assert_eq!((counters.failed.get(), counters.error.get(), counters.sent.get()), (4, requests, 0), "{collector}");
    }
}

#[tokio::test]
async fn exported_metrics_are_the_scrape_number_by_number() {
    let collector = Collector::start(|_| (200, Vec::new())).await;
    let exporter = exporter(&collector.address, |_| {});
    let mut registry = Registry::default();
    let requests = Family::<[(&str, &str); 1], Counter>::default();
    registry.register("keyholder_gateway_requests", "Requests", requests.clone());
    requests.get_or_create(&[("outcome", "own")]).inc_by(3);
    requests.get_or_create(&[("outcome", "failed")]).inc_by(4);
    let gauge = Gauge::<i64>::default();
    registry.register("process_resident_memory_bytes", "Memory", gauge.clone());
    gauge.set(17);
    let histogram = Histogram::new([0.5, 1.0]);
    registry.register("keyholder_gateway_request_duration_seconds", "Time", histogram.clone());
    for seconds in [0.1, 0.7, 0.8, 30.0] {
        histogram.observe(seconds);
    }
    registry.register("keyholder_build", "Version", Info::new([("version", "1.2.3")]));
    let stop = CancellationToken::new();
    stop.cancel();
    Arc::clone(&exporter).export_metrics(Arc::new(registry), stop).await;
    let (path, _, body) = collector.heard.lock().first().cloned().unwrap();
    assert_eq!(path, "/v1/metrics");
    let decoded = ExportMetricsServiceRequest::decode(body).unwrap();
    let resource = decoded.resource_metrics[0].resource.as_ref().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("keyholder"));
    let metrics = &decoded.resource_metrics[0].scope_metrics[0].metrics;
    let data: Vec<_> = metrics.iter().map(|metric| (metric.unit.as_str(), metric.data.as_ref().unwrap())).collect();
    let [("", Data::Sum(sum)), ("By", Data::Gauge(gauge)), ("s", Data::Histogram(histogram)), ("", Data::Gauge(build))] =
        data.as_slice()
    else {
        panic!("{data:?}")
    };
    assert_eq!(metrics[3].name, "keyholder_build_info");
    assert_eq!(attribute(&build.data_points[0].attributes, "version").as_deref(), Some("1.2.3"));
    let mut values: Vec<_> = sum
        .data_points
        .iter()
        .map(|point| (attribute(&point.attributes, "outcome").unwrap(), point.value.unwrap()))
        .collect();
    values.sort_by(|a, b| a.0.cmp(&b.0));
    let number = number_data_point::Value::AsDouble;
    assert_eq!(values, [("failed".to_owned(), number(4.0)), ("own".to_owned(), number(3.0))]);
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    assert_eq!(gauge.data_points[0].value, Some(number(17.0)));
    let point = &histogram.data_points[0];
    assert_eq!((point.count, &point.bucket_counts, &point.explicit_bounds), (4, &vec![1, 2, 1], &vec![0.5, 1.0]));
    assert!(point.sum.is_some_and(|sum| (sum - 31.6).abs() < 1e-9));
    assert_eq!(exporter.counters.metrics.sent.get(), 5);
}
