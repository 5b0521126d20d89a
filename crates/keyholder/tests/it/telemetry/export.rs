//! Traces and metrics as a collector receives them from a real `keyholder serve`.

use std::{fs, os::unix::fs::PermissionsExt};

use kh_core::trace::TraceContext;
use kh_telemetry::otlp::parse_text;
use opentelemetry_proto::tonic::{
    metrics::v1::{metric::Data, number_data_point},
    trace::v1::{Span, span::SpanKind},
};

use super::{
    collector::{Collector, Mood, attribute},
    exercise, scrape, value,
};
use crate::harness::{Installation, Server, eventually, request};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn with(collector: &Collector, more: &str) -> Installation {
    let lines = format!("[telemetry]\notlp_endpoint = \"{}\"\n{more}", collector.url);
    Installation::with("", &lines)
}

fn traced_call(server: &Server, token: &str, path: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("traceparent", PARENT), ("tracestate", "vendor=1")];
    request("GET", &format!("{}{path}", server.gateway()), &headers, b"").status
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<Span> {
    spans.iter().filter(|span| span.kind == i32::from(kind)).cloned().collect()
}

#[test]
fn a_callers_trace_is_continued_and_metrics_are_those_of_the_scrape() {
    let collector = Collector::start(Mood::Friendly);
    let installation = with(&collector, "metrics_interval = \"1h\"\nheaders_file = \"otlp.headers\"\n");
    let headers = installation.path("otlp.headers");
    fs::write(&headers, "x-api-key=collector-key-0123456789\n").unwrap();
    fs::set_permissions(&headers, fs::Permissions::from_mode(0o600)).unwrap();
    let server = installation.serve();
    exercise(&installation, &server);
    let login = installation.add_client("traced", &["--credential", "genesys", "--allow-all"]);
    eventually(&200, || server.try_login(&login).status);
    let token = server.login(&login);
    assert_eq!(traced_call(&server, &token, "/api/v2/users/me-and-nobody-else?expand=secret-query"), 404);
    let before = scrape(&server);
    let (code, log) = server.process.stop();
    assert_eq!(code, Some(0), "{log}");

    let spans = collector.spans();
    let context = TraceContext::parse(PARENT.as_bytes()).unwrap();
    let ours: Vec<Span> = spans.iter().filter(|span| span.trace_id == context.trace.bytes()).cloned().collect();
    let (servers, clients) = (of_kind(&ours, SpanKind::Server), of_kind(&ours, SpanKind::Client));
    assert_eq!((servers.len(), clients.len()), (1, 1), "{ours:#?}");
    assert_eq!(servers[0].parent_span_id, context.span.bytes());
    assert_eq!(clients[0].parent_span_id, servers[0].span_id);
    assert_eq!(servers[0].name, "GET /api/v2/users/{id}");
    let of = |key: &str| attribute(&servers[0].attributes, key);
    assert_eq!(
        (of("http.response.status_code").as_deref(), of("keyholder.client.name").as_deref()),
        (Some("404"), Some("traced"))
    );
    assert_eq!(of("keyholder.credential.name").as_deref(), Some("genesys"));
    assert!(servers[0].end_time_unix_nano >= clients[0].end_time_unix_nano);
    // calls without a trace of their own got one each
    assert!(of_kind(&spans, SpanKind::Server).iter().any(|span| span.parent_span_id.is_empty()));
    // every span and attribute is documented
    let page = super::repository("docs/reference/spans.md");
    for attribute in spans.iter().flat_map(|span| &span.attributes) {
        assert!(page.contains(&format!("| `{}` |", attribute.key)), "{} is not in spans.md", attribute.key);
    }
    for raw in collector.raw() {
        let text = String::from_utf8_lossy(&raw);
        assert!(!text.contains("me-and-nobody-else") && !text.contains("secret-query"), "{text}");
    }
    assert!(collector.heads().iter().all(|head| head.contains("x-api-key: collector-key-0123456789")));
    assert!(!log.contains("collector-key"), "{log}");

    // the last export is made at the end: counters that nothing moved since are equal number by number
    let metrics = collector.metrics();
    let families = parse_text(&before).unwrap();
    assert_eq!(metrics.len(), families.len());
    let sum = |name: &str| {
        let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
        let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        let values = sum.data_points.iter().filter_map(|point| match point.value {
            Some(number_data_point::Value::AsDouble(value)) => Some(value),
            _ => None,
        });
        values.sum::<f64>()
    };
    for name in
        ["keyholder_gateway_requests", "keyholder_issuer_logins", "keyholder_token_fetches", "keyholder_audit_entries"]
    {
        let scraped = families.iter().find(|family| family.name == name).unwrap();
        let expected: f64 = scraped.samples.iter().map(|sample| sample.value).sum();
        assert!((sum(name) - expected).abs() < 1e-9, "{name}: {} and {expected}", sum(name));
    }
}

#[test]
fn a_collector_in_trouble_costs_no_request() {
    let nobody = Collector::start(Mood::Friendly);
    for (collector, url) in [
        (Collector::start(Mood::Overloaded), None),
        (Collector::start(Mood::Silent), None),
        (nobody, Some("http://127.0.0.1:1")),
    ] {
        let endpoint = url.unwrap_or(&collector.url).to_owned();
        let lines = format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\nmetrics_interval = \"5s\"\n");
        let installation = Installation::with("", &lines);
        let server = installation.serve();
        let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
        eventually(&200, || server.try_login(&login).status);
        let token = server.login(&login);
        for _ in 0..50 {
            assert_eq!(server.call(&token, "GET", "/api/v2/users").status, 200);
        }
        if url.is_some() || collector.url == endpoint && !collector.heads().is_empty() {
            eventually(&true, || {
                value(&scrape(&server), r#"keyholder_otlp_requests_total{signal="traces",result="error"}"#) >= 1.0
            });
        }
        let (code, log) = server.process.stop();
        assert_eq!(code, Some(0), "{log}");
    }
}
