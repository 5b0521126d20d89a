//! The admin listener: what is open on loopback, what needs the token.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{body::Body, http::Request};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use kh_admin::{Peer, Pulse, ReadyCheck};
use kh_core::{Code, port::BoxFuture};

use crate::rig::{Mood, Probes, Surface, start};

/// Does not work; whether keyholder serves as well without it.
struct Broken(bool);

impl ReadyCheck for Broken {
    fn name(&self) -> &'static str {
        "store"
    }

    fn is_advisory(&self) -> bool {
        self.0
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Code>> {
        Box::pin(async { Err(Code::STORE_UNAVAILABLE) })
    }
}

#[tokio::test]
async fn health_and_metrics_are_open_here() {
    let rig = start(Surface::Admin(Probes::default())).await;
    let reply = rig.send("GET /livez", "", "").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok\n"));
    let reply = rig.send("GET /metrics", "", "").await;
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((reply.status, reply.header("content-type")), (200, Some(media)));
    assert!(reply.body.contains("keyholder_test_total 7\n") && reply.body.ends_with("# EOF\n"), "{}", reply.body);
    let reply = rig.send("GET /readyz", "", "").await;
    assert_eq!((reply.status, &reply.json()["ready"]), (200, &true.into()));
}

#[tokio::test]
async fn readiness_says_what_is_wrong() {
    let rig = start(Surface::Admin(Probes { checks: vec![Arc::new(Broken(false))], ..Probes::default() })).await;
    let reply = rig.send("GET /readyz", "", "").await;
    assert_eq!(reply.status, 503);
    let store = serde_json::json!([{"name": "store", "ready": false, "code": "keyholder.store.unavailable"}]);
    assert_eq!(reply.json()["checks"], store);
    assert_eq!(reply.json()["credentials"][0], serde_json::json!({"name": "acme", "ready": true}));
}

#[tokio::test]
async fn what_keyholder_serves_as_well_without_is_told_and_makes_nothing_unready() {
    let rig = start(Surface::Admin(Probes { checks: vec![Arc::new(Broken(true))], ..Probes::default() })).await;
    let reply = rig.send("GET /readyz", "", "").await;
    assert_eq!((reply.status, &reply.json()["ready"]), (200, &true.into()));
    let told = serde_json::json!([
        {"name": "store", "ready": false, "code": "keyholder.store.unavailable", "advisory": true}
    ]);
    assert_eq!(reply.json()["checks"], told);
}

/// Stands still for the first looks.
struct Waking(AtomicU32);

impl Pulse for Waking {
    fn name(&self) -> String {
        "gateway worker 1".to_owned()
    }

    fn beats(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == 0
    }
}

#[tokio::test]
async fn liveness_names_what_stands_still() {
    let pulses: Vec<Arc<dyn Pulse>> = vec![Arc::new(Waking(AtomicU32::new(u32::MAX)))];
    let rig = start(Surface::Admin(Probes { pulses, ..Probes::default() })).await;
    let reply = rig.send("GET /livez", "", "").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json(), serde_json::json!({"live": false, "stalled": ["gateway worker 1"]}));
}

#[tokio::test]
async fn a_part_that_wakes_up_while_it_is_looked_at_is_alive() {
    let pulses: Vec<Arc<dyn Pulse>> = vec![Arc::new(Waking(AtomicU32::new(3)))];
    let rig = start(Surface::Admin(Probes { pulses, ..Probes::default() })).await;
    assert_eq!(rig.send("GET /livez", "", "").await.status, 200);
}

#[tokio::test]
async fn a_stop_signal_makes_it_not_ready_and_leaves_it_alive() {
    let probes = Probes::default();
    let draining = probes.draining.clone();
    let rig = start(Surface::Admin(probes)).await;
    assert_eq!(rig.send("GET /readyz", "", "").await.status, 200);
    draining.cancel();
    let reply = rig.send("GET /readyz", "", "").await;
    assert_eq!((reply.status, &reply.json()["draining"]), (503, &true.into()));
    assert_eq!(rig.send("GET /livez", "", "").await.status, 200);
}

