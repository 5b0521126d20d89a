//! Ways to people by HTTP, against strict servers.
//!
//! Rules and their sources. PagerDuty (PagerDuty/api-schema, `reference/events-v2/openapiv3.json`): a routing key of 32
//! characters, `event_action` of three, `payload` with `summary` (1024), `source` and one of four severities for a
//! trigger, `dedup_key` of at most 255 and required to resolve, 202 or 400. Slack (docs.slack.dev, incoming webhooks):
//! a JSON object with `text`, `ok`, or 400 `invalid_payload`, 403 `invalid_token`, 404 `no_service`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use kh_core::port::{Notice, Urgency};
use kh_deliver::{Channel, PagerDuty, PagerDutyRegion, SendError, Slack, WebhookChannel};
use serde_json::json;

use crate::{
    rig::{Files, client, notice, place},
    server::{Received, Reply, Server},
};

const ROUTING_KEY: &str = "R0UT1NGKEYMARKED0123456789abcdef";

#[derive(Default)]
struct Alerts {
    open: BTreeMap<String, String>,
}

fn pagerduty(alerts: &mut Alerts, request: &Received) -> Reply {
    let invalid = |what: &str| {
        Reply::json(400, &json!({"status": "invalid event", "message": "Event object is invalid", "errors": [what]}))
    };
    if (request.method.as_str(), request.path.as_str()) != ("POST", "/v2/enqueue") {
        return Reply::new(404, "");
    }
    let event = request.json();
    if event["routing_key"] != ROUTING_KEY {
        return invalid("Length of 'routing_key' is incorrect (should be 32 characters)");
    }
    let Some(key) = event["dedup_key"].as_str().filter(|key| !key.is_empty() && key.chars().count() <= 255) else {
        return invalid("'dedup_key'");
    };
    match event["event_action"].as_str() {
        Some("trigger") => {
            let payload = &event["payload"];
            let text = |name: &str| payload[name].as_str().filter(|text| !text.is_empty());
            let severe = matches!(text("severity"), Some("critical" | "error" | "warning" | "info"));
            let summary = text("summary").filter(|summary| summary.chars().count() <= 1024);
            let Some(summary) = summary.filter(|_| severe && text("source").is_some()) else {
                return invalid("'payload'");
            };
            alerts.open.insert(key.to_owned(), summary.to_owned());
        }
        Some("resolve") => drop(alerts.open.remove(key)),
        Some("acknowledge") => {}
        _ => return invalid("'event_action'"),
    }
    Reply::json(202, &json!({"status": "success", "message": "Event processed", "dedup_key": key}))
}

/// A service of PagerDuty's, and the way to it.
struct Duty {
    files: Files,
    alerts: Arc<Mutex<Alerts>>,
    server: Server,
    channel: PagerDuty,
}

impl Duty {
    /// The way tells what is at least so urgent.
    async fn start(threshold: Urgency) -> Self {
        let files = Files::new();
        let key = files.write("key", ROUTING_KEY);
        let alerts = Arc::new(Mutex::new(Alerts::default()));
        let shared = Arc::clone(&alerts);
        let server = Server::start(move |request| pagerduty(&mut shared.lock().unwrap(), request)).await;
        let region = PagerDutyRegion::At(server.url("/v2/enqueue"));
        let channel = PagerDuty::new("pd", threshold, &region, "keyholder-1", key, client()).unwrap();
        Self { files, alerts, server, channel }
    }
}

#[tokio::test]
async fn pagerduty_opens_one_alert_per_run_and_closes_it() {
    let Duty { files, alerts, server, channel } = Duty::start(Urgency::Critical).await;
    let open = || alerts.lock().unwrap().open.clone();
    channel.send(&notice(1, Urgency::Critical)).await.unwrap();
    channel.send(&Notice { summary: "\u{e4}".repeat(3000), ..notice(2, Urgency::Critical) }).await.unwrap();
    assert_eq!(open().len(), 1, "both are of one run");
    let done = Notice { kind: "rotation.completed".to_owned(), ..notice(3, Urgency::Info) };
    assert!(channel.wants(&done), "below the threshold, and yet it has to know");
    assert!(!channel.wants(&notice(4, Urgency::Info)) && !channel.wants(&notice(4, Urgency::Warning)));
    channel.send(&done).await.unwrap();
    assert!(open().is_empty());
    let sent = server.received();
    assert_eq!(sent[0].json()["payload"]["custom_details"]["Next"], "keyholder rotate resume acme/prod");
    assert_eq!(sent[0].json()["payload"]["timestamp"], "2026-11-21T09:00:00Z");
    assert!(sent[2].json().get("payload").is_none());
    files.write("key", "too-short");
    let refusal = channel.send(&notice(5, Urgency::Critical)).await.unwrap_err();
    assert_eq!(refusal, SendError::Refused("PagerDuty answered 400".to_owned()));
}

