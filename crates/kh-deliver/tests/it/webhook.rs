//! The signed webhook against a receiver that verifies as the standard says.

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use kh_core::port::DeliveryHook;
use kh_deliver::Webhook;

use crate::{
    rig::{Files, NOW, client, deliver, place, promotion, refused, transient},
    server::{Received, Reply, Server},
};

const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Verifies by the standard's text (spec/standard-webhooks.md, "Verifying webhook authenticity"), with code of its own:
/// the three headers, the time within five minutes, one of the signatures.
fn is_genuine(request: &Received, key: &str) -> bool {
    let (id, at) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let near = at.parse::<u64>().is_ok_and(|at| at.abs_diff(NOW.as_secs()) <= 300);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).unwrap());
    let message = [id.as_bytes(), b".", at.as_bytes(), b".", &request.body].concat();
    let signed = request.header("webhook-signature").split(' ').any(|one| {
        let signature = one.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        hmac::verify(&key, &message, &signature).is_ok()
    });
    !id.is_empty() && near && signed
}

#[tokio::test]
async fn a_promotion_arrives_signed_and_a_repetition_has_the_same_id() {
    let files = Files::new();
    let keys = files.write("keys", &format!("whsec_{KEY}\n"));
    let server = Server::start(|request| Reply::new(if is_genuine(request, KEY) { 204 } else { 401 }, "")).await;
    let hook = Webhook::new("crm", place(&server.url("/hooks/kh?tenant=1")), keys, client());
    assert_eq!(deliver(&hook).await.unwrap(), "the receiver answered 204");
    deliver(&hook).await.unwrap();
    let received = server.received();
    assert_eq!(received.len(), 2);
    for request in &received {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hooks/kh"));
        assert_eq!(request.query, "tenant=1");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("webhook-id"), promotion().delivery.to_string());
        let body = request.json();
        assert_eq!(body["type"], "secret.promoted");
        assert_eq!(body["timestamp"], "2026-11-21T09:00:00Z");
        assert_eq!(body["data"]["generation"], 4);
        assert_eq!(body["data"]["credential"], "acme/prod");
        assert_eq!(body["data"]["fingerprint"], "0123456789abcdef");
    }
    assert_eq!(hook.name(), "crm");
    assert_eq!(hook.describe(), format!("posts a signed message, without the secret, to http://{}", server.address));
}

#[tokio::test]
async fn the_keys_are_replaced_while_it_runs() {
    let (files, other) = (Files::new(), STANDARD.encode([9; 32]));
    let keys = files.write("keys", &format!("whsec_{KEY}\n"));
    let accepted = other.clone();
    let server =
        Server::start(move |request| Reply::new(if is_genuine(request, &accepted) { 200 } else { 401 }, "")).await;
    let hook = Webhook::new("crm", place(&server.url("/")), keys, client());
    assert_eq!(refused(deliver(&hook).await), "the receiver answered 401");
    files.write("keys", &format!("whsec_{other}\nwhsec_{KEY}\n"));
    deliver(&hook).await.unwrap();
}

#[tokio::test]
async fn what_an_answer_means() {
    let files = Files::new();
    let keys = files.write("keys", &format!("whsec_{KEY}"));
    let status = Arc::new(Mutex::new(0));
    let told = Arc::clone(&status);
    let server = Server::start(move |_| {
        Reply::new(*told.lock().unwrap(), "secret text").with("location", "http://127.0.0.1:9/elsewhere")
    })
    .await;
    let hook = Webhook::new("crm", place(&server.url("/")), keys, client());
    for (code, again) in [
        (301, false),
        (307, false),
        (400, false),
        (404, false),
        (410, false),
        (408, true),
        (425, true),
        (429, true),
        (500, true),
        (503, true),
    ] {
        *status.lock().unwrap() = code;
        let result = deliver(&hook).await;
        let reason = if again { transient(result) } else { refused(result) };
        assert_eq!(reason, format!("the receiver answered {code}"));
    }
    assert_eq!(server.received().len(), 10, "no redirect was followed and nothing was repeated");
}

#[tokio::test]
async fn the_length_of_an_answer_changes_nothing() {
    let files = Files::new();
    let keys = files.write("keys", &format!("whsec_{KEY}"));
    let status = Arc::new(Mutex::new(200));
    let told = Arc::clone(&status);
    let server = Server::start(move |_| Reply::new(*told.lock().unwrap(), "x".repeat(20_000))).await;
    let hook = Webhook::new("crm", place(&server.url("/")), keys, client());
    assert_eq!(deliver(&hook).await.unwrap(), "the receiver answered 200");
    assert_eq!(server.received().len(), 1);
    *status.lock().unwrap() = 410;
    assert_eq!(refused(deliver(&hook).await), "the receiver answered 410");
    *status.lock().unwrap() = 503;
    assert_eq!(transient(deliver(&hook).await), "the receiver answered 503");
}

#[tokio::test]
async fn without_a_receiver_or_a_key() {
    let files = Files::new();
    let keys = files.write("keys", &format!("whsec_{KEY}"));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hook = Webhook::new("crm", place(&format!("http://{gone}/path-secret")), keys, client());
    let reason = transient(deliver(&hook).await);
    assert!(!reason.contains("path-secret"), "{reason}");
    let server = Server::start(|_| Reply::new(200, "")).await;
    for (content, told) in
        [("", "it is empty"), ("whsec_short", "line 1 of the signing keys"), (&"x".repeat(20_000), "it is too long")]
    {
        let hook = Webhook::new("crm", place(&server.url("/")), files.write("bad", content), client());
        let reason = refused(deliver(&hook).await);
        assert!(reason.contains(told), "{reason}");
    }
    let missing = kh_deliver::SecretFile::new(files.path("none"));
    let hook = Webhook::new("crm", place(&server.url("/")), missing, client());
    assert!(refused(deliver(&hook).await).contains("cannot be read"));
    assert!(server.received().is_empty(), "nothing is sent unsigned");
}