#[tokio::test]
async fn one_bad_credential_takes_nobody_else_out_of_the_balancer() {
    let rig = start(Surface::Admin(Probes::default())).await;
    let broker = &rig.broker;
    let lease = |name: &str| {
        let credential = broker.credential(&name.parse().unwrap()).unwrap();
        async move { credential.lease(std::time::Duration::ZERO).await.is_ok() }
    };
    assert!(lease("acme").await);
    rig.platform.set(Mood::Reject);
    assert!(!lease("team/acme.eu").await);
    let reply = rig.send("GET /readyz", "", "").await;
    let of = |name: &str| {
        let body = reply.json();
        body["credentials"].as_array().unwrap().iter().find(|found| found["name"] == name).unwrap().clone()
    };
    assert_eq!((reply.status, &of("acme")["ready"]), (200, &true.into()));
    assert_eq!(of("team/acme.eu")["code"], "keyholder.credential.rejected");
    for (query, status) in [
        ("credential=acme", 200),
        ("credential=team%2Facme.eu", 503),
        ("credential=team/acme.eu", 503),
        ("credential=unknown", 404),
        ("credential=", 404),
        ("credential=acme&credential=acme", 400),
        ("verbose", 400),
    ] {
        assert_eq!(rig.send(&format!("GET /readyz?{query}"), "", "").await.status, status, "{query}");
    }
}

#[tokio::test]
async fn when_the_platform_refuses_every_credential_nobody_is_sent_here() {
    let rig = start(Surface::Admin(Probes::default())).await;
    rig.platform.set(Mood::Reject);
    let names: Vec<_> = rig.broker.status().into_iter().map(|status| status.name).collect();
    rig.broker.apply(
        names
            .iter()
            .filter(|name| name.as_str() != "nosecret")
            .map(|name| rig.broker.credential(name).unwrap().spec().clone())
            .collect(),
    );
    for name in names.iter().filter(|name| name.as_str() != "nosecret") {
        assert_eq!(rig.send("GET /readyz", "", "").await.status, 200, "{name} is not known to be bad yet");
        rig.broker.credential(name).unwrap().lease(std::time::Duration::ZERO).await.unwrap_err();
    }
    assert_eq!(rig.send("GET /readyz", "", "").await.status, 503);
}

#[tokio::test]
async fn everything_else_needs_the_token() {
    let rig = start(Surface::Admin(Probes::default())).await;
    for headers in [String::new(), "Authorization: Bearer x\r\n".to_owned(), format!("{}{}", rig.bearer(), rig.guard())]
    {
        for line in ["GET /v1/status", "GET /unknown", "POST /livezz"] {
            let reply = rig.send(line, &headers, "").await;
            assert_eq!((reply.status, reply.code().as_str()), (403, "keyholder.guard.refused"), "{line}");
        }
    }
    for headers in [rig.bearer(), rig.guard()] {
        let reply = rig.send("GET /v1/status", &headers, "").await;
        assert_eq!(reply.status, 200);
        let status = reply.json();
        assert_eq!(status["version"], "0.1.0");
        assert_eq!(status["credentials"][0]["name"], "acme");
        assert!(!reply.body.contains("MARKED-SECRET"));
    }
    assert_eq!(rig.send("GET /unknown", &rig.bearer(), "").await.code(), "keyholder.not_found");
    assert_eq!(rig.send("POST /livez", "", "").await.code(), "keyholder.method.not_allowed");
}

#[tokio::test]
async fn hostile_requests_are_refused_here_too() {
    let rig = start(Surface::Admin(Probes::default())).await;
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "X-Forwarded-For: 1.2.3.4"] {
        assert_eq!(rig.send("GET /metrics", &format!("{header}\r\n"), "").await.status, 400, "{header}");
    }
    let rebound = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(rig.raw(rebound.as_bytes()).await.unwrap().status, 400);
}

#[tokio::test]
async fn an_unknown_peer_counts_as_far_away() {
    let rig = start(Surface::Admin(Probes::default())).await;
    let service = TowerToHyperService::new(rig.router.clone());
    let ask = |peer: Option<Peer>| {
        let mut request = Request::get("/metrics").header("host", "10.1.2.3").body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        service.call(request)
    };
    assert_eq!(ask(None).await.unwrap().status(), 403);
    assert_eq!(ask(Some(Peer::Tcp("10.1.2.3:1".parse().unwrap()))).await.unwrap().status(), 403);
    let near = ask(Some(Peer::Tcp("127.0.0.1:1".parse().unwrap()))).await.unwrap();
    assert_eq!(near.status(), 400, "a local peer has no business with that Host");
}