#[tokio::test]
async fn pagerduty_closes_the_alert_of_an_old_secret_when_there_is_a_new_one() {
    let Duty { files: _files, alerts, server: _server, channel } = Duty::start(Urgency::Warning).await;
    let open = || alerts.lock().unwrap().open.keys().cloned().collect::<Vec<_>>();
    let of = |kind: &str, number, urgency| Notice { kind: kind.to_owned(), ..notice(number, urgency) };
    let age = |number, urgency| Notice { run: None, ..of("rotation.age", number, urgency) };
    channel.send(&age(1, Urgency::Warning)).await.unwrap();
    channel.send(&age(2, Urgency::Critical)).await.unwrap();
    assert_eq!(open(), ["keyholder/age/acme/prod"], "one for all of its ages");
    // the old secret stays, and gets no younger
    for (kind, number) in [("rotation.rolled_back", 3), ("rotation.aborted", 4), ("rotation.ended", 5)] {
        channel.send(&notice(number + 10, Urgency::Critical)).await.unwrap();
        assert_eq!(open().len(), 2);
        channel.send(&of(kind, number, Urgency::Warning)).await.unwrap();
        assert_eq!(open(), ["keyholder/age/acme/prod"], "{kind}");
    }
    let other = Notice { credential: Some("acme/test".parse().unwrap()), ..of("rotation.completed", 6, Urgency::Info) };
    channel.send(&other).await.unwrap();
    assert_eq!(open(), ["keyholder/age/acme/prod"], "another credential's");
    channel.send(&of("rotation.completed", 7, Urgency::Info)).await.unwrap();
    assert!(open().is_empty(), "{:?}", open());
}

fn slack(request: &Received) -> Reply {
    if request.path != "/services/T0/B0/MARKED" {
        return Reply::new(404, "no_service");
    }
    match serde_json::from_slice::<serde_json::Value>(&request.body) {
        Ok(body) if body["text"].as_str().is_some_and(|text| !text.is_empty()) => Reply::new(200, "ok"),
        _ => Reply::new(400, "invalid_payload"),
    }
}

#[tokio::test]
async fn slack_gets_escaped_text_at_its_secret_address() {
    let (files, server) = (Files::new(), Server::start(slack).await);
    let url = files.write("url", &server.url("/services/T0/B0/MARKED"));
    let channel = Slack::new("ops", Urgency::Info, url, client());
    channel.send(&notice(1, Urgency::Warning)).await.unwrap();
    let text = server.received()[0].json()["text"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("*warning*: The rotation of acme/prod &lt;waits&gt; for a decision &amp; stands still\n"),
        "{text}"
    );
    assert!(text.ends_with("Next: keyholder rotate resume acme/prod"), "{text}");
    let forged = Notice { summary: "a\nNext: <!channel> rm".to_owned(), ..notice(2, Urgency::Info) };
    channel.send(&forged).await.unwrap();
    let text = server.received()[1].json()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("*info*: a Next: &lt;!channel&gt; rm\n"), "no line and no mention is forged: {text}");
    files.write("url", &server.url("/services/T0/B0/OTHER"));
    let error = channel.send(&notice(3, Urgency::Info)).await.unwrap_err();
    assert_eq!(error, SendError::Refused("Slack answered 404".to_owned()));
    assert!(!format!("{channel:?}").contains("MARKED"));
}

#[tokio::test]
async fn the_webhook_signs_notices_with_their_own_id() {
    let files = Files::new();
    let keys = files.write("keys", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let server = Server::start(|_| Reply::new(200, "")).await;
    let channel = WebhookChannel::new("own", Urgency::Info, place(&server.url("/n")), keys, client());
    channel.send(&notice(7, Urgency::Warning)).await.unwrap();
    let request = server.received().remove(0);
    assert_eq!(request.header("webhook-id"), "00000000-0000-0000-0000-000000000007");
    assert!(request.header("webhook-signature").starts_with("v1,"));
    assert_eq!(request.json()["type"], "rotation.needs_operator");
    assert_eq!(request.json()["data"]["urgency"], "warning");
}

#[tokio::test]
async fn a_wish_for_later_is_passed_on() {
    let files = Files::new();
    let server = Server::start(|_| Reply::new(429, "").with("retry-after", "17")).await;
    let url = files.write("url", &server.url("/"));
    let error = Slack::new("ops", Urgency::Info, url, client()).send(&notice(1, Urgency::Info)).await.unwrap_err();
    let SendError::Transient { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!(retry_after, Some(std::time::Duration::from_secs(17)));
}
