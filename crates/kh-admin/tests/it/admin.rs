//! The admin listener: what is open on loopback, what needs the token.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use kh_admin::{Peer, ReadyCheck};
use kh_core::{Code, port::BoxFuture};

use crate::rig::{Surface, start};

struct Broken;

impl ReadyCheck for Broken {
    fn name(&self) -> &'static str {
        "store"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Code>> {
        Box::pin(async { Err(Code::STORE_UNAVAILABLE) })
    }
}

#[tokio::test]
async fn health_and_metrics_are_open_here() {
    let rig = start(Surface::Admin(Vec::new())).await;
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
    let rig = start(Surface::Admin(vec![Arc::new(Broken)])).await;
    let reply = rig.send("GET /readyz", "", "").await;
    assert_eq!(reply.status, 503);
    let store = serde_json::json!([{"name": "store", "ready": false, "code": "keyholder.store.unavailable"}]);
    assert_eq!(reply.json()["checks"], store);
    assert_eq!(reply.json()["credentials"][0], serde_json::json!({"name": "acme", "ready": true}));
}

#[tokio::test]
async fn everything_else_needs_the_token() {
    let rig = start(Surface::Admin(Vec::new())).await;
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
    let rig = start(Surface::Admin(Vec::new())).await;
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "X-Forwarded-For: 1.2.3.4"] {
        assert_eq!(rig.send("GET /metrics", &format!("{header}\r\n"), "").await.status, 400, "{header}");
    }
    let rebound = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(rig.raw(rebound.as_bytes()).await.unwrap().status, 400);
}

#[tokio::test]
async fn an_unknown_peer_counts_as_far_away() {
    let rig = start(Surface::Admin(Vec::new())).await;
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
