//! Notices to a Slack channel by an incoming webhook (docs.slack.dev, "Sending messages using incoming webhooks").
//!
//! Invariant: the address is the secret here, so it lies in a file and is told nowhere; text of ours cannot mention
//! people or make links: `&`, `<` and `>` are escaped (docs.slack.dev, "Formatting message text").

use http::Method;
use kh_core::port::{BoxFuture, Notice, Urgency};
use kh_net::http::{HttpClient, OutBody, Request};
use serde_json::json;

use super::{Channel, text};
use crate::{
    Place, SecretFile, SendError,
    http::{exchange, judge},
};

/// A Slack channel.
#[derive(Debug)]
pub struct Slack {
    name: String,
    threshold: Urgency,
    place: Place,
    client: HttpClient,
}

impl Slack {
    /// Posts to the address in the file `url`.
    pub fn new(name: impl Into<String>, threshold: Urgency, url: SecretFile, client: HttpClient) -> Self {
        Self { name: name.into(), threshold, place: Place::Hidden(url), client }
    }
}

impl Channel for Slack {
    fn name(&self) -> &str {
        &self.name
    }

    fn threshold(&self) -> Urgency {
        self.threshold
    }

    /// 200 `ok`; 400, 403, 404 and 410 are final, 429 and 5xx pass (docs.slack.dev, incoming webhooks, "Handling
    /// errors").
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let url = self.place.url().await.map_err(SendError::Refused)?;
            let body = OutBody::json(&json!({ "text": message(notice) }));
            let request = Request::new(Method::POST, url).body(body).ignore_body();
            judge("Slack", &exchange(&self.client, request).await?)
        })
    }
}

fn message(notice: &Notice) -> String {
    let mut lines = vec![format!("*{}*: {}", text::urgency(notice.urgency), escaped(&text::summary(notice)))];
    lines.extend(text::facts(notice).iter().map(|(name, fact)| format!("{name}: {}", escaped(fact))));
    lines.join("\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
