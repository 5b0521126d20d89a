//! What the listeners count of a request: the template of its route, and nothing that the caller chose.

use axum::{body::Body, http::Request};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use kh_admin::{LocalMetrics, Peer};
use prometheus_client::registry::Registry;

use crate::{
    api::operations,
    rig::{Probes, Rig, Surface, start},
};

/// The route that is counted for one request with the guard token.
async fn counted(rig: &Rig, listener: &'static str, line: &str) -> String {
    let mut registry = Registry::default();
    let router = LocalMetrics::register(&mut registry).count(rig.router.clone(), listener);
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    let mut request = request.header("x-keyholder-token", rig.token()).body(Body::empty()).unwrap();
    request.extensions_mut().insert(Peer::Tcp("127.0.0.1:1".parse().unwrap()));
    TowerToHyperService::new(router).call(request).await.unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let series: Vec<&str> = text.lines().filter(|line| line.starts_with("keyholder_local_requests_total{")).collect();
    assert_eq!(series.len(), 1, "{text}");
    let (_, rest) = series[0].split_once("route=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn each_operation_of_the_admin_api_is_counted_by_its_template() {
    let rig = start(Surface::Admin(Probes::default())).await;
    let all = operations();
    assert!(all.len() >= 9, "{all:?}");
    for (method, path, _) in all {
        let asked = path.replace("{client}", "somebody").replace("{session}", "0011223344556677");
        assert_eq!(counted(&rig, "admin", &format!("{method} {asked}")).await, path);
    }
    for (line, expected) in [
        ("GET /v1/openapi.json", "/v1/openapi.json"),
        ("GET /v1/status", "/v1/status"),
        ("GET /livez", "/livez"),
        // refused for its method, and still a request to this route
        ("POST /v1/clients/somebody", "/v1/clients/{client}"),
        ("GET /v1/clients/somebody/else/at/all", "other"),
        ("GET /v1/token/acme", "other"),
        ("GET /acme/api/v2/users", "other"),
        ("GET /", "other"),
    ] {
        assert_eq!(counted(&rig, "admin", line).await, expected, "{line}");
    }
}

#[tokio::test]
async fn each_route_of_the_broker_is_counted_by_its_template() {
    let rig = start(Surface::Broker).await;
    for (line, expected) in [
        ("GET /v1/token/acme", "/v1/token/{profile}"),
        ("GET /v1/token/nobody", "/v1/token/{profile}"),
        ("POST /v1/token/acme/invalidate", "/v1/token/{profile}/invalidate"),
        ("GET /v1/header/acme", "/v1/header/{profile}"),
        ("POST /v1/pickup", "/v1/pickup"),
        ("GET /healthz", "/healthz"),
        ("GET /readyz", "/readyz"),
        ("GET /acme/api/v2/users", "/{profile}/..."),
        ("GET /v1/token/", "other"),
        ("GET /v1/secret-name", "other"),
        ("GET /", "other"),
    ] {
        assert_eq!(counted(&rig, "broker", line).await, expected, "{line}");
    }
}
