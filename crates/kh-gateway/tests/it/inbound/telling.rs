//! What the security log, the observer and the metrics are told.

use kh_core::port::security::{AuthenticationEvent, Outcome, Presented, Told};
use kh_gateway::observe::{Finished, RequestTrace};

use super::*;
use crate::{http2::Caller, support::PATIENCE, tls::authority};

/// Keeps events, and wants to hear of nobody's success but these two's.
#[derive(Default)]
struct Journal(Mutex<Vec<AuthenticationEvent>>);

impl SecurityLog for Journal {
    fn record(&self, event: AuthenticationEvent) {
        self.0.lock().push(event);
    }

    fn wants_success(&self, issuer: &str, subject: &str, address: Option<std::net::IpAddr>, _now: Now) -> bool {
        issuer == ISSUER
            && ["bob", "j\u{f6}rg"].contains(&subject)
            && address.is_some_and(|address| address.is_loopback())
    }
}

#[tokio::test]
async fn the_security_log_hears_every_failure_and_a_success_that_is_news() {
    let upstream = echo().await;
    let journal = Arc::new(Journal::default());
    let (root, config) = authority(false);
    let mut setup = Setup::new(upstream.address);
    setup.config.tls = Some(config);
    setup.security.log = Some(journal.clone());
    let site = setup.start();
    let mut client = Caller::new(site.address, &root).client().await;
    for authorization in
        ["Bearer expired", "Basic x", "Bearer nothing", "Bearer reader", "Bearer writer", "Bearer umlaut", ""]
    {
        let request = Request::builder().uri(format!("https://{}/reports", site.address)).header("user-agent", "job/1");
        let request = if authorization.is_empty() { request } else { request.header("authorization", authorization) };
        drop(client.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap());
    }
    let events = journal.0.lock().clone();
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let subject = event.subject.as_ref().map(|subject| subject.as_str().to_owned());
            (event.outcome, event.presented, event.verified, subject, event.status)
        })
        .collect();
    let failure = |reason| Outcome::Failure { reason };
    assert_eq!(
        told,
        [
            (failure("expired"), Presented::Bearer, false, None, Some(401)),
            (failure("basic_refused"), Presented::Basic, false, None, Some(401)),
            (failure("insufficient_scope"), Presented::Bearer, true, Some("carol".to_owned()), Some(403)),
            (Outcome::Success, Presented::Bearer, true, Some("bob".to_owned()), None),
            // may call, and has a name that cannot stand in a header
            (failure("claim_unfit"), Presented::Bearer, true, Some("j\u{f6}rg".to_owned()), Some(401)),
            (failure("token_missing"), Presented::Nothing, false, None, Some(401)),
        ]
    );
    for event in &events {
        assert_eq!(event.route.as_ref().map(Told::as_str), Some("GET /reports"));
        assert_eq!(event.user_agent.as_ref().map(Told::as_str), Some("job/1"));
        assert_eq!(event.tls.map(|tls| tls.version), Some("1.3"));
        assert!(event.tls.is_some_and(|tls| tls.cipher.starts_with("TLS_")), "{event:?}");
        assert!(event.client_address.is_some_and(|address| address.ip.is_loopback()));
        assert_eq!(event.token.is_some(), event.presented == Presented::Bearer);
        assert!(!format!("{event:?}").contains("writer"), "no token is told: {event:?}");
    }
}

/// Sends on what it is told.
struct Recorder(tokio::sync::mpsc::UnboundedSender<Finished>);

impl Observer for Recorder {
    fn begin(&self, _caller: Option<kh_core::trace::TraceContext>) -> Option<RequestTrace> {
        None
    }

    fn span_id(&self) -> Option<kh_core::trace::SpanId> {
        None
    }

    fn finished(&self, request: Finished) {
        self.0.send(request).unwrap();
    }
}

#[tokio::test]
async fn the_access_log_knows_route_and_caller() {
    let upstream = echo().await;
    let (to, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut setup = Setup::new(upstream.address);
    setup.observer = Some(Arc::new(Recorder(to)));
    let site = setup.start();
    for (call, token, expected) in [
        ("GET /reports/7", "reader", (Some("GET /reports/{id}"), Some("reports-job"), None)),
        ("GET /reports/7", "expired", (Some("GET /reports/{id}"), None, Some("keyholder.inbound.token_invalid"))),
        ("GET /tenant", "reader", (Some("GET /tenant"), Some("reports-job"), Some("keyholder.inbound.not_allowed"))),
        ("GET /nowhere", "reader", (None, None, Some("keyholder.not_found"))),
    ] {
        site.call(call, token).await;
        let request = tokio::time::timeout(PATIENCE, told.recv()).await.expect("it is told").unwrap();
        let caller = request.caller.as_ref().map(Told::as_str);
        assert_eq!((request.route.as_deref(), caller, request.code.map(|code| code.0)), expected, "{call} {token}");
        assert_eq!(request.attempts.len(), usize::from(expected.2.is_none()));
    }
}

#[tokio::test]
async fn routes_and_reasons_are_counted() {
    let (_upstream, site) = site().await;
    for (call, token) in [
        ("GET /reports", "reader"),
        ("GET /reports", "writer"),
        ("GET /reports", "nothing"),
        ("GET /reports", "expired"),
        ("GET /health", ""),
        ("GET /nowhere", "reader"),
        ("DELETE /reports", "reader"),
    ] {
        site.call(call, token).await;
    }
    for (line, expected) in [
        (r#"keyholder_inbound_requests_total{site="api",route="GET /reports",status="2xx"}"#, 2),
        (r#"keyholder_inbound_requests_total{site="api",route="GET /reports",status="4xx"}"#, 2),
        (r#"keyholder_inbound_requests_total{site="api",route="GET /health",status="2xx"}"#, 1),
        (r#"keyholder_inbound_refusals_total{site="api",reason="insufficient_scope"}"#, 1),
        (r#"keyholder_inbound_refusals_total{site="api",reason="expired"}"#, 1),
        (r#"keyholder_inbound_refusals_total{site="api",reason="no_route"}"#, 1),
        (r#"keyholder_inbound_refusals_total{site="api",reason="method_not_allowed"}"#, 1),
        (r#"keyholder_gateway_requests_total{outcome="proxied",status="2xx"}"#, 3),
        (r#"keyholder_gateway_requests_total{outcome="refused",status="4xx"}"#, 4),
    ] {
        assert_eq!(site.metric(line), expected, "{line}");
    }
}
