//! Notices to PagerDuty by its Events API v2 (developer.pagerduty.com, "Events API v2: Overview", "Send an alert
//! event"; schema in PagerDuty/api-schema, `reference/events-v2/openapiv3.json`).
//!
//! One run of a rotation is one alert: what is told about it later joins it by `dedup_key`, and the run's end resolves
//! it. The age of a credential's secret is one alert too, which a new secret resolves.
//!
//! Invariant: the routing key is sent in the body alone and read from its file each time.

use http::Method;
use kh_core::port::{BoxFuture, Notice, Urgency};
use kh_net::http::{HttpClient, OutBody, Request};
use serde::Serialize;
use url::Url;

use super::{AGE, COMPLETED, Channel, is_over, text};
use crate::{
    PlaceError, SecretFile, SendError,
    hook::rfc3339,
    http::{exchange, judge},
    place,
};

/// Longest `payload.summary`, in characters.
const SUMMARY_MAX: usize = 1024;

/// Where an account lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PagerDutyRegion {
    /// The default service region.
    Us,
    /// The European one.
    Eu,
    /// Another address, such as a relay's.
    At(String),
}

/// A PagerDuty service.
#[derive(Debug)]
pub struct PagerDuty {
    name: String,
    threshold: Urgency,
    enqueue: Url,
    source: String,
    routing_key: SecretFile,
    client: HttpClient,
}

#[derive(Serialize)]
struct Event<'a> {
    routing_key: &'a str,
    #[serde(rename = "event_action")]
    action: &'static str,
    dedup_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
    client: &'static str,
}

#[derive(Serialize)]
struct Payload<'a> {
    summary: String,
    source: &'a str,
    severity: &'static str,
    timestamp: String,
    class: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<&'a str>,
    custom_details: std::collections::BTreeMap<&'static str, String>,
}

impl PagerDuty {
    /// The service of the integration whose key is in the file `routing_key`; `source` names this keyholder.
    pub fn new(
        name: impl Into<String>,
        threshold: Urgency,
        region: &PagerDutyRegion,
        source: impl Into<String>,
        routing_key: SecretFile,
        client: HttpClient,
    ) -> Result<Self, PlaceError> {
        let enqueue = match region {
            PagerDutyRegion::Us => place::checked("https://events.pagerduty.com/v2/enqueue"),
            PagerDutyRegion::Eu => place::checked("https://events.eu.pagerduty.com/v2/enqueue"),
            PagerDutyRegion::At(address) => place::checked(address),
        }?;
        Ok(Self { name: name.into(), threshold, enqueue, source: source.into(), routing_key, client })
    }

    fn payload<'a>(&'a self, notice: &'a Notice) -> Payload<'a> {
        Payload {
            summary: text::sentence(&notice.summary, SUMMARY_MAX),
            source: &self.source,
            severity: text::urgency(notice.urgency),
            timestamp: rfc3339(notice.at),
            class: &notice.kind,
            component: notice.credential.as_ref().map(kh_core::CredentialName::as_str),
            custom_details: text::facts(notice).into_iter().collect(),
        }
    }
}

impl Channel for PagerDuty {
    fn name(&self) -> &str {
        &self.name
    }

    fn threshold(&self) -> Urgency {
        self.threshold
    }

    fn wants(&self, notice: &Notice) -> bool {
        notice.urgency >= self.threshold || is_over(notice)
    }

    /// 202 accepted; 400 is final, 429 and 5xx pass ("API Response Codes & Retry Logic"). To resolve an alert that is
    /// not there does nothing.
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let key = self.routing_key.read().await?;
            let resolves = is_over(notice);
            for alert in dedup_keys(notice) {
                let event = Event {
                    routing_key: key.expose(),
                    action: if resolves { "resolve" } else { "trigger" },
                    dedup_key: &alert,
                    payload: (!resolves).then(|| self.payload(notice)),
                    client: "keyholder",
                };
                let request =
                    Request::new(Method::POST, self.enqueue.clone()).body(OutBody::json(&event)).ignore_body();
                judge("PagerDuty", &exchange(&self.client, request).await?)?;
            }
            Ok(())
        })
    }
}

/// The alerts that a notice is about. At most 255 characters each; a run's id has 36, a credential's name 64.
fn dedup_keys(notice: &Notice) -> Vec<String> {
    let of_age = notice.credential.as_ref().map(|credential| format!("keyholder/age/{credential}"));
    match (notice.kind.as_str(), of_age, notice.run) {
        (AGE, Some(age), _) => vec![age],
        (COMPLETED, Some(age), Some(run)) => vec![format!("keyholder/run/{run}"), age],
        (_, _, Some(run)) => vec![format!("keyholder/run/{run}")],
        (_, _, None) => vec![format!("keyholder/notice/{}", notice.id)],
    }
}
