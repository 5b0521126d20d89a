//! The signed webhook: tells a receiver of the operator's own that a secret was replaced.
//!
//! The form is Standard Webhooks 1.0.0: a POST of `{"type","timestamp","data"}` as JSON with the headers `webhook-id`,
//! `webhook-timestamp` and `webhook-signature`. The id is the delivery's and stays the same with every retry, so that a
//! receiver may drop one that it has seen; the time is that of the attempt.
//!
//! Invariant: what is sent is a [`Promotion`] or a [`kh_core::port::Notice`], which hold no secret.

use http::{HeaderName, HeaderValue, Method};
use kh_core::{
    UnixMillis,
    credential::CredentialDocument,
    port::{BoxFuture, DeliveryHook, HookError, Promotion},
};
use kh_net::http::{HttpClient, OutBody, Request};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    Place, SecretFile, SendError, SigningKeys,
    hook::rfc3339,
    http::{exchange, judge},
};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The type of a promotion's message.
const PROMOTED: &str = "secret.promoted";

/// A webhook as a delivery hook.
#[derive(Debug)]
pub struct Webhook {
    name: String,
    sender: Sender,
}

impl Webhook {
    /// The hook `name` that posts to `place`, signed by the keys in the file `keys`.
    pub fn new(name: impl Into<String>, place: Place, keys: SecretFile, client: HttpClient) -> Self {
        Self { name: name.into(), sender: Sender { place, keys, client } }
    }
}

impl DeliveryHook for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        format!("posts a signed message, without the secret, to {}", self.sender.place.told())
    }

    fn deliver<'a>(
        &'a self,
        promotion: &'a Promotion,
        _document: &'a CredentialDocument,
    ) -> BoxFuture<'a, Result<String, HookError>> {
        Box::pin(async move {
            let status = self.sender.send(promotion.delivery, PROMOTED, promotion.promoted_at, promotion).await?;
            Ok(format!("the receiver answered {status}"))
        })
    }
}

/// Signs and posts.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) place: Place,
    pub(crate) keys: SecretFile,
    pub(crate) client: HttpClient,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: &'a T,
}

impl Sender {
    /// Sends one message and gives back the status of the answer.
    pub(crate) async fn send<T: Serialize>(
        &self,
        id: uuid::Uuid,
        kind: &str,
        at: UnixMillis,
        data: &T,
    ) -> Result<u16, SendError> {
        let keys = self.keys.read().await?;
        let keys = SigningKeys::parse(&keys).map_err(|error| SendError::Refused(error.to_string()))?;
        let url = self.place.url().await.map_err(SendError::Refused)?;
        let payload = serde_json::to_vec(&Envelope { kind, timestamp: rfc3339(at), data })
            .map_err(|_| SendError::refused("the message cannot be written as JSON"))?;
        let (id, seconds) = (id.to_string(), self.client.clock().now().wall.as_secs());
        let signature = keys.sign(&id, seconds, &payload);
        let header = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| SendError::refused("the message's id does not fit a header"))
        };
        let request = Request::new(Method::POST, url)
            .header(ID, header(&id)?)
            .header(TIMESTAMP, HeaderValue::from(seconds))
            .header(SIGNATURE, header(&signature)?)
            .body(OutBody::new("application/json", Zeroizing::new(payload)))
            .ignore_body();
        let answer = exchange(&self.client, request).await?;
        judge("the receiver", &answer)?;
        Ok(answer.head.status)
    }
}
